"""What heads do on random tokens that are said twice: where they look, averaged over what has a definite place.

    previous_token    A[i, i-1]                 every i but the first
    current_token     A[i, i]                   every i but the first
    duplicate_token   A[i, i-L]                 i in the second copy: the same token, the time before
    induction         A[i, i-L+1]               i in the second copy: the token after it, the time before
    sink              A[i, 0] + 1 - sum_j A     every i but the first: the first token, or nowhere where the model may

Sign: a share of attention, from 0 to 1. Source: Elhage et al. 2021; Olsson et al. 2022 (induction); Wang et al. 2022
(duplicate tokens); Xiao et al. 2023 (sinks). Cost: one forward pass; one layer's patterns at a time.
Known failure: looking is not writing. A head with a high score may write nothing of what it sees: ablate it.

    >>> [head.label for head, _ in lt.influence.head_behaviour(model).top("induction", 3)]
    ['3.7', '3.1', '3.5']
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from llmtrace.influence.heads.head_table import HeadTable
from llmtrace.influence.rows import DETECTORS
from llmtrace.models import Hook, TraceModel, describe, final_residual, provenance
from llmtrace.models.hook_names import site_name
from llmtrace.models.memory import Memory, in_one_pass
from llmtrace.progress import track
from llmtrace.prompts import RepeatedTokens, repeated_tokens

Scores = Float[Tensor, "batch head"]


def _look_back(pattern: Float[Tensor, "batch head query key"], distance: int, first: int) -> Scores:
    """Mean attention from every query of at least `first` to the key `distance` before it."""
    to_key = pattern.diagonal(-distance, dim1=2, dim2=3)  # entry j: query j + distance, key j
    return to_key[..., first - distance :].mean(-1)


def previous_token(pattern: Float[Tensor, "batch head query key"], repeated: RepeatedTokens) -> Scores:
    return _look_back(pattern, 1, 1)


def current_token(pattern: Float[Tensor, "batch head query key"], repeated: RepeatedTokens) -> Scores:
    return _look_back(pattern, 0, 1)


def duplicate_token(pattern: Float[Tensor, "batch head query key"], repeated: RepeatedTokens) -> Scores:
    return _look_back(pattern, repeated.length, repeated.first + repeated.length)


def induction(pattern: Float[Tensor, "batch head query key"], repeated: RepeatedTokens) -> Scores:
    return _look_back(pattern, repeated.length - 1, repeated.first + repeated.length)


def sink(pattern: Float[Tensor, "batch head query key"], repeated: RepeatedTokens) -> Scores:
    rows = pattern[:, :, 1:]
    return (rows[..., 0] + (1 - rows.sum(-1)).clamp(min=0)).mean(-1)


@torch.no_grad()
def head_behaviour(
    model: TraceModel, *, draws: int = 10, length: int | None = None, seed: int = 0, memory: Memory = "auto"
) -> HeadTable:
    """Every detector on every head: `draws` prompts of `length` random tokens, twice (default: 50, or what fits)."""
    arch, repeated = describe(model), repeated_tokens(model, draws, length=length, seed=seed)
    at_once = in_one_pass(arch, repeated.tokens.shape[1], memory, model.W_E)
    total = torch.zeros(len(DETECTORS), arch.n_layers, arch.n_heads, dtype=torch.float64)
    for tokens in track(repeated.tokens.split(at_once), "detecting heads"):
        final_residual(model, tokens, [_reducer(layer, repeated, total[:, layer]) for layer in range(arch.n_layers)])
    return HeadTable(
        arch.heads, tuple(DETECTORS), (total / draws).flatten(1).T.contiguous(), "head_behaviour",
        provenance(model).as_dict(), {"draws": draws, "length": repeated.length, "seed": seed},
    )  # fmt: skip


def _reducer(layer: int, repeated: RepeatedTokens, into: Float[Tensor, "score head"]) -> Hook:
    """Adds every prompt's scores to `into`; the pattern itself is not kept."""

    def reduce(pattern: Tensor) -> None:
        wide = pattern.detach().double()
        detectors: list[Callable[..., Tensor]] = [row.function for row in DETECTORS.values()]
        into.add_(torch.stack([detect(wide, repeated).sum(0) for detect in detectors]).to(into.device))

    return site_name("pattern", layer), reduce
