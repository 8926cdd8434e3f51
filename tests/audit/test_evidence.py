"""The numbers about a monitor, by their definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st
from sklearn.linear_model import LogisticRegression

from llmtrace.audit.evidence.calibration import ece, platt, reliability
from llmtrace.audit.evidence.roc import auroc, bootstrapped, interval, share, threshold_at, tpr_at
from llmtrace.errors import InputError

VALUES = torch.tensor([0.1, 0.4, 0.35, 0.8, 0.4])
LABELS = torch.tensor([False, False, True, True, True])


def slow_auroc(values, labels):
    """Every True prompt against every False one; a tie is half."""
    pairs = [(t, f) for t in values[labels].tolist() for f in values[~labels].tolist()]
    return sum((t > f) + 0.5 * (t == f) for t, f in pairs) / len(pairs)


def test_auroc_counts_pairs():
    assert auroc(VALUES, LABELS) == slow_auroc(VALUES, LABELS) == pytest.approx(4.5 / 6)
    assert auroc(-VALUES, LABELS) == pytest.approx(1 - 4.5 / 6)
    assert math.isnan(auroc(VALUES, torch.ones(5, dtype=torch.bool)))


@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=2, max_size=30))
def test_auroc_is_that_of_its_slow_twin(rows):
    values, labels = torch.tensor([float(v) for v, _ in rows]), torch.tensor([label for _, label in rows])
    if 0 < int(labels.sum()) < len(rows):
        assert auroc(values, labels) == pytest.approx(slow_auroc(values, labels), abs=1e-12)


@given(st.lists(st.integers(-5, 5), min_size=1, max_size=40), st.sampled_from([0.01, 0.05, 0.3, 0.9]))
def test_the_threshold_keeps_the_rate_and_is_the_lowest_that_does(values, rate):
    found = torch.tensor([float(v) for v in values])
    threshold = threshold_at(found, rate)
    assert (found.double() > threshold).double().mean() <= rate
    lower = [v for v in found.tolist() if v < threshold]
    assert all((found > v).double().mean() > rate for v in lower)


def test_tpr_counts_what_lies_above():
    assert tpr_at(VALUES, LABELS, 0.05) == pytest.approx(1 / 3)  # above 0.4
    assert tpr_at(VALUES, LABELS, 0.5) == 1.0  # above 0.1


def test_a_share_has_clopper_and_pearson_s_interval():
    """None of ten: the upper end is 1 - 0.025^(1/10)."""
    value, low, high = share(torch.zeros(10, dtype=torch.bool))
    assert (value, low) == (0, 0) and high == pytest.approx(1 - 0.025**0.1)
    assert all(map(math.isnan, share(torch.zeros(0, dtype=torch.bool))))


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1])
def test_a_rate_outside_its_range_is_refused(rate):
    with pytest.raises(InputError, match="between 0 and 1"):
        threshold_at(VALUES, rate)


def test_the_interval_of_permuted_labels_holds_a_half_nineteen_times_in_twenty():
    generator, inside = torch.Generator().manual_seed(0), 0
    for seed in range(40):
        values, labels = torch.rand(60, generator=generator), torch.arange(60) % 2 == 0
        low, high = interval(bootstrapped(values[None], labels, draws=200, seed=seed)[0])
        inside += low <= 0.5 <= high
    assert inside >= 34


def test_platt_is_the_logistic_regression_of_one_number():
    generator = torch.Generator().manual_seed(1)
    values = torch.randn(300, generator=generator) * 3 + 5
    labels = torch.rand(300, generator=generator) < torch.sigmoid(0.7 * values - 3)
    found = platt(values, labels)
    theirs = LogisticRegression(C=1e6, tol=1e-10).fit(values[:, None].numpy(), labels.numpy())
    assert found.slope == pytest.approx(float(theirs.coef_[0, 0]), rel=0.05)
    assert found.intercept == pytest.approx(float(theirs.intercept_[0]), rel=0.05)


def test_platt_stands_where_the_classes_are_apart():
    found = platt(torch.tensor([0.0, 1.0, 10.0, 11.0]), torch.tensor([False, False, True, True]))
    assert math.isfinite(found.slope) and found.probability(torch.tensor([0.0, 11.0])).round().tolist() == [0, 1]


def test_the_calibration_error_by_hand():
    """Two prompts at .25, one of them True; two at .85, both True: (|.25 - .5| + |.85 - 1|) / 2."""
    p, labels = torch.tensor([0.25, 0.25, 0.85, 0.85]), torch.tensor([True, False, True, True])
    assert ece(p, labels) == pytest.approx(0.2)
    assert [n for *_, n in reliability(p, labels)] == [2, 2]
    assert np.isclose(ece(torch.tensor([1.0, 0.0]), torch.tensor([True, False])), 0)
