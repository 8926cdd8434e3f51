"""Is a token among the k that a write raises most, or lowers most? Exact, without most of the logits.

    raised     fewer than k other tokens t have  write . u_t >= write . u_own        lowered    the same with <=

A few others are enough to tell that a token is far from both ends. So the vocabulary is read in pieces that double, and
only writes go on whose token may still be at an end: of SmolLM2's 69,120 writes 6 % see more than 512 of its 49,152
tokens, 1 % see all. A tie counts as larger and as smaller, so one that reaches past the k is at neither end.
"""

from __future__ import annotations

import torch
from einops import einsum
from jaxtyping import Bool, Float, Int
from torch import Tensor

FIRST = 512  # tokens of the first piece


def at_the_ends(
    writes: Float[Tensor, "n d_model"], seen: Float[Tensor, "d_vocab d_model"], tokens: Int[Tensor, " n"], k: int
) -> tuple[Bool[Tensor, " n"], Bool[Tensor, " n"]]:
    """(raised, lowered): whether each write's own token is among the k largest and among the k smallest logits."""
    tokens = tokens.to(writes.device)
    own = einsum(writes, seen[tokens], "n d_model, n d_model -> n")[:, None]
    above, below = torch.zeros_like(tokens), torch.zeros_like(tokens)
    within = torch.arange(len(writes), device=writes.device)  # writes that may still be at an end
    start, stop = 0, FIRST
    while start < len(seen) and len(within):
        logits = writes[within] @ seen[start:stop].T
        _blank(logits, tokens[within] - start)
        above[within] += (logits >= own[within]).sum(1)
        below[within] += (logits <= own[within]).sum(1)
        within = within[(above[within] < k) | (below[within] < k)]
        start, stop = stop, 2 * stop
    return above < k, below < k


def _blank(logits: Float[Tensor, "n piece"], own: Int[Tensor, " n"]) -> None:
    """A token is no rival of itself, whichever way its logit was rounded: NaN is neither larger nor smaller."""
    row = ((own >= 0) & (own < logits.shape[1])).nonzero()[:, 0]
    logits[row, own[row]] = torch.nan
