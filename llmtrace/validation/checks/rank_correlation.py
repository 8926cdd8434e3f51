"""How well one order follows another: Spearman's rho per prompt, and what the first k carry.

rho         correlation of ranks, ties sharing their mean rank. A constant score orders nothing: 0. Where the truth
            itself is constant there is no order to find: NaN, and the prompt is left out of every mean
share(k)    sum of |loss| over the k of largest |score|, as a share of the sum over all
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.stats import rankdata
from torch import Tensor


def rho(
    score: Float[Tensor, "batch unit"], loss: Float[Tensor, "batch unit"], there: Bool[Tensor, "batch unit"]
) -> Float[Tensor, " batch"]:
    """One number per prompt."""
    rows = zip(score.numpy(), loss.numpy(), there.numpy(), strict=True)
    return torch.tensor([_rho(ours[has], truth[has]) for ours, truth, has in rows], dtype=torch.float64)


def _rho(score: np.ndarray, loss: np.ndarray) -> float:
    if np.ptp(loss) == 0:
        return float("nan")
    if np.ptp(score) == 0:
        return 0.0
    return float(np.corrcoef(rankdata(score), rankdata(loss))[0, 1])


def places(
    score: Float[Tensor, "batch unit"], there: Bool[Tensor, "batch unit"], lots: Float[Tensor, "batch unit"]
) -> Int[Tensor, "batch unit"]:
    """The place of each thing when the largest score comes first: 0, 1, ... What a prompt does not have comes last.

    Equal scores are put in order by `lots`: by their order in the prompt, scores that are mostly 0 would be given away
    to whatever comes first.
    """
    by_lot = lots.argsort(-1)
    worth = score.masked_fill(~there, -torch.inf).gather(-1, by_lot)
    order = by_lot.gather(-1, worth.argsort(dim=-1, descending=True, stable=True))
    return order.argsort(-1)


def top_share(
    size_places: Int[Tensor, "batch unit"],
    loss: Float[Tensor, "batch unit"],
    there: Bool[Tensor, "batch unit"],
    k: int,
) -> Float[Tensor, " batch"]:
    """`size_places`: places by |score|. NaN where nothing has an effect."""
    size = loss.abs().masked_fill(~there, 0.0)
    return (size * (size_places < k)).sum(-1) / size.sum(-1)


def lots_for(there: Bool[Tensor, "batch unit"], draws: int, seed: int) -> Float[Tensor, "draw batch unit"]:
    """Random numbers per prompt, drawn for what it has: padding changes nothing."""
    generator = torch.Generator().manual_seed(seed)
    lots = torch.zeros(draws, *there.shape, dtype=torch.float64)
    for row, has in enumerate(there):
        lots[:, row, has] = torch.rand(draws, int(has.sum()), generator=generator, dtype=torch.float64)
    return lots
