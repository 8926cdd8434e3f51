"""Loading models and everything that knows how TransformerLens keeps them. Only this room imports it."""

from llmtrace.models.additive import require_additive, require_neurons, require_readout
from llmtrace.models.architecture import Architecture, describe
from llmtrace.models.attend import attend, require_separate_heads
from llmtrace.models.backward import RULES, BackwardRule, backward_rule
from llmtrace.models.cache import as_cache
from llmtrace.models.components import head_results, heads_received, kv_heads, project, through_output
from llmtrace.models.decode import greedy
from llmtrace.models.live import require_live
from llmtrace.models.load import load
from llmtrace.models.names import embedded_names, known_names
from llmtrace.models.neurons import neuron_results, parts_of_neurons, sum_of_neurons
from llmtrace.models.norm import Norm
from llmtrace.models.protocol import TraceModel
from llmtrace.models.provenance import Provenance, provenance
from llmtrace.models.run import (
    Hook,
    KeysValues,
    can_skip_positions,
    embedding,
    final_residual,
    is_bridge,
    logits,
    resume,
    run_and_keep,
    unembed,
    unembed_normed,
)
from llmtrace.models.text import token_labels
from llmtrace.models.weights import (
    AttentionWeights,
    MlpWeights,
    Reader,
    attention_weights,
    final_norm,
    head_readers,
    mlp_norm,
    mlp_readers,
    mlp_weights,
    run_mlp,
)

__all__ = [
    "RULES", "Architecture", "AttentionWeights", "BackwardRule", "Hook", "KeysValues", "MlpWeights", "Norm",
    "Provenance", "Reader", "TraceModel", "as_cache", "attend", "attention_weights", "backward_rule",
    "can_skip_positions", "describe", "embedded_names", "embedding", "final_norm", "final_residual", "greedy",
    "head_readers", "head_results", "heads_received", "is_bridge", "known_names", "kv_heads", "load", "logits",
    "mlp_norm", "mlp_readers", "mlp_weights", "neuron_results", "parts_of_neurons", "project", "provenance",
    "require_additive", "require_live", "require_neurons", "require_readout", "require_separate_heads", "resume",
    "run_and_keep", "run_mlp", "sum_of_neurons", "through_output", "token_labels", "unembed", "unembed_normed",
]  # fmt: skip
