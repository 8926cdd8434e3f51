"""Curves, completeness, minimality, specificity, matched random circuits: each by its definition, run by run."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings, strategies as st
from tiny import ALL, close, prompts

from llmtrace import circuits
from llmtrace.circuits import Circuit, Graph, run_circuit
from llmtrace.circuits.evaluation.random_circuits import layer_blocks
from llmtrace.errors import InputError
from llmtrace.models import logits

TINY = next(tiny for tiny in ALL if tiny.family.name == "llama")
SHARES = (0.02, 0.1, 0.5, 1.0)


def half(seed: int = 5) -> Circuit:
    graph = Graph.of(TINY.model)
    return Circuit(
        graph, graph.real & (torch.rand(graph.real.shape, generator=torch.Generator().manual_seed(seed)) < 0.5)
    )


def test_the_curve_by_hand() -> None:
    """CMD and CPR are trapezoids of |1 - f| and f over the shares; at the last share the circuit is the model."""
    p = prompts(padded=True)
    scores = circuits.eap(TINY.model, p)
    curve = circuits.faithfulness_curve(TINY.model, p, scores, shares=SHARES)
    whole, nothing = (
        run_circuit(TINY.model, p, c(curve.circuits[0].graph)).mean() for c in (Circuit.full, Circuit.empty)
    )
    f = [float((run_circuit(TINY.model, p, c).mean() - nothing) / (whole - nothing)) for c in curve.circuits]
    assert curve.faithfulness.tolist() == pytest.approx(f, abs=TINY.atol) and f[-1] == pytest.approx(1)
    steps = list(pairwise(SHARES))
    assert curve.cpr == pytest.approx(sum((b - a) * (f[i] + f[i + 1]) / 2 for i, (a, b) in enumerate(steps)))
    away = [abs(1 - value) for value in f]
    assert curve.cmd == pytest.approx(sum((b - a) * (away[i] + away[i + 1]) / 2 for i, (a, b) in enumerate(steps)))
    for name, value in (("cmd", curve.cmd), ("cpr", curve.cpr)):
        low, high = curve.interval(name)
        assert low < value < high and (low, high) == curve.interval(name)
    assert all((a.mask & ~b.mask).sum() == 0 for a, b in pairwise(curve.circuits))
    for shares in ((), (0.5, 0.1), (0.0, 1.0), (0.5, 1.5)):
        with pytest.raises(InputError, match="growing shares"):
            circuits.faithfulness_curve(TINY.model, p, scores, shares=shares)


def test_completeness_and_minimality_by_hand() -> None:
    """Each K is knocked out of circuit and model; each node is taken out of the circuit."""
    p, circuit = prompts(padded=True), half()
    full = Circuit.full(circuit.graph)
    found = circuits.completeness(TINY.model, p, circuit, draws=3, greedy=2, seed=1)
    assert found.knocked_out[0] == () and len(found.knocked_out) == 6
    for nodes, alone, whole in zip(found.knocked_out, found.circuit, found.model, strict=True):
        close(alone, run_circuit(TINY.model, p, circuit.without(*nodes)), 1e-9)
        close(whole, run_circuit(TINY.model, p, full.without(*nodes)), 1e-9)
    first, second = found.knocked_out[-2:]
    assert len(first) == 1 and second[:1] == first
    one_node = circuits.completeness(TINY.model, p, circuit, draws=0, greedy=1)
    gaps = [
        abs(
            float((run_circuit(TINY.model, p, circuit.without(n)) - run_circuit(TINY.model, p, full.without(n))).mean())
        )
        for n in circuit.nodes[1:]
    ]
    assert float(one_node.gaps[-1]) == pytest.approx(max(gaps))
    least = circuits.minimality(TINY.model, p, circuit)
    for node, loss in zip(least.nodes, least.loss, strict=True):
        close(loss, run_circuit(TINY.model, p, circuit) - run_circuit(TINY.model, p, circuit.without(node)), 1e-9)


def test_the_worst_knock_out_does_not_depend_on_the_sign_of_the_metric() -> None:
    """A gap is a distance: right and wrong answers exchanged, the same nodes are knocked out, step by step."""
    p, circuit = prompts(padded=True), half()
    found = [
        circuits.completeness(TINY.model, some, circuit, draws=0, greedy=2)
        for some in (p, replace(p, correct=p.wrong, wrong=p.correct))
    ]
    assert found[0].knocked_out == found[1].knocked_out
    close(found[0].circuit, -found[1].circuit, 1e-9)


def test_a_whole_model_is_complete() -> None:
    """m(M \\ K) = m(M \\ K): no K tells the full circuit from the model."""
    assert circuits.completeness(TINY.model, prompts(), Circuit.full(Graph.of(TINY.model))).gaps.max() < 1e-9


def test_a_circuit_without_which_nothing_is_left_takes_every_task() -> None:
    """Specificity: removing everything takes all of a task, removing nothing none of it."""
    p, graph = prompts(), Graph.of(TINY.model)
    found = circuits.specificity(TINY.model, {"task": p}, {"all": Circuit.full(graph), "none": Circuit.empty(graph)})
    assert found.loss[:, 0].tolist() == pytest.approx([1, 0], abs=1e-9)


def test_a_thorough_report() -> None:
    """KL and first token against full logits; the report's table names them."""
    p = prompts(padded=True)
    circuit = circuits.select(circuits.eap(TINY.model, p), 40, selection="top")
    report = circuits.evaluate(TINY.model, p, circuit, draws=2, thorough=True)
    assert report.details is not None and report.details.curve is not None
    end = torch.arange(len(p)), p.positions["END"]
    clean = logits(TINY.model, p.clean)[end].log_softmax(-1)
    full = circuits.evaluate(TINY.model, p, Circuit.full(circuit.graph), draws=0, thorough=True).details
    assert full is not None and full.kl.abs().max() < 1e-9 and bool((full.agrees == 1).all()) and full.curve is None
    nothing = circuits.evaluate(TINY.model, p, Circuit.empty(circuit.graph), draws=0, thorough=True).details
    other = logits(TINY.model, p.corrupted)[end].log_softmax(-1)
    assert nothing is not None
    close(nothing.kl, (clean.exp() * (clean - other)).sum(-1), 1e-9)
    close(nothing.agrees, (clean.argmax(-1) == other.argmax(-1)).double(), 1e-9)
    assert {"KL", "CMD", "CPR", "largest completeness gap"} <= set(report.df()["quantity"])


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 999), st.floats(0.02, 0.9))
def test_random_circuits_match_size_and_degree(seed: int, share: float) -> None:
    """As many edges between each pair of layers as the circuit has; unmatched ones have the size alone."""
    graph = Graph(3, 4, 2, parallel=False, attn_only=False)
    mask = graph.real & (torch.rand(graph.real.shape, generator=torch.Generator().manual_seed(seed)) < share)
    circuit, blocks = Circuit(graph, mask), layer_blocks(graph)
    for other in circuits.random_circuits(circuit, 3, seed=seed):
        assert not (other.mask & ~graph.real).any()
        assert torch.equal(torch.bincount(blocks[other.mask], minlength=99), torch.bincount(blocks[mask], minlength=99))
        assert from_layer_to_layer(other) == from_layer_to_layer(circuit)
    assert all(c.n_edges == circuit.n_edges for c in circuits.random_circuits(circuit, 3, seed=seed, matched=False))


def from_layer_to_layer(circuit: Circuit) -> Counter[tuple[int, int]]:
    """How many edges lead from each layer to each, read off the edges themselves: -1 is the input, 99 the logits."""
    return Counter((getattr(edge.writer, "layer", -1), getattr(edge.port.node, "layer", 99)) for edge in circuit.edges)
