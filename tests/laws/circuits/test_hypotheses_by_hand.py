"""The p-values of Shi et al. number by number: kernels, all outcomes of the wins, the paths that are added."""

from __future__ import annotations

from math import comb, exp
from statistics import median_low

import pytest
import torch

from llmtrace.circuits import Circuit, Graph
from llmtrace.circuits.evaluation.hypotheses import _added, equally_often, independence

GRAPH = Graph(3, 4, 2, parallel=False, attn_only=False)


def kernel(values: list[float]) -> list[list[float]]:
    """Gaussian, as wide as the median distance of two values that differ; centred over rows and columns."""
    n = len(values)
    width = median_low([abs(a - b) for a in values for b in values if a != b])
    k = [[exp(-((a - b) ** 2) / (2 * width**2)) for b in values] for a in values]
    of_row, whole = [sum(row) / n for row in k], sum(map(sum, k)) / n**2
    return [[k[i][j] - of_row[i] - of_row[j] + whole for j in range(n)] for i in range(n)]


def test_independence_is_the_share_of_shuffles_that_depend_as_much() -> None:
    """(1 + as large) / (1 + all), the real order counted among them."""
    n, draws = 7, 60
    x, y = torch.randn(2, n, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    of_x, of_y = kernel(x.tolist()), kernel(y.tolist())

    def together(order: list[int]) -> float:
        return sum(of_x[i][j] * of_y[order[i]][order[j]] for i in range(n) for j in range(n))

    g = torch.Generator().manual_seed(5)
    orders = [torch.randperm(n, generator=g).tolist() for _ in range(draws)]
    as_large = sum(together(order) >= together(list(range(n))) - 1e-12 for order in orders)
    assert 5 < as_large < 55
    found = independence(x, y, draws, torch.Generator().manual_seed(5))
    assert found == pytest.approx((1 + as_large) / (1 + draws), rel=1e-6)  # a quotient in float32


def test_wins_as_far_from_half_as_these_are_summed_one_by_one() -> None:
    """Under the worst probability that the tolerance allows: all outcomes at least so far from half, either way."""
    n, nothing = 9, torch.zeros(9, dtype=torch.float64)
    for won in range(n + 1):
        ours = torch.tensor([1.0] * won + [-1.0] * (n - won), dtype=torch.float64)
        for tolerance in (0.0, 0.1, 0.3):
            p = 0.5 + tolerance
            far = [k for k in range(n + 1) if abs(k - n / 2) >= abs(won - n / 2)]
            expected = min(1.0, sum(comb(n, k) * p**k * (1 - p) ** (n - k) for k in far))
            assert equally_often(ours, nothing, tolerance) == pytest.approx(expected)


def test_what_is_taken_from_an_inflated_circuit_was_not_in_the_circuit() -> None:
    """One edge less, out of the path and not out of the circuit; of the full circuit any edge of the path."""
    g = torch.Generator().manual_seed(0)
    half = Circuit(GRAPH, GRAPH.real & (torch.rand(GRAPH.real.shape, generator=g) < 0.3))
    pairs = [_added(half, g) for _ in range(30)]
    assert all(smaller <= larger and larger.n_edges == smaller.n_edges + 1 for larger, smaller in pairs)
    grown = [(larger, smaller) for larger, smaller in pairs if larger.n_edges > half.n_edges]
    assert len(grown) > 10 and all(half <= smaller for _, smaller in grown)
    larger, smaller = _added(Circuit.full(GRAPH), g)
    assert larger.n_edges == GRAPH.n_edges == smaller.n_edges + 1
