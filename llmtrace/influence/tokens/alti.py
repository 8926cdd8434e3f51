"""ALTI: how much of what leaves attention at a position came from each token, multiplied through the layers.

    y_i  = x_i + attention_i = sum_j T_i(x_j) + b_O       T_i(x_j): the write of source j, x_i itself added for j = i
    c_ij = max(0, |y_i|_1 - |y_i - T_i(x_j)|_1) / sum_k (the same of k)
    ALTI = c^L ... c^2 c^1

The blocks are pre-norm, so T is what source j writes into the residual stream (the paper's models norm after the
sum, and its T carries that norm's scale); b_O is nobody's, and the normalisation hands it out. Where no part points
along y_i at all, i keeps to itself. MLPs work on a position alone, so they move nothing between tokens.
Source: Ferrando et al. 2022. Cost: 1 F, and 2 head key query d_model operations a layer for the distances; at 1,024
tokens of GPT-2 small's shape about twice a pass more. Memory: one layer's patterns and values, and [layer query key].
Sign: a share, from 0 to 1. Laws: rows sum to one, nothing comes from later tokens (law 50).
Known failure: a share is of the size of the stream, not of what is read from it, and a position's own stream is most of
that. The L1 norm depends on the basis, so processed weights (centred writes) have other shares.

    >>> found = lt.influence.alti(model, prompts)
    >>> found.labels[0][found.values[0, -1].argmax()]
    'to'
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from llmtrace.influence.tokens.attention.pattern_batches import prompt_batches
from llmtrace.influence.tokens.attention.value_writes import attention_write, value_writes
from llmtrace.influence.tokens.results.token_influence import TokenInfluence
from llmtrace.models import TraceModel, describe, require_additive
from llmtrace.models.memory import Memory
from llmtrace.progress import track
from llmtrace.prompts import PromptSet, as_prompts
from llmtrace.signals.each_layer import Layer, each_layer

QUERIES, KEYS = 64, 32  # of one block of distances: it stays in the processor's cache

Shares = Float[Tensor, "batch query key"]


@torch.no_grad()
def alti(model: TraceModel, prompts: PromptSet | str | Sequence[str], *, memory: Memory = "auto") -> TokenInfluence:
    """[batch target source]: share of each position, after the last attention, that comes from each input token.

    `per_layer` holds c of every layer. Raises UnsupportedError for models whose writes do not add up (post-norm).
    """
    prompts = as_prompts(model, prompts)
    chunks = track(prompt_batches(model, prompts, memory), "alti")
    found = [_of_tokens(model, prompts.clean[chunk]) for chunk in chunks]
    return TokenInfluence.of(
        model, prompts, torch.cat([rolled for rolled, _ in found]), "alti", rows_sum_to_one=True,
        per_layer=torch.cat([steps for _, steps in found], 1),
    )  # fmt: skip


def _of_tokens(
    model: TraceModel, tokens: Int[Tensor, "batch pos"]
) -> tuple[Shares, Float[Tensor, "layer batch query key"]]:
    steps: list[Tensor] = []
    rolled: list[Tensor] = []

    def keep(layer: int, found: Layer, before: Tensor, step: Tensor, after: Tensor) -> None:
        steps.append(step)
        rolled[:] = [after]

    mixtures(model, tokens, keep)
    return rolled[0], torch.stack(steps)


def mixtures(
    model: TraceModel,
    tokens: Int[Tensor, "batch pos"],
    use: Callable[[int, Layer, Shares, Shares, Shares], None],
    *,
    also: Sequence[str] = (),
) -> Float[Tensor, "batch pos d_model"]:
    """One pass; `use(layer, activations, before, step, after)` with ALTI up to a layer's input, the layer's own c, and
    ALTI up to what leaves its attention. `also`: further kinds of activations to hand over.

    Returns the final residual stream.
    """
    require_additive(model, "ALTI", reads=(), recomputes=("z",))
    causal, width = describe(model).causal, tokens.shape[1]
    before: list[Tensor] = []

    def of_layer(layer: int, found: Layer) -> None:
        whole = found["resid_pre"] + attention_write(model, layer, found["z"])
        written = value_writes(model, layer, found["v"])
        parts = zip(found["pattern"], written, found["resid_pre"], whole, strict=True)
        step = torch.stack([contributions(*of_prompt, causal=causal) for of_prompt in parts])
        if not before:
            before.append(torch.eye(width, dtype=step.dtype, device=step.device).expand_as(step))
        after = step @ before[0]
        use(layer, found, before[0], step, after)
        before[0] = after

    return each_layer(model, tokens, ("resid_pre", "v", "pattern", "z", *also), of_layer)


def contributions(
    pattern: Float[Tensor, "head query key"],
    written: Float[Tensor, "key head d_model"],
    stream: Float[Tensor, "query d_model"],
    whole: Float[Tensor, "query d_model"],
    *,
    causal: bool,
) -> Float[Tensor, "query key"]:
    """c of one layer and prompt. `written`: v W_O of each head; `stream`: x, on the diagonal; `whole`: y."""
    from_source = rearrange(pattern, "head query key -> key query head").contiguous()
    near = whole.abs().sum(-1, keepdim=True) - _distances(from_source, written, whole, causal)
    own = torch.bmm(from_source.diagonal().T[:, None], written)[:, 0] + stream
    near.diagonal().copy_(whole.abs().sum(-1) - (whole - own).abs().sum(-1))
    near = near.clamp_(min=0)
    near = near.tril_() if causal else near
    total = near.sum(-1, keepdim=True)
    nothing = total[:, 0] == 0
    if nothing.any():
        near.diagonal()[nothing] = 1
        total[nothing] = 1
    return near.div_(total)


def _distances(
    from_source: Float[Tensor, "key query head"],
    written: Float[Tensor, "key head d_model"],
    whole: Float[Tensor, "query d_model"],
    causal: bool,
) -> Float[Tensor, "query key"]:
    """|y_i - T_i(x_j)|_1 without the residual, block by block: one product, then three passes over what the cache
    holds. Keys after a block's queries are left out (and undefined) in causal models."""
    width, d_model = whole.shape
    found = whole.new_zeros(width, width)
    room = whole.new_empty(QUERIES * KEYS * d_model)
    for start in range(0, width, QUERIES):
        queries = slice(start, min(start + QUERIES, width))
        for first in range(0, queries.stop if causal else width, KEYS):
            keys = slice(first, min(first + KEYS, width))
            shape = keys.stop - first, queries.stop - start, d_model
            block = room[: shape[0] * shape[1] * d_model].view(shape)
            torch.bmm(from_source[keys, queries], written[keys], out=block)
            found[queries, keys] = block.sub_(whole[queries]).abs_().sum(-1).T
    return found
