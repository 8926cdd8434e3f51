"""Value-weighted norms: how much of each source token attention really moves into a target token.

    T_i(x_j) = sum_h A_h[i, j] v_{h, j} W_O       norm(i, j) = || T_i(x_j) + [i = j] resid_pre_i ||

A norm needs no vector of the stream's width: with v_{h, j} W_O = R_j Q_j, the rows of Q_j orthonormal, it is that of
sum_h A_h[i, j] R_j[h], as long as there are heads.
Source: Kobayashi et al. 2020 (attention), 2021 (with the residual connection). Cost: one forward pass, and a QR of
[head d_model] per token; memory one layer's patterns and values. Law: sum_j T_i(x_j) + b_O = what attention adds to the
stream (law 51).
Sign: a length, never below 0.
Known failure: a long vector may point where nobody reads.

    >>> found = lt.influence.value_weighted_norms(model, prompts, residual=False)
    >>> found.labels[0][found.values[0, -1].argmax()]
    'Sam'
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from einops import einsum, rearrange
from jaxtyping import Float
from torch import Tensor

from llmtrace.influence.tokens.attention.pattern_batches import prompt_batches
from llmtrace.influence.tokens.attention.value_writes import value_writes
from llmtrace.influence.tokens.results.token_influence import TokenInfluence
from llmtrace.models import TraceModel, describe, require_additive
from llmtrace.models.memory import Memory
from llmtrace.progress import track
from llmtrace.prompts import PromptSet, as_prompts
from llmtrace.signals import Trace, attention_pattern, values
from llmtrace.signals.each_layer import Layer, each_layer

NORMS = "Splitting attention by source token"


@torch.no_grad()
def value_weighted_norms(
    model: TraceModel,
    prompts: PromptSet | str | Sequence[str],
    *,
    layer: int | None = None,
    residual: bool = True,
    memory: Memory = "auto",
) -> TokenInfluence:
    """[batch target source] L2 norms, in residual-stream units: of a layer, or the mean over all layers (then
    `per_layer` holds each). `residual` adds the stream on the diagonal."""
    prompts = as_prompts(model, prompts)
    chosen = None if layer is None else [describe(model).require_layer(layer)]
    require_additive(model, NORMS, reads=(), recomputes=("z",))
    found: list[Tensor] = []
    for chunk in track(prompt_batches(model, prompts, memory), "value_weighted_norms"):
        steps: list[Tensor] = []

        def measure(at: int, seen: Layer, steps: list[Tensor] = steps) -> None:
            stream = seen["resid_pre"] if residual else torch.zeros_like(seen["resid_pre"])
            steps.append(moved_norms(seen["pattern"], value_writes(model, at, seen["v"]), stream))

        each_layer(model, prompts.clean[chunk], ("pattern", "v", "resid_pre"), measure, chosen)
        found.append(torch.stack(steps))
    per_layer = torch.cat(found, 1)
    return TokenInfluence.of(
        model, prompts, per_layer.mean(0), "value_weighted_norms", layer=layer,
        per_layer=per_layer if layer is None else None,
    )  # fmt: skip


def moved_norms(
    pattern: Float[Tensor, "batch head target source"],
    written: Float[Tensor, "batch source head d_model"],
    stream: Float[Tensor, "batch target d_model"],
) -> Float[Tensor, "batch target source"]:
    """|| T_i(x_j) ||, `stream` added where i = j."""
    wide = torch.promote_types(written.dtype, torch.float32)  # half precision has no QR
    coordinates = torch.linalg.qr(written.mT.to(wide), mode="r").R.mT.to(written.dtype)  # batch source head rank
    looks = rearrange(pattern, "batch head target source -> batch source target head")
    norms = (looks @ coordinates).norm(dim=-1).mT.contiguous()
    own = einsum(
        pattern.diagonal(dim1=2, dim2=3), written, "batch head pos, batch pos head d_model -> batch pos d_model"
    )
    norms.diagonal(dim1=1, dim2=2).copy_((own + stream).norm(dim=-1))
    return norms


def token_writes(model: TraceModel, trace: Trace, layer: int) -> Float[Tensor, "batch target source d_model"]:
    """T_i(x_j): what attention of a layer writes into target i from source j. Needs pattern and v in the trace.

    Memory: batch x pos x pos x d_model, so for short prompts.
    """
    require_additive(model, NORMS, reads=(), recomputes=("z",))
    return einsum(
        attention_pattern(trace, layer), value_writes(model, layer, values(trace, layer)),
        "batch head target source, batch source head d_model -> batch target source d_model",
    )  # fmt: skip
