"""Loading models and everything that knows how TransformerLens keeps them. Only this room imports it."""

from llmtrace.models.additive import require_additive, require_readout
from llmtrace.models.architecture import Architecture, describe
from llmtrace.models.cache import as_cache
from llmtrace.models.live import require_live
from llmtrace.models.load import load
from llmtrace.models.names import embedded_names, known_names
from llmtrace.models.norm import Norm
from llmtrace.models.protocol import TraceModel
from llmtrace.models.provenance import Provenance, provenance
from llmtrace.models.run import (
    Hook,
    KeysValues,
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
    "Architecture", "AttentionWeights", "Hook", "KeysValues", "MlpWeights", "Norm", "Provenance", "Reader",
    "TraceModel", "as_cache", "attention_weights", "describe", "embedded_names", "final_norm", "final_residual",
    "head_readers", "is_bridge", "known_names", "load", "logits", "mlp_norm", "mlp_readers", "mlp_weights",
    "provenance", "require_additive", "require_live", "require_readout", "resume", "run_and_keep", "run_mlp",
    "token_labels", "unembed", "unembed_normed",
]  # fmt: skip
