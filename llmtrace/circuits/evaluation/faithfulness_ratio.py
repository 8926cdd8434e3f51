"""f = (m(C) - m(0)) / (m(M) - m(0)): what faithfulness is, and when it means nothing."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from llmtrace.errors import InputError
from llmtrace.metrics import Metric

NEAR_ZERO = 0.02  # of the mean gap: a prompt's own ratio means nothing below it


def ratio_of_means(
    alone: Float[Tensor, "*lead batch"], empty: Float[Tensor, "*#lead batch"], model: Float[Tensor, "*#lead batch"]
) -> Float[Tensor, "*lead"]:
    return (alone.mean(-1) - empty.mean(-1)) / (model.mean(-1) - empty.mean(-1))


def require_scale(model: Float[Tensor, " batch"], empty: Float[Tensor, " batch"], metric: Metric) -> None:
    """Refuse a ratio without a denominator."""
    if (model - empty).mean().abs() <= 1e-6 * max(1e-12, model.abs().mean().item()):
        raise InputError(
            f"The model and the empty circuit give the same {metric.name}, so faithfulness has no scale; "
            "choose another corruption or another metric."
        )


def caveats_of(model: Float[Tensor, " batch"], empty: Float[Tensor, " batch"], metric: Metric) -> list[str]:
    """What a reader of the ratio must know: inverted and vanishing denominators."""
    gap, n = model - empty, len(model)
    better, found = gap if metric.higher_is_better else -gap, list[str]()
    if better.mean() < 0:
        found.append("in the mean the empty circuit is better than the model: the ratio is inverted")
    if (inverted := int((better < 0).sum())) > 0:
        found.append(f"on {inverted} of {n} prompts the empty circuit is better than the model")
    if (flat := int((gap.abs() < NEAR_ZERO * gap.abs().mean()).sum())) > 0:
        found.append(f"on {flat} of {n} prompts model and empty circuit nearly agree: no ratio there")
    return found
