"""The tests of Shi et al. against their definitions, and on circuits of which the answer is known."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import binomtest
from tiny import ALL, close, prompts

import llmtrace as lt
from llmtrace import circuits
from llmtrace.circuits import Circuit, Graph, run_circuit
from llmtrace.circuits.evaluation.hypotheses import Hypotheses, equally_often, hsic, independence, random_path
from llmtrace.errors import InputError

TINY = next(tiny for tiny in ALL if tiny.family.name == "llama")


def test_wins_are_counted_as_a_binomial_test_counts_them() -> None:
    """Without tolerance scipy's own two-sided test; ties say nothing; tolerance forgives."""
    g = torch.Generator().manual_seed(0)
    for n in (5, 12, 31):
        ours, theirs = torch.randn(n, generator=g) + 0.8, torch.randn(n, generator=g)
        won = int((ours > theirs).sum())
        assert equally_often(ours, theirs) == pytest.approx(binomtest(won, n).pvalue)
        tied = torch.cat([ours, theirs]), torch.cat([theirs, theirs])
        assert equally_often(*tied) == pytest.approx(binomtest(won, n).pvalue)
        assert equally_often(ours, theirs, 0.2) > equally_often(ours, theirs)
    assert equally_often(theirs, theirs) == 1


def test_dependence_is_found_and_independence_is_not_denied() -> None:
    """HSIC by its definition with explicit centring; x = y^2 has no correlation and is found."""
    g = torch.Generator().manual_seed(1)
    y, z = torch.randn(40, generator=g, dtype=torch.float64), torch.randn(40, generator=g, dtype=torch.float64)
    assert independence(y**2, y, 200, g) < 0.01
    p = [independence(torch.randn(20, generator=g), torch.randn(20, generator=g), 100, g) for _ in range(60)]
    assert 0.35 < sum(p) / 60 < 0.65 and min(p) < 0.2 and max(p) > 0.8  # uniform where H0 is true
    h = torch.eye(40, dtype=torch.float64) - 1 / 40
    a, b = (torch.exp(-((v[:, None] - v[None]) ** 2)) for v in (y, z))
    close(hsic(h @ a @ h, h @ b @ h), torch.trace(a @ h @ b @ h) / 39**2, 1e-12)


def test_holm_steps_down_and_stops_at_the_first_that_stands() -> None:
    """The i-th smallest of n is held against level / (n - i): more fall than by level / n, and none behind one that
    stands."""
    edges = tuple(Circuit.full(Graph.of(TINY.model)).edges[:4])

    def needed(*p: float) -> tuple[int, ...]:
        some = torch.tensor(p, dtype=torch.float64)
        found = Hypotheses(0.5, 0.5, edges, torch.zeros(4), some, "logit_diff").needed(level=0.05)
        return tuple(sorted(edges.index(edge) for edge in found))

    assert needed(0.024, 0.012, 0.049, 0.016) == (0, 1, 2, 3)
    assert needed(0.03, 0.001, 0.03, 0.04) == (1,)
    assert needed(0.013, 0.02, 0.03, 0.04) == ()


def test_random_paths_are_paths() -> None:
    """One edge out of every node on it, from an input to the logits."""
    graph, g = Graph(3, 4, 2, parallel=False, attn_only=False), torch.Generator().manual_seed(0)
    for _ in range(30):
        path = random_path(graph, g)
        assert path[:, -1].sum() == 1 and path.sum(1).max() == 1 and path[0].sum() == 1
        assert not (path & ~graph.real).any() and torch.equal(Circuit(graph, path).pruned().mask, path)


def test_the_whole_model_and_nothing() -> None:
    """The full circuit is equivalent to the model; without the empty one everything is left, and tells all."""
    p, graph = prompts(padded=True), Graph.of(TINY.model)
    full = circuits.hypothesis_tests(TINY.model, p, Circuit.full(graph), draws=3)
    assert full.equivalence == 1 and len(full.edges) == graph.n_edges
    empty = circuits.hypothesis_tests(TINY.model, p, Circuit.empty(graph), draws=5)
    assert empty.edges == () and empty.needed() == () and empty.independence < 0.2
    for bad in ({"draws": 0}, {"tolerance": 0.5}):
        with pytest.raises(InputError, match="draws from 1 on"):
            circuits.hypothesis_tests(TINY.model, p, Circuit.full(graph), **bad)


def test_edges_that_carry_the_answer_are_needed() -> None:
    """tiny-english: the change of every edge by hand; the strongest ones stand out from random paths."""
    model = lt.load("tiny-english")
    p = lt.prompts.ioi(model, 8)
    circuit = lt.discover(model, p, n_edges=25, method="acdc", tau=0.5)
    found = circuits.hypothesis_tests(model, p, circuit, draws=60)
    alone = run_circuit(model, p, circuit).mean()
    for i in (0, len(found.edges) - 1):
        less = run_circuit(model, p, circuit - Circuit.of(circuit.graph, [found.edges[i]])).mean()
        assert float(found.moved[i]) == pytest.approx(float((alone - less).abs()), abs=1e-4)
    assert float(found.minimality.min()) == pytest.approx(1 / 61) and found.df()["moved"].is_monotonic_decreasing
    assert len(found.needed(level=1.0)) >= 5 >= len(found.needed(level=1e-3))
