"""Uncertainty over prompts: intervals cover what they say."""

from __future__ import annotations

import pytest
import torch

from llmtrace.statistics import bootstrap_interval, bootstrap_ratio, bootstrap_samples, percentile_interval


def test_an_interval_leaves_out_as_much_at_each_end_as_its_level_says() -> None:
    ramp = torch.arange(1001, dtype=torch.float64) / 1000
    for level in (0.5, 0.9, 0.95):
        low, high = percentile_interval(ramp, level=level)
        assert (low.item(), high.item()) == pytest.approx(((1 - level) / 2, (1 + level) / 2))
    assert percentile_interval(ramp)[0].item() == pytest.approx(0.025), "95 % is what figures and reports call it"


def central(values: torch.Tensor) -> list[float]:
    return torch.quantile(values, torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()


def test_bootstrap_intervals_are_percentiles_of_resampled_means() -> None:
    values = torch.randn(400, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    means = values[bootstrap_samples(400, draws=2000, seed=3)].mean(1)
    low, high = bootstrap_interval(values, draws=2000, seed=3)
    assert (low.item(), high.item()) == pytest.approx(central(means))
    # of a normal sample the mean's own: 1.96 standard errors to each side
    assert (high - low).item() == pytest.approx(2 * 1.96 * values.std().item() / 20, rel=0.1)
    other = values + 3
    ratios = means / other[bootstrap_samples(400, draws=2000, seed=3)].mean(1)
    low, high = bootstrap_ratio(values, other, draws=2000, seed=3)
    assert (low.item(), high.item()) == pytest.approx(central(ratios))
