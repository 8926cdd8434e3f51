"""Graphs that tell positions apart: the same laws, span by span, on prompts of two lengths."""

from __future__ import annotations

from pathlib import Path

import pytest
import slow_twins as slow
import torch
from tiny import (
    ALL,
    FIRST_DIFFERENCE,
    HOOKED_EXISTS,
    POST_NORM,
    Tiny,
    close,
    has_mlp,
    hooked,
    one_of_each,
    over,
    prompts,
)

from llmtrace import circuits
from llmtrace.circuits import Circuit, EdgeScores, Graph, run_circuit
from llmtrace.circuits.running.span_columns import span_of
from llmtrace.errors import NotFoundError, UnsupportedError
from llmtrace.nodes import Edge, Logits, parse_edge

SPANS = ("MID", "END")
EVERY = [*ALL, *POST_NORM]
LLAMA = next(tiny for tiny in ALL if tiny.family.name == "llama")


def spanned(tiny: Tiny) -> Graph:
    return Graph.of(tiny.model, spans=SPANS)


def by_hand(position: int, end: int) -> str:
    """The span of a token: MID is at 3 in every prompt."""
    return "END" if position >= end else "MID" if position >= 3 else "start"


@over(one_of_each)
def test_an_edge_for_each_span(tiny: Tiny) -> None:
    """Three times the edges but those into the logits; names go there and back."""
    graph, bare = spanned(tiny), Graph.of(tiny.model)
    into_logits = len(bare.nodes)
    assert graph.n_edges == 3 * (bare.n_edges - into_logits) + into_logits
    assert graph.without_spans == bare and graph.spans == ("start", *SPANS)
    for edge in graph.edges():
        row, column = graph.index(parse_edge(str(edge)))
        assert graph.ports[column] == edge.port and (edge.port.span is None) == isinstance(edge.port.node, Logits)
        assert str(bare.ports[int(graph.ports_of_columns[column])]) == str(edge.port).partition("@")[0]
        assert bool(bare.real[row, graph.ports_of_columns[column]])


def test_where_a_span_is() -> None:
    """From its position to the next one, whatever their order in the prompt; positions by number are spans of one."""
    p = prompts(padded=True)
    of = span_of(spanned(LLAMA), p)
    assert of is not None
    names = [[("start", *SPANS)[i] for i in row] for row in of.tolist()]
    for found, n in zip(names, p.lengths.tolist(), strict=True):
        assert found[:n] == [by_hand(t, n - 1) for t in range(n)]
    one_each = span_of(Graph.of(LLAMA.model, spans=range(5)), p)
    assert one_each is not None and [row[:n] for row, n in zip(one_each.tolist(), p.lengths, strict=True)] == [
        [0, 1, 2, 3, 4, 4, 4][:n] for n in p.lengths
    ]
    assert span_of(Graph.of(LLAMA.model), p) is None
    with pytest.raises(NotFoundError, match="named position"):
        circuits.eap(LLAMA.model, p, graph=Graph.of(LLAMA.model, spans=["S2"]))


@over(one_of_each, among=EVERY)
def test_a_circuit_run_equals_its_slow_twin(tiny: Tiny) -> None:
    """A random half of the edges of every span, each port's input summed by hand, position by position."""
    p, graph = prompts(padded=True), spanned(tiny)
    mask = graph.real & (torch.rand(graph.real.shape, generator=torch.Generator().manual_seed(5)) < 0.5)
    gone = {node: slow.write_of(tiny.model, p.corrupted, node) for node in slow.writers(tiny.model)}

    def removed(u: object, v: object) -> torch.Tensor:
        def at(position: int, end: int) -> float:
            span = "" if isinstance(v.node, Logits) else f"@{by_hand(position, end)}"  # type: ignore[attr-defined]
            return float(not mask[graph.index(parse_edge(f"{Edge(u, v)}{span}"))])  # type: ignore[arg-type]

        rows = [[at(t, int(n) - 1) for t in range(7)] for n in p.lengths]
        return torch.tensor(rows, dtype=tiny.model.W_E.dtype)[:, :, None]

    expected = slow.run_edges(tiny.model, p.clean, gone, removed)
    value = run_circuit(tiny.model, p, Circuit(graph, mask))
    close(value, slow.logit_diff(slow.unembedded(tiny.model, expected), p), 10 * tiny.atol)


@over(one_of_each, among=EVERY)
@pytest.mark.parametrize("ablation", ["resample", "zero"])
def test_all_spans_together_are_the_graph_without(tiny: Tiny, ablation: str) -> None:
    """A circuit with all spans of its edges is the circuit; first-order scores add up; no edge is pruned in vain."""
    p, graph, bare = prompts(padded=True), spanned(tiny), Graph.of(tiny.model)
    half = bare.real & (torch.rand(bare.real.shape, generator=torch.Generator().manual_seed(3)) < 0.5)
    everywhere = Circuit(graph, half[:, graph.ports_of_columns])
    close(
        run_circuit(tiny.model, p, everywhere, ablation=ablation),
        run_circuit(tiny.model, p, Circuit(bare, half), ablation=ablation),
        tiny.atol,
    )
    assert torch.equal(everywhere.without_spans().mask, half)
    assert torch.equal(everywhere.pruned().without_spans().mask, Circuit(bare, half).pruned().mask)


@over(one_of_each, among=EVERY)
def test_gradient_scores_add_up_over_spans(tiny: Tiny) -> None:
    """Per prompt; a span that ends before the runs differ scores exactly 0."""
    p, graph = prompts(padded=True), Graph.of(tiny.model, spans=(0, FIRST_DIFFERENCE, "END"))
    for method in (circuits.eap, circuits.eap_ig, circuits.eap_ig_activations, circuits.clean_corrupted):
        found = method(tiny.model, p, graph=graph)
        close(found.without_spans().per_prompt, method(tiny.model, p).per_prompt, tiny.atol)
        early = torch.tensor([port.span == "0" for port in graph.ports])
        assert not found.per_prompt[:, :, early].any() and found.per_prompt[:, :, ~early].any()


@over(one_of_each, has_mlp, lambda tiny: hooked(tiny) or not HOOKED_EXISTS)
def test_flow_shares_are_those_of_a_graph_of_positions(tiny: Tiny) -> None:
    """IFR: the mean over a prompt's positions is the mean over its spans, weighted by their tokens."""
    p = prompts()
    found = circuits.ifr(tiny.model, p, graph=Graph.of(tiny.model, spans=range(7))).without_spans().per_prompt
    whole = circuits.ifr(tiny.model, p).per_prompt
    close(found[:, :, :-1] / 7, whole[:, :, :-1], tiny.atol)
    close(found[:, :, -1], whole[:, :, -1], tiny.atol)


@pytest.mark.usefixtures("as_users_run")
def test_acdc_decides_as_the_sequential_loop_does() -> None:
    """Edge by edge and span by span."""
    p, graph, tau = prompts(padded=True), Graph.of(LLAMA.model, spans=["END"]), 0.05
    mask = graph.real.clone()
    current = run_circuit(LLAMA.model, p, Circuit(graph, mask)).mean()
    ground = circuits.background(LLAMA.model, p, graph=graph)
    for column in reversed(range(len(graph.ports))):
        for row in reversed(graph.real[:, column].nonzero().flatten().tolist()):
            less = mask.clone()
            less[row, column] = False
            new = run_circuit(LLAMA.model, p, Circuit(graph, less), ablation=ground).mean()
            if abs(new - current) < tau:
                mask, current = less, new
    scores = circuits.acdc(LLAMA.model, p, graph=graph, tau=tau)
    assert torch.equal((scores.values.abs() >= tau) & graph.real, mask) and 0 < mask.sum() < graph.n_edges


def test_exact_scores_and_files(tmp_path: Path) -> None:
    """The score of one edge at one span is the change when it alone is gone; files keep the spans; formats without
    positions refuse them."""
    p, graph = prompts(padded=True), spanned(LLAMA)
    scores: EdgeScores = circuits.exact(LLAMA.model, p, graph=graph)
    edge = parse_edge("input->m0@MID")
    without = Circuit.full(graph) - Circuit.of(graph, [edge])
    clean = run_circuit(LLAMA.model, p, Circuit.full(graph))
    close(scores.of(edge), run_circuit(LLAMA.model, p, without) - clean, LLAMA.atol)
    circuit = circuits.select(scores, 30)
    again = Circuit.load(circuit.save(tmp_path / "circuit.json"))
    assert again.graph == graph and torch.equal(again.mask, circuit.mask)
    report = circuits.evaluate(LLAMA.model, p, again, draws=2)
    assert report.circuit.n_edges == circuit.n_edges
    with pytest.raises(UnsupportedError, match="spans start, MID, END"):
        circuits.export_circuit(circuit, tmp_path / "circuit.dot")
    with pytest.raises(UnsupportedError, match="QK fix"):
        circuits.atp_star(LLAMA.model, p, graph=graph)
