"""What recurs over circuits, and how surprising it is: counted by hand, against scipy, and on circuits of chance."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from scipy.stats import false_discovery_control

from llmtrace import circuits
from llmtrace.circuits import Circuit, EdgeScores, Graph
from llmtrace.circuits.evaluation.patterns import benjamini_hochberg, poisson_binomial_tail
from llmtrace.circuits.selection.select import top_edges
from llmtrace.errors import InputError

GRAPH = Graph(2, 4, 2, parallel=False, attn_only=False)


def drawn(seed: int, n: int = 12, share: float = 0.1) -> list[Circuit]:
    full = Circuit.full(GRAPH)
    size = int(share * GRAPH.n_edges)
    start = Circuit(GRAPH, top_edges(GRAPH, GRAPH.real.double(), size))
    assert full.n_edges > start.n_edges
    return circuits.random_circuits(start, n, seed=seed, matched=False)


def test_frequencies_are_counts() -> None:
    some = drawn(1)
    found = circuits.patterns(some)
    for edge, share in found.top(GRAPH.n_edges):
        assert share == pytest.approx(sum(edge in circuit for circuit in some) / len(some))
    assert found.df()["frequency"].is_monotonic_decreasing


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=7))
def test_the_tail_by_all_outcomes(shares: list[float]) -> None:
    """P(at least k) by summing over all 2^n outcomes."""
    tail = np.zeros(len(shares) + 1)
    for outcome in itertools.product((0, 1), repeat=len(shares)):
        chance = np.prod([p if hit else 1 - p for p, hit in zip(shares, outcome, strict=True)])
        tail[: sum(outcome) + 1] += chance
    np.testing.assert_allclose(poisson_binomial_tail(shares), tail, atol=1e-12)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=40))
def test_the_correction_is_that_of_scipy(p_values: list[float]) -> None:
    np.testing.assert_allclose(benjamini_hochberg(np.array(p_values)), false_discovery_control(p_values), atol=1e-12)


def test_chance_does_not_recur_and_a_planted_edge_does() -> None:
    """Among random circuits nothing is significant; an edge that is in all of them is the only pattern."""
    some = drawn(3, n=20)
    assert circuits.patterns(some).circuit().n_edges == 0
    planted = Circuit.of(GRAPH, ["a0.h1->m1"])
    assert circuits.patterns([circuit | planted for circuit in some]).circuit().edges == planted.edges


def test_circuits_of_single_prompts() -> None:
    """Each by its own row of the scores."""
    per_prompt = torch.rand(5, *GRAPH.real.shape, generator=torch.Generator().manual_seed(2)) * GRAPH.real
    scores = EdgeScores(GRAPH, per_prompt, "random", "none", {}, "none")
    for row, circuit in enumerate(circuits.prompt_circuits(scores, 9)):
        assert circuit.n_edges == 9
        assert per_prompt[row][circuit.mask].min() >= per_prompt[row][GRAPH.real & ~circuit.mask].max()
    with pytest.raises(InputError, match="two or more circuits"):
        circuits.patterns([Circuit.full(GRAPH)])
