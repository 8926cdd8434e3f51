"""How much of a vector is a part's doing, by the L1 norm: the measure of ALTI and of information flow routes.

    proximity(p, y) = |y|_1 - |y - p|_1

At most |p|_1, reached where the part points along y in every coordinate; negative where it makes y smaller. Shares are
what is above zero, normalised: [1, 1], [2, 2] and [1, 1] are .25, .5 and .25 of [4, 4].
Sources: Ferrando et al. 2022; Ferrando & Voita 2024.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor


def proximity(part: Float[Tensor, "*#lead d_model"], whole: Float[Tensor, "*#lead d_model"]) -> Float[Tensor, "*lead"]:
    return whole.abs().sum(-1) - (part - whole).abs_().sum(-1)


def dropped_below(
    threshold: float, parts: Float[Tensor, "*lead part"], residual: Float[Tensor, "*lead"]
) -> tuple[Float[Tensor, "*lead part"], Float[Tensor, "*lead"]]:
    """Shares with those parts gone that do not exceed `threshold`; the rest sums to one again (law 53).

    The residual is never dropped: there is always a way on. Shares of .05, .15 and .8, the last the residual's, are 0,
    .157894 and .842105 at threshold .1.
    """
    parts = parts * (parts > threshold)
    total = residual + parts.sum(-1)
    return parts.div_(total[..., None]), residual / total
