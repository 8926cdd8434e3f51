"""Value-weighted norms: how much of each source token attention really moves into a target token.

    T_i(x_j) = sum_h A_h[i, j] v_{h, j} W_O       norm(i, j) = || T_i(x_j) + [i = j] resid_pre_i ||

Source: Kobayashi et al. 2020 (attention), 2021 (with the residual connection). Cost: one forward pass; memory
batch x pos x pos x d_model for one layer. Law: sum_j T_i(x_j) + b_O = what attention adds to the stream (law 51).
Known failure: a long vector may point where nobody reads.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from einops import einsum, repeat
from jaxtyping import Float
from torch import Tensor

from llmtrace.influence.scores import TokenInfluence
from llmtrace.models import TraceModel, attention_weights, describe, provenance, require_additive
from llmtrace.nodes import Head
from llmtrace.prompts import PromptSet, as_prompts
from llmtrace.signals import Trace, attention_pattern, capture, resid_pre, values


@torch.no_grad()
def value_weighted_norms(
    model: TraceModel, prompts: PromptSet | str | Sequence[str], *, layer: int = 0, residual: bool = True
) -> TokenInfluence:
    """[batch target source] L2 norms, in residual-stream units. `residual` adds the stream on the diagonal."""
    prompts = as_prompts(model, prompts)
    describe(model).require(Head(layer, 0))
    trace = capture(model, prompts, what=("pattern", "v", "resid_pre"), layers=[layer])
    moved = token_writes(model, trace, layer)
    if residual:
        moved.diagonal(dim1=1, dim2=2).add_(resid_pre(trace, layer).transpose(1, 2))
    return TokenInfluence(
        values=moved.norm(dim=-1), labels=trace.labels, lengths=trace.lengths, method="value_weighted_norms",
        layer=layer, rows_sum_to_one=False, provenance=provenance(model).as_dict(),
    )  # fmt: skip


def token_writes(model: TraceModel, trace: Trace, layer: int) -> Float[Tensor, "batch target source d_model"]:
    """T_i(x_j): what attention of a layer writes into target i from source j. Needs pattern and v in the trace."""
    arch = describe(model)
    require_additive(model, "Splitting attention by source token")
    W_O = attention_weights(model, layer).W_O
    v = repeat(values(trace, layer), "batch pos kv_head d_head -> batch pos (kv_head group) d_head", group=arch.group)
    written = einsum(v, W_O, "batch source head d_head, head d_head d_model -> batch source head d_model")
    pattern = attention_pattern(trace, layer)
    return einsum(
        pattern, written, "batch head target source, batch source head d_model -> batch target source d_model"
    )
