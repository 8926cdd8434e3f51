"""Uncertainty over prompts: percentile bootstrap, seeded."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from llmtrace.errors import InputError


def bootstrap_samples(n: int, *, draws: int = 1000, seed: int = 0) -> Int[Tensor, "draw n"]:
    """`draws` resamples with replacement of the indices 0..n-1; the same seed gives the same resamples."""
    return torch.randint(n, (draws, n), generator=torch.Generator().manual_seed(seed))


def percentile_interval(
    statistics: Float[Tensor, "draw *rest"], *, level: float = 0.95
) -> tuple[Float[Tensor, "*rest"], Float[Tensor, "*rest"]]:
    """The central `level` of bootstrapped statistics: (low, high)."""
    if not 0 < level < 1:
        raise InputError(f"Expected a level between 0 and 1, got {level}; 0.95 leaves 2.5 % out at each end.")
    tail = (1 - level) / 2
    low, high = torch.quantile(statistics.double(), torch.tensor([tail, 1 - tail], dtype=torch.float64), dim=0)
    return low, high


def bootstrap_interval(
    values: Float[Tensor, "*rest batch"], *, level: float = 0.95, draws: int = 1000, seed: int = 0
) -> tuple[Float[Tensor, "*rest"], Float[Tensor, "*rest"]]:
    """Interval of the mean over prompts. Resampling is a product with a count matrix: no copies of `values`."""
    return percentile_interval(_resampled_means(values, draws, seed), level=level)


def bootstrap_ratio(
    values: Float[Tensor, "*rest batch"],
    whole: Float[Tensor, " batch"],
    *,
    level: float = 0.95,
    draws: int = 1000,
    seed: int = 0,
) -> tuple[Float[Tensor, "*rest"], Float[Tensor, "*rest"]]:
    """Interval of the ratio of means, both over the same resampled prompts."""
    over = _resampled_means(whole, draws, seed)
    ratios = _resampled_means(values, draws, seed) / over.reshape(-1, *(1,) * (values.ndim - 1))
    return percentile_interval(ratios, level=level)


def _resampled_means(values: Float[Tensor, "*rest batch"], draws: int, seed: int) -> Float[Tensor, "draw *rest"]:
    samples = bootstrap_samples(values.shape[-1], draws=draws, seed=seed)
    counts = torch.zeros(draws, values.shape[-1], dtype=torch.float64)
    counts.scatter_add_(1, samples, torch.ones_like(samples, dtype=torch.float64))
    return (values.detach().cpu().double() @ counts.T / values.shape[-1]).movedim(-1, 0)
