"""Laws 23-28: the graph, and running a model in which some edges carry another run."""

from __future__ import annotations

import pytest
import slow_twins as slow
import torch
from slow_twins import metric_of_run, replace
from tiny import (
    ALL,
    FAMILIES,
    POST_NORM,
    REST,
    WIDE,
    Family,
    Tiny,
    close,
    no_norm,
    one_of_each,
    over,
    prompts,
    some_nodes,
)

from llmtrace import circuits, interventions, models, signals
from llmtrace.circuits import Circuit, Graph, run_circuit
from llmtrace.circuits.running.circuit_pass import circuit_residuals
from llmtrace.errors import UnsupportedError
from llmtrace.interventions import Mean
from llmtrace.nodes import Edge, Embed, Head, KvHead, Logits, Mlp, Port, parse_edge, parse_port

ABLATIONS = ("resample", "zero", "mean")
# Whole graphs, port by port: annotations, two thirds of the time, are checked where test_paths goes the same ways.
pytestmark = pytest.mark.usefixtures("as_users_run")
EVERY = [*ALL, *WIDE, *POST_NORM, *REST[-1:]]  # graphs stand on each kind of attention, and on post-norm models too


def clean_value(tiny: Tiny, padded: bool = True) -> torch.Tensor:
    return metric_of_run(tiny.model, prompts(padded=padded))


def without(tiny: Tiny, chosen: object) -> Circuit:
    """The circuit of all edges but those that `chosen(writer, port)` picks."""
    graph = Graph.of(tiny.model)
    gone = [edge for edge in graph.edges() if chosen(edge.writer, edge.port)]  # type: ignore[operator]
    assert gone
    return Circuit.full(graph) - Circuit.of(graph, gone)


def some_circuit(tiny: Tiny, seed: int, share: float = 0.5) -> Circuit:
    graph = Graph.of(tiny.model)
    keep = torch.rand(graph.real.shape, generator=torch.Generator().manual_seed(seed)) < share
    return Circuit(graph, graph.real & keep)


@over()
def test_the_graph_holds_every_pair_that_computes_in_order(tiny: Tiny) -> None:
    """Law 28: edges, writers and ports against brute force over all pairs, and the closed formula of `graph.py`."""
    graph, arch = Graph.of(tiny.model), models.describe(tiny.model)
    by_hand = slow.all_edges(tiny.model)
    assert set(graph.edges()) == set(by_hand) and graph.n_edges == len(by_hand)
    assert set(graph.nodes) == set(slow.writers(tiny.model)) and set(graph.ports) == set(slow.ports(tiny.model))
    for edge in by_hand:
        row, column = graph.index(edge)
        assert graph.nodes[row] == edge.writer and graph.ports[column] == edge.port
        assert parse_edge(str(edge)) == edge
    per_layer = arch.n_heads + (0 if arch.attn_only else 1)
    total = 0
    for layer in range(arch.n_layers):
        before = 1 + per_layer * layer
        total += (arch.n_heads + 2 * arch.n_kv_heads) * before
        if not arch.attn_only:
            total += before + (0 if arch.parallel else arch.n_heads)
    assert graph.n_edges == total + 1 + per_layer * arch.n_layers


@pytest.mark.parametrize(
    ("layers", "heads", "kv_heads", "edges"), [(12, 12, 12, 32491), (30, 9, 3, 70651), (32, 32, 8, 805681)]
)
def test_published_edge_counts(layers: int, heads: int, kv_heads: int, edges: int) -> None:
    """Law 28: GPT-2 small, SmolLM2-135M, the shape of Llama-3-8B."""
    assert Graph(layers, heads, kv_heads, parallel=False, attn_only=False).n_edges == edges


@over(among=EVERY)
def test_what_removed_edges_carry(tiny: Tiny) -> None:
    """The corrupted run's writes, nothing, or their mean per position and template group."""
    p, graph = prompts(padded=True), Graph.of(tiny.model)
    removed = {ablation: circuits.background(tiny.model, p, ablation).writes for ablation in ABLATIONS}
    for node in some_nodes(tiny):
        write, row = slow.write_of(tiny.model, p.corrupted, node), graph.row[node]
        close(removed["resample"][row], write, tiny.atol)
        close(removed["mean"][row][p.mask], slow.means(write, p)[p.mask], tiny.atol)
        assert not removed["zero"][row].any()


@over(among=EVERY)
def test_a_circuit_run_equals_its_slow_twin(tiny: Tiny) -> None:
    """A random half of the edges, at every position: each port's input is summed by hand and handed to the model."""
    p, graph = prompts(padded=True), Graph.of(tiny.model)
    circuit = some_circuit(tiny, seed=3)
    gone = {node: slow.write_of(tiny.model, p.corrupted, node) for node in slow.writers(tiny.model)}
    by_hand = slow.run_edges(tiny.model, p.clean, gone, lambda u, v: float(Edge(u, v) not in circuit))
    ground = circuits.background(tiny.model, p)
    masks = torch.stack([graph.real, circuit.mask])
    got = circuit_residuals(tiny.model, masks, models.embedding(tiny.model, p.clean), ground)[1]
    close(got[p.mask], by_hand[p.mask], 10 * tiny.atol)
    value = run_circuit(tiny.model, p, circuit)
    close(value, slow.logit_diff(slow.unembedded(tiny.model, by_hand), p), 10 * tiny.atol)
    close(run_circuit(tiny.model, p, circuit, ablation=ground), value, tiny.atol)
    assert (value - clean_value(tiny)).abs().max() > 1e-3


@over(one_of_each, among=EVERY)
@pytest.mark.parametrize("ablation", ["zero", "mean", Mean("global", "clean"), Mean("position")], ids=str)
def test_a_circuit_run_with_other_ablations(tiny: Tiny, ablation: str | Mean) -> None:
    """The slow twin with zeros or means in place of what the removed edges say; few edges, so that many nodes idle."""
    p, circuit = prompts(padded=True), some_circuit(tiny, seed=4, share=0.15)
    ground = circuits.background(tiny.model, p, ablation)
    gone = {node: ground.writes[row] for row, node in enumerate(circuit.graph.nodes)}
    by_hand = slow.run_edges(tiny.model, p.clean, gone, lambda u, v: float(Edge(u, v) not in circuit))
    value = run_circuit(tiny.model, p, circuit, ablation=ablation)
    close(value, slow.logit_diff(slow.unembedded(tiny.model, by_hand), p), 10 * tiny.atol)
    assert (value - run_circuit(tiny.model, p, circuit)).abs().max() > 1e-3


@over(one_of_each, among=EVERY)
@pytest.mark.parametrize("ablation", ABLATIONS)
def test_writers_that_every_port_reads_are_one_sum(tiny: Tiny, ablation: str) -> None:
    """The slow twin where writers take turns: every port reads the first, half of them the second, none the third."""
    p, some = prompts(padded=True), some_circuit(tiny, seed=5)
    turn = torch.arange(len(some.graph.nodes)) % 3
    mask = some.graph.real & (some.mask | (turn == 0)[:, None]) & (turn < 2)[:, None]
    circuit = Circuit(some.graph, mask)
    ground = circuits.background(tiny.model, p, ablation)
    gone = {node: ground.writes[row] for row, node in enumerate(circuit.graph.nodes)}
    by_hand = slow.run_edges(tiny.model, p.clean, gone, lambda u, v: float(Edge(u, v) not in circuit))
    value = run_circuit(tiny.model, p, circuit, ablation=ablation)
    close(value, slow.logit_diff(slow.unembedded(tiny.model, by_hand), p), 10 * tiny.atol)


@over(among=EVERY)
def test_the_two_ends(tiny: Tiny) -> None:
    """Law 23: no edge patched = clean; all edges = the corrupted run; all edges into the logits = corrupted logits;
    all edges out of the input = the corrupted run."""
    p, graph = prompts(padded=True), Graph.of(tiny.model)
    other = metric_of_run(tiny.model, p, tokens=p.corrupted)
    assert (other - clean_value(tiny)).abs().min() > 1e-3
    for ablation in ABLATIONS:
        close(run_circuit(tiny.model, p, Circuit.full(graph), ablation=ablation), clean_value(tiny), tiny.atol)
    close(run_circuit(tiny.model, p, Circuit.empty(graph)), other, tiny.atol)
    close(run_circuit(tiny.model, p, without(tiny, lambda u, v: v == Port(Logits()))), other, tiny.atol)
    close(run_circuit(tiny.model, p, without(tiny, lambda u, v: u == Embed())), other, tiny.atol)


@over(one_of_each)
def test_all_edges_out_of_a_node_are_the_node(tiny: Tiny) -> None:
    """Law 24: patching every edge out of u = patching what u writes."""
    p = prompts(padded=True)
    for node in some_nodes(tiny):
        by_hand = slow.ablated(tiny.model, p, [node], ablation="resample")
        close(run_circuit(tiny.model, p, Circuit.full(Graph.of(tiny.model)).without(node)), by_hand, tiny.atol)


@over(one_of_each)
def test_all_edges_into_a_head_are_its_corrupted_output(tiny: Tiny) -> None:
    """Law 25: patching every edge into q, k, v of a head (of a group, where k and v are shared) = patching its z."""
    p, arch = prompts(padded=True), models.describe(tiny.model)
    for layer, kv_head in ((0, 0), (arch.n_layers - 1, arch.n_kv_heads - 1)):
        group = [Head(layer, kv_head * arch.group + i) for i in range(arch.group)]
        readers = {*group, KvHead(layer, kv_head)}
        circuit = without(tiny, lambda u, v, readers=readers: v.node in readers)
        by_hand = slow.ablated(tiny.model, p, list(group), ablation="resample")
        close(run_circuit(tiny.model, p, circuit), by_hand, tiny.atol)


@over(one_of_each, among=EVERY)
def test_all_edges_into_an_mlp_are_its_corrupted_output(tiny: Tiny) -> None:
    """Law 25 for MLPs (and, in an attention-only model, nothing to do: its graph has no such port)."""
    p = prompts(padded=True)
    for layer in range(0 if tiny.family.attn_only else tiny.family.n_layers):
        circuit = without(tiny, lambda u, v, layer=layer: v == Port(Mlp(layer)))
        close(
            run_circuit(tiny.model, p, circuit),
            slow.ablated(tiny.model, p, [Mlp(layer)], ablation="resample"),
            tiny.atol,
        )


@over(no_norm)
def test_direct_effects_add_up_without_a_final_norm(tiny: Tiny) -> None:
    """Law 26: the direct effects of all heads, MLPs and the input = the whole change, when nothing else moves."""
    p = prompts(padded=True)
    effects = interventions.path_patch(tiny.model, p, senders=slow.writers(tiny.model), convention="all_frozen")
    assert effects.other is not None
    close(effects.change.sum(0), effects.other - effects.before, 10 * tiny.atol)


@over()
def test_direct_changes_add_up_under_a_frozen_final_norm(tiny: Tiny) -> None:
    """Law 26 with a norm: the frozen norm of every node's change adds up to that of the whole change."""
    p, norm = prompts(), models.final_norm(tiny.model)
    clean, corrupted = (signals.node_writes(tiny.model, p.side(side)) for side in ("clean", "corrupted"))
    scale = norm.scale(clean.final)
    parts = norm.frozen(corrupted.values - clean.values, scale).sum(0)
    close(parts, norm.frozen(corrupted.final - clean.final, scale), 10 * tiny.atol)


@over(one_of_each)
def test_direct_path_patching_is_patching_the_edge_into_the_logits(tiny: Tiny) -> None:
    """Two ways to one number: `path_patch(convention="all_frozen")` of u = the circuit without u->logits."""
    p, senders = prompts(padded=True), [Embed(), *some_nodes(tiny)]
    effects = interventions.path_patch(tiny.model, p, senders=senders, convention="all_frozen")
    for i, sender in enumerate(senders):
        circuit = without(tiny, lambda u, v, sender=sender: u == sender and v == Port(Logits()))
        close(run_circuit(tiny.model, p, circuit), effects.after[i], tiny.atol)


@over()
def test_removing_nothing_is_a_no_op(tiny: Tiny) -> None:
    """Law 27: a circuit less no node, and less an edge set that is empty, is the full circuit (which is the clean run:
    law 23)."""
    full = Circuit.full(Graph.of(tiny.model))
    for circuit in (full.without(), full - Circuit.empty(full.graph), full | Circuit.empty(full.graph)):
        assert torch.equal(circuit.mask, full.mask)


@over(among=POST_NORM)
def test_post_norm_models_are_refused(tiny: Tiny) -> None:
    """Where writes pass a norm before the stream, sums of writes would be silently wrong (graphs take what arrives)."""
    for refused in (
        lambda: interventions.path_patch(tiny.model, prompts()),
        lambda: signals.node_writes(tiny.model, prompts().clean),
    ):
        with pytest.raises(UnsupportedError):
            refused()


@pytest.mark.parametrize("family", FAMILIES, ids=[family.name for family in FAMILIES])
def test_every_name_of_a_graph_can_be_read_back(family: Family) -> None:
    """Names are one to one with places, for every shape of graph."""
    graph = Graph.of(next(tiny for tiny in ALL if tiny.family == family).model)
    assert len({str(port) for port in graph.ports}) == len(graph.ports)
    assert all(parse_port(str(port)) == port for port in graph.ports)


def test_a_hook_on_one_stream_is_all_edges_of_it() -> None:
    """Law 15 by edges: every edge out of what comes before layer 1 = patching resid_pre of layer 1, in a model whose
    biases do not depend on the run."""
    tiny = next(tiny for tiny in ALL if tiny.family.name == "gpt2")
    p, name = prompts(), "blocks.1.hook_resid_pre"
    stream = slow.read(tiny.model, p.corrupted, [name])[name]
    by_hand = metric_of_run(tiny.model, p, [replace(name, stream)])
    circuit = without(tiny, lambda u, v: getattr(u, "layer", 0) < 1 and getattr(v.node, "layer", 9) >= 1)
    close(run_circuit(tiny.model, p, circuit), by_hand, tiny.atol)
