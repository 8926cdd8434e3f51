"""Loading models and everything that knows how TransformerLens keeps them. Only this room imports it."""

from typing import TYPE_CHECKING

from llmtrace.rooms import open_room

if TYPE_CHECKING:
    from llmtrace.models.activation_cache import as_cache as as_cache
    from llmtrace.models.architecture import Architecture as Architecture, describe as describe
    from llmtrace.models.components.attention import attend as attend, require_separate_heads as require_separate_heads
    from llmtrace.models.components.backward_rules import (
        RULES as RULES,
        BackwardRule as BackwardRule,
        backward_rule as backward_rule,
    )
    from llmtrace.models.components.heads import (
        head_mixtures as head_mixtures,
        heads_received as heads_received,
        kv_heads as kv_heads,
        project as project,
        sum_through_output as sum_through_output,
        through_output as through_output,
    )
    from llmtrace.models.components.mlp_neurons import (
        neuron_results as neuron_results,
        parts_of_neurons as parts_of_neurons,
        sum_of_neurons as sum_of_neurons,
    )
    from llmtrace.models.components.norm import Norm as Norm
    from llmtrace.models.components.weights import (
        AttentionWeights as AttentionWeights,
        MlpWeights as MlpWeights,
        Reader as Reader,
        attention_weights as attention_weights,
        final_norm as final_norm,
        head_readers as head_readers,
        mlp_norm as mlp_norm,
        mlp_readers as mlp_readers,
        mlp_weights as mlp_weights,
        run_mlp as run_mlp,
    )
    from llmtrace.models.forward import (
        Hook as Hook,
        KeysValues as KeysValues,
        can_skip_positions as can_skip_positions,
        embedding as embedding,
        final_residual as final_residual,
        is_bridge as is_bridge,
        logits as logits,
        looks_back_only as looks_back_only,
        resume as resume,
        run_and_keep as run_and_keep,
        unembed as unembed,
        unembed_normed as unembed_normed,
    )
    from llmtrace.models.greedy import greedy as greedy
    from llmtrace.models.loading.load import load as load
    from llmtrace.models.loading.model_names import embedded_names as embedded_names, known_names as known_names
    from llmtrace.models.probes.additivity import (
        require_additive as require_additive,
        require_neurons as require_neurons,
        require_one_mlp as require_one_mlp,
        require_readout as require_readout,
    )
    from llmtrace.models.probes.liveness import require_live as require_live, require_live_hooks as require_live_hooks
    from llmtrace.models.protocol import TraceModel as TraceModel
    from llmtrace.models.provenance import Provenance as Provenance, provenance as provenance, taken_from as taken_from
    from llmtrace.models.state import ModelState as ModelState
    from llmtrace.models.tokenizers import token_labels as token_labels
    from llmtrace.models.user_hooks import (
        UserHook as UserHook,
        require_no_hooks as require_no_hooks,
        user_hooks as user_hooks,
    )

open_room(__name__)
