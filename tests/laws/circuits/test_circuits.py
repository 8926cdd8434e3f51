"""Laws 37, 40, 41 and the algebra around circuits: selection, faithfulness, uncertainty, pruning."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import pytest
import slow_twins as slow
import torch
from hypothesis import given, settings, strategies as st
from tiny import ALL, Tiny, close, one_of_each, over, prompts

from llmtrace import circuits, interventions
from llmtrace.circuits import Circuit, EdgeScores, Graph, evaluate, run_circuit, select
from llmtrace.circuits.selection.select import greedy_edges, top_edges
from llmtrace.errors import NotFoundError
from llmtrace.nodes import Edge, Head, Logits, Mlp, Node, Port
from llmtrace.statistics import bootstrap_interval, bootstrap_samples

ABLATIONS = ("resample", "zero", "mean")
SHAPES = (
    Graph(2, 2, 2, parallel=False, attn_only=False),
    Graph(2, 4, 2, parallel=False, attn_only=False),
    Graph(3, 2, 1, parallel=True, attn_only=False),
    Graph(3, 2, 2, parallel=False, attn_only=True),
)
graphs = st.sampled_from(SHAPES)
seeds = st.integers(0, 2**31)
few = settings(max_examples=40, deadline=None)


def magnitudes(graph: Graph, seed: int) -> torch.Tensor:
    """Random sizes without ties, in no order at all."""
    order = torch.randperm(graph.real.numel(), generator=torch.Generator().manual_seed(seed)).view_as(graph.real)
    return (order + 1.0).double() * graph.real


def scores_of(graph: Graph, values: torch.Tensor) -> EdgeScores:
    return EdgeScores(graph, values[None], "random", "none", {}, "none")


def random_mask(graph: Graph, seed: int, share: float = 0.4) -> torch.Tensor:
    return graph.real & (torch.rand(graph.real.shape, generator=torch.Generator().manual_seed(seed)) < share)


# --- running and judging -----------------------------------------------------------------------------------------


@over(one_of_each)
def test_faithfulness_of_everything_is_one_and_of_nothing_zero(tiny: Tiny) -> None:
    """Law 37, under resample ablation, for the ratio of means and every prompt's own."""
    graph = Graph.of(tiny.model)
    for circuit, value in ((Circuit.full(graph), 1.0), (Circuit.empty(graph), 0.0)):
        report = evaluate(tiny.model, prompts(), circuit, draws=0)
        assert report.faithfulness == pytest.approx(value, abs=tiny.atol)
        close(report.per_prompt, torch.full((len(prompts()),), value), 100 * tiny.atol)


@pytest.mark.parametrize("ablation", ["zero", "mean"])
def test_faithfulness_has_its_ends_under_every_ablation(ablation: Literal["zero", "mean"]) -> None:
    """Law 37 where nothing left means zeros or means."""
    model, graph = ALL[0].model, Graph.of(ALL[0].model)
    for circuit, value in ((Circuit.full(graph), 1.0), (Circuit.empty(graph), 0.0)):
        assert evaluate(model, prompts(), circuit, ablation=ablation, draws=0).faithfulness == pytest.approx(value)


def test_the_report_by_hand() -> None:
    """f(C) = (m(C) - m(0)) / (m(M) - m(0)) of means, per prompt, of random circuits; and its seeded interval."""
    tiny, p = ALL[0], prompts(padded=True)
    graph = Graph.of(tiny.model)
    circuit = Circuit(graph, random_mask(graph, 5))
    report = evaluate(tiny.model, p, circuit, draws=3, seed=4)
    alone = run_circuit(tiny.model, p, circuit)
    whole, nothing = slow.metric_of_run(tiny.model, p), slow.metric_of_run(tiny.model, p, tokens=p.corrupted)
    for got, by_hand in ((report.alone, alone), (report.model, whole), (report.empty, nothing)):
        close(got, by_hand, tiny.atol)
    assert report.faithfulness == pytest.approx(
        float((alone.mean() - nothing.mean()) / (whole.mean() - nothing.mean()))
    )
    ratios = sorted(((alone - nothing) / (whole - nothing)).tolist())
    assert report.quartiles == pytest.approx((ratios[1], ratios[2], ratios[3]))
    drawn = circuits.random_circuits(circuit, 3, seed=4)
    assert [c.n_edges for c in drawn] == [circuit.n_edges] * 3 and not torch.equal(drawn[0].mask, drawn[1].mask)
    for row, other in zip(report.random, drawn, strict=True):
        assert not (other.mask & ~graph.real).any()
        close(row, run_circuit(tiny.model, p, other), tiny.atol)
    low, high = report.interval()
    draws = bootstrap_samples(len(p), seed=4)
    ratios_of_draws = torch.stack(
        [(alone[d].mean() - nothing[d].mean()) / (whole[d].mean() - nothing[d].mean()) for d in draws]
    )
    assert low == pytest.approx(float(ratios_of_draws.quantile(0.025))) and low < high
    assert high == pytest.approx(float(ratios_of_draws.quantile(0.975)))
    again = evaluate(tiny.model, p, circuit, draws=3, seed=4)
    assert again.interval() == (low, high) and torch.equal(again.random, report.random)
    assert not torch.equal(evaluate(tiny.model, p, circuit, draws=3, seed=5).random, report.random)


@over(one_of_each)
def test_pruning_leaves_outputs_unchanged(tiny: Tiny) -> None:
    """Law 41: nodes without a path to the logits may go, under every ablation, and something does go here."""
    graph, p = Graph.of(tiny.model), prompts()
    dead = random_mask(graph, 7)
    dead[graph.row[slow.writers(tiny.model)[-1]]] = False  # a node that nobody reads, but which reads others
    circuit = Circuit(graph, dead)
    pruned = circuit.pruned()
    assert pruned <= circuit and pruned.n_edges < circuit.n_edges
    for ablation in ABLATIONS:
        close(
            run_circuit(tiny.model, p, pruned, ablation=ablation),
            run_circuit(tiny.model, p, circuit, ablation=ablation),
            tiny.atol,
        )


def test_a_node_without_inputs_still_writes_its_biases() -> None:
    """Law 41, where it stops: such a node is kept, because under zero ablation leaving it out changes the output."""
    tiny = next(t for t in ALL if t.family.name == "gpt2")
    graph, node = Graph.of(tiny.model), Mlp(1)
    circuit = Circuit.of(graph, [Edge(node, Port(Logits()))])
    assert circuit.pruned().n_edges == 1
    kept, gone = (run_circuit(tiny.model, prompts(), c, ablation="zero") for c in (circuit, Circuit.empty(graph)))
    assert (kept - gone).abs().max() > 1e-3


# --- selection ---------------------------------------------------------------------------------------------------


@few
@given(graphs, seeds, st.integers(1, 60))
def test_greedy_selection_is_a_rescan(graph: Graph, seed: int, n: int) -> None:
    """The heap gives what looking at every edge again at every step gives."""
    sizes = magnitudes(graph, seed)
    got = greedy_edges(graph, sizes, n)
    assert set(graph.edges(got)) == slow.greedy(graph, sizes, n)


@few
@given(graphs, seeds, st.integers(1, 40), st.integers(1, 40))
def test_circuits_of_growing_size_are_nested(graph: Graph, seed: int, n: int, more: int) -> None:
    """Law 40, for top n (with ties too) and for greedy growth."""
    more = min(n + more, graph.n_edges)
    for sizes in (magnitudes(graph, seed), magnitudes(graph, seed) // 7):
        small, large = top_edges(graph, sizes, min(n, more)), top_edges(graph, sizes, more)
        assert not (small & ~large).any() and int(large.sum()) == more and not (large & ~graph.real).any()
        assert sizes[small].min() >= sizes[graph.real & ~small].max()
        small, large = greedy_edges(graph, sizes, min(n, more)), greedy_edges(graph, sizes, more)
        assert not (small & ~large).any()


@few
@given(graphs, seeds, st.integers(1, 60))
def test_nothing_dangles(graph: Graph, seed: int, n: int) -> None:
    """What selection hands over, greedy or pruned, has a path to the logits for every writer."""
    scores = scores_of(graph, magnitudes(graph, seed) * (1 - 2 * (torch.arange(graph.real.shape[1]) % 2)))
    for selection in ("top", "greedy"):
        circuit = select(scores, min(n, graph.n_edges), selection=selection)
        assert torch.equal(circuit.pruned().mask, circuit.mask)
        assert {str(node) for node in circuit.nodes} == reaching(circuit)
        assert circuit.n_edges == len(circuit.edges) <= n
    assert select(scores, graph.n_edges, selection="top").n_edges == graph.n_edges


def reaching(circuit: Circuit) -> set[str]:
    """Writers with a path to the logits, by walking backwards edge by edge."""
    reached: set[Node] = set()
    open_ports, edges = {Port(Logits())}, list(circuit.edges)
    while True:
        new = {e.writer for e in edges if e.port in open_ports} - reached
        if not new:
            return {str(node) for node in reached}
        reached |= new
        graph = circuit.graph
        open_ports |= {port for port in graph.ports if {graph.nodes[row] for row in graph.writer_of(port)} & new}


# --- circuits as sets --------------------------------------------------------------------------------------------


@few
@given(graphs, seeds, seeds)
def test_circuits_are_sets_of_edges(graph: Graph, one: int, other: int) -> None:
    """Union, intersection, difference and inclusion are those of the edge sets; names go there and back."""
    a, b = Circuit(graph, random_mask(graph, one)), Circuit(graph, random_mask(graph, other))
    edges = [set(map(str, circuit.edges)) for circuit in (a, b)]
    assert set(map(str, (a | b).edges)) == edges[0] | edges[1]
    assert set(map(str, (a & b).edges)) == edges[0] & edges[1]
    assert set(map(str, (a - b).edges)) == edges[0] - edges[1]
    assert (a <= b) == (edges[0] <= edges[1]) and a <= (a | b) and (a & b) <= a
    assert torch.equal(Circuit.of(graph, edges[0]).mask, a.mask)
    assert all(edge in a for edge in edges[0]) and not any(edge in (b - a) for edge in edges[0])


@pytest.mark.parametrize("graph", SHAPES, ids=str)
def test_a_circuit_comes_back_from_its_file(graph: Graph, tmp_path: Path) -> None:
    """Saved and loaded: the same edges of the same graph, with scores and roles."""
    sizes = magnitudes(graph, 3)
    circuit = select(scores_of(graph, sizes), 9, selection="greedy")
    again = Circuit.load(file := circuit.save(tmp_path / "circuit.json"))
    assert set(json.loads(file.read_text())) <= set(circuits.circuit_json_schema()["properties"])
    assert again.graph == graph and torch.equal(again.mask, circuit.mask)
    assert again.scores is not None
    torch.testing.assert_close(again.scores[again.mask].double(), sizes[circuit.mask])


# --- uncertainty -------------------------------------------------------------------------------------------------


@few
@given(st.lists(st.floats(-5, 5), min_size=2, max_size=9), st.integers(0, 99))
def test_the_bootstrap_is_the_bootstrap(numbers: list[float], seed: int) -> None:
    """Interval = percentiles of resampled means, by loops; the same seed gives the same interval; a shift shifts it."""
    values = torch.tensor(numbers, dtype=torch.float64)
    low, high = bootstrap_interval(values, draws=60, seed=seed)
    means = slow.bootstrap_means(values, bootstrap_samples(len(values), draws=60, seed=seed))
    torch.testing.assert_close(
        torch.stack([low, high]), means.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64))
    )
    assert bootstrap_interval(values, draws=60, seed=seed) == (low, high)
    shifted = bootstrap_interval(values + 3, draws=60, seed=seed)
    torch.testing.assert_close(torch.stack(shifted), torch.stack([low, high]) + 3)
    assert values.min() - 1e-9 <= low <= high <= values.max() + 1e-9


def test_intervals_of_effects_are_those_of_their_prompts() -> None:
    """`Effects.interval` is the bootstrap of the change, node by node, and does not move between calls."""
    effects = interventions.path_patch(ALL[0].model, prompts())
    low, high = effects.interval(seed=3)
    for i, change in enumerate(effects.change):
        expected = bootstrap_interval(change, seed=3)
        assert float(low[i]) == pytest.approx(float(expected[0])) and float(high[i]) == pytest.approx(
            float(expected[1])
        )
    assert torch.equal(effects.interval(seed=3)[0], low) and not torch.equal(effects.interval(seed=4)[0], low)


def test_normalised_effects_by_hand() -> None:
    """Mean change as a share of the whole way from clean to corrupted: 1 for everything, 0 for nothing."""
    effects = interventions.path_patch(ALL[0].model, prompts(), convention="all_frozen")
    assert effects.other is not None
    whole = (effects.other - effects.before).mean()
    torch.testing.assert_close(effects.normalised(), effects.change.mean(1) / whole)
    nodes, sizes = zip(*effects.top(3), strict=True)
    order = sorted(range(len(effects.nodes)), key=lambda i: -abs(float(effects.change[i].mean())))
    assert list(nodes) == [effects.nodes[i] for i in order[:3]]
    assert sizes == pytest.approx([float(effects.change[i].mean()) for i in order[:3]])


def test_a_circuit_of_nodes_has_every_edge_between_them() -> None:
    """Heads of a group share their keys and values; all nodes are the whole graph, none the edge input -> logits."""
    graph = Graph(2, 4, 2, parallel=False, attn_only=False)
    circuit = Circuit.of_nodes(graph, [Head(0, 1), "m0", "a1.h2"])
    names = {str(edge) for edge in circuit.edges}
    assert {"input->a0.kv0<k>", "a0.h1->m0", "m0->a1.kv1<v>", "a0.h1->a1.h2<q>", "a1.h2->logits"} <= names
    assert not any("a0.h2" in name or "a1.h3" in name or "a1.kv0" in name or "m1" in name for name in names)
    assert Circuit.of_nodes(graph, graph.nodes).n_edges == graph.n_edges
    assert [str(edge) for edge in Circuit.of_nodes(graph, []).edges] == ["input->logits"]
    with pytest.raises(NotFoundError):
        Circuit.of_nodes(graph, ["a7.h0"])
