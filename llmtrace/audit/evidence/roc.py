"""How well one number tells two classes apart, without a threshold and at one.

    AUROC   P(value of a True prompt > value of a False one), ties count half       = Mann-Whitney's U / (n_true
    n_false) TPR at a rate    share of True prompts above the lowest threshold that at most this share of False ones
    exceeds

Source: Hanley & McNeil 1982; Clopper & Pearson 1934 for the interval of a share, which is exact: it holds at any n.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from scipy.stats import binomtest, rankdata
from torch import Tensor

from llmtrace.errors import InputError
from llmtrace.statistics import bootstrap_samples, percentile_interval

Estimate = tuple[float, float, float]  # value, and its interval


def auroc(values: Float[Tensor, " n"], labels: Bool[Tensor, " n"]) -> float:
    """1: every True prompt is above every False one; 0.5: no order. NaN where there is one class only."""
    n_true, n_false = int(labels.sum()), int((~labels).sum())
    if not n_true or not n_false:
        return float("nan")
    ranks = torch.from_numpy(rankdata(values.detach().cpu().double().numpy()))
    return float((ranks[labels].sum() - n_true * (n_true + 1) / 2) / (n_true * n_false))


def threshold_at(values_of_false: Float[Tensor, " n"], rate: float) -> float:
    """The lowest value that at most `rate` of these lie above. Raises InputError for a rate outside 0 to 1."""
    require_rate(rate)
    ordered = values_of_false.double().sort(descending=True).values
    return float(ordered[min(int(rate * len(ordered) + 1e-9), len(ordered) - 1)])


def tpr_at(values: Float[Tensor, " n"], labels: Bool[Tensor, " n"], rate: float) -> float:
    """Share of True prompts found where at most `rate` of the False ones raise an alarm."""
    if not bool(labels.any()) or bool(labels.all()):
        return float("nan")
    return float((values[labels].double() > threshold_at(values[~labels], rate)).double().mean())


def share(flags: Bool[Tensor, " n"], *, level: float = 0.95) -> Estimate:
    """A share with its exact binomial interval; NaN of nothing."""
    n = len(flags)
    if not n:
        return (float("nan"),) * 3
    found = binomtest(int(flags.sum()), n).proportion_ci(confidence_level=level, method="exact")
    return float(flags.double().mean()), float(found.low), float(found.high)


def bootstrapped(
    values: Float[Tensor, "monitor n"], labels: Bool[Tensor, " n"], *, draws: int = 500, seed: int = 0
) -> Float[Tensor, "monitor draw"]:
    """AUROC of each monitor on the same resampled prompts, each class resampled by itself."""
    true, false = labels.nonzero()[:, 0], (~labels).nonzero()[:, 0]
    picks = [
        torch.cat([true[a], false[b]], 0)
        for a, b in zip(
            bootstrap_samples(len(true), draws=draws, seed=seed),
            bootstrap_samples(len(false), draws=draws, seed=seed + 1),
            strict=True,
        )
    ]
    return torch.tensor(
        [[auroc(row[pick], labels[pick]) for pick in picks] for row in values], dtype=torch.float64
    ).reshape(len(values), draws)


def interval(draws: Float[Tensor, " draw"], *, level: float = 0.95) -> tuple[float, float]:
    """The central `level` of the draws."""
    low, high = percentile_interval(draws[:, None], level=level)
    return float(low), float(high)


def require_rate(rate: float) -> None:
    if not 0 < rate < 1:
        raise InputError(f"Expected a false-positive rate between 0 and 1, got {rate}; 0.05 is one prompt in twenty.")
