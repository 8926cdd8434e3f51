"""Neurons as nodes of the edge graph: an MLP taken apart is still that MLP, and each part reads and writes alone."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import slow_twins as slow
import torch
from tiny import (
    ALL,
    ATTN_ONLY,
    GEMMA2,
    HOOKED_EXISTS,
    POST_NORM,
    WIDE,
    Tiny,
    close,
    has_mlp,
    hooked,
    one_of_each,
    over,
    prompts,
    random_weights,
)

from llmtrace import circuits, interventions
from llmtrace.circuits import FORMATS, Circuit, Graph, export_circuit, import_circuit, run_circuit
from llmtrace.circuits.running.circuit_pass import soft_residual
from llmtrace.circuits.running.run_circuit import run_masks
from llmtrace.errors import InputError, UnsupportedError
from llmtrace.models import describe, embedding, final_residual, load
from llmtrace.nodes import Edge, Head, Logits, Mlp, Neuron, Node, Port, parse_edge, parse_port
from llmtrace.prompts import metric_of
from llmtrace.signals import node_writes

NEURONS = (Neuron(0, 5), Neuron(1, 0), Neuron(1, 17))
LLAMA = next(tiny for tiny in ALL if tiny.family.name == "llama")
NEOX = next(tiny for tiny in ALL if tiny.family.name == "neox")
PLAIN = next(tiny for tiny in ALL if tiny.family.name == "plain")
# Two heads a layer, for what runs a circuit per edge
SMALL = Tiny(
    replace(PLAIN.family, name="small", source=random_weights(2, 2, mlp=True), n_heads=2, kv_heads=2),
    PLAIN.backend,
    False,
)
FASTEST = [tiny for tiny in ALL if hooked(tiny)] or ALL  # runs of a bridge cost ten times as much
GRADIENTS = (circuits.eap, circuits.eap_ig, circuits.eap_ig_activations, circuits.clean_corrupted)


def split(tiny: Tiny, **options: object) -> Graph:
    return Graph.of(tiny.model, neurons=NEURONS, **options)  # type: ignore[arg-type]


def half(graph: Graph, seed: int = 5) -> torch.Tensor:
    return graph.real & (torch.rand(graph.real.shape, generator=torch.Generator().manual_seed(seed)) < 0.5)


def as_parts(graph: Graph, mask: torch.Tensor) -> torch.Tensor:
    """A mask of the graph without neurons, every edge of an MLP kept in all of its parts."""
    whole = graph.without_neurons

    def of(node: Node) -> Node:
        return Mlp(node.layer) if isinstance(node, Neuron) else node

    rows = [whole.row[of(node)] for node in graph.nodes]
    columns = [whole.column[replace(port, node=of(port.node))] for port in graph.ports]  # type: ignore[type-var]
    return mask[rows][:, columns]


# --- the shape ---------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("as_users_run")
@over(among=[PLAIN, LLAMA, NEOX])
@pytest.mark.parametrize("spans", [(), ("MID", "END")])
def test_neurons_follow_their_mlp(tiny: Tiny, spans: tuple[str, ...]) -> None:
    """Rows and columns, all writers before a layer first; edges are the slow twin's; names go there and back."""
    graph, bare = split(tiny, spans=spans), Graph.of(tiny.model, spans=spans)
    assert [str(n) for n in graph.nodes if isinstance(n, Mlp | Neuron)] == ["m0", "m0.n5", "m1", "m1.n0", "m1.n17"]
    for layer in range(graph.n_layers + 1):
        before = graph.before(layer)
        assert all(getattr(node, "layer", -1) < layer for node in graph.nodes[:before])
        assert all(getattr(node, "layer", -1) >= layer for node in graph.nodes[before:])
    for row, writer in enumerate(graph.nodes):
        for column, port in enumerate(graph.ports):
            expected = slow.reads(writer, port, parallel=tiny.family.parallel)
            assert bool(graph.real[row, column]) == expected, f"{writer}->{port}"
    for edge in graph.edges():
        assert parse_edge(str(edge)) == edge and graph.index(edge)
    for neuron in NEURONS:
        columns = graph._columns(neuron.layer, 0, 0), graph.neuron_columns(neuron.layer)
        assert graph.writer_of(Port(neuron)) == [graph.row[neuron]] and columns[1].start > columns[0].start
    assert graph.without_neurons == bare and graph != bare and hash(graph) != hash(bare)
    assert graph.without_spans == split(tiny) and "3 neurons" in repr(graph)


def test_one_graph_from_every_form() -> None:
    model = PLAIN.model
    forms = (list(NEURONS), ["m1.n17", "m0.n5", "m1.n0"], {1: [17, 0], 0: range(5, 6)})
    assert len({Graph.of(model, neurons=form) for form in forms}) == 1  # type: ignore[arg-type]
    graph = Graph.of(model, neurons=NEURONS, spans=["END"])
    assert Graph.from_dict(graph.as_dict()) == graph
    assert Graph.of(describe(model), neurons=NEURONS) == split(PLAIN)
    assert parse_port("m1.n17@END") == Port(Neuron(1, 17), None, "END")


@over(one_of_each, has_mlp)
def test_writes_of_neurons_and_of_the_rest(tiny: Tiny) -> None:
    """Each is what the MLP writes of it alone; together they are the MLP's write."""
    p = prompts()
    parts, whole = node_writes(tiny.model, p.clean, neurons=NEURONS), node_writes(tiny.model, p.clean)
    assert parts.nodes == split(tiny).nodes
    for neuron in NEURONS:
        close(parts.of(neuron), slow.neuron_write(tiny.model, p.clean, neuron), tiny.atol)
    for layer in (0, 1):
        together = sum(parts.of(node) for node in parts.nodes if node in (Mlp(layer), *NEURONS) and node.layer == layer)
        close(together, whole.of(Mlp(layer)), tiny.atol)
        close(parts.of(Mlp(layer)), slow.rest_of_mlp(tiny.model, p.clean, layer, NEURONS), tiny.atol)
    at = torch.tensor([[1, 6]] * 5)
    close(node_writes(tiny.model, p.clean, at, neurons=NEURONS).values, parts.values[:, :, [1, 6]], tiny.atol)


# --- running -----------------------------------------------------------------------------------------------------


@over(one_of_each, has_mlp, among=[*ALL, *WIDE[:3]])
def test_a_circuit_run_equals_its_slow_twin(tiny: Tiny) -> None:
    """A random half of the edges, with spans and without: each port's input summed by hand, every neuron asked of the
    model by itself."""
    spans = () if tiny in WIDE else ("MID", "END")
    p, graph = prompts(padded=True), split(tiny, spans=spans)
    mask = half(graph)
    gone: dict[Node, torch.Tensor] = {
        node: slow.rest_of_mlp(tiny.model, p.corrupted, node.layer, NEURONS)
        if isinstance(node, Mlp) else slow.write_of(tiny.model, p.corrupted, node)
        for node in graph.nodes
    }  # fmt: skip

    def removed(u: Node, v: Port) -> torch.Tensor:
        def at(position: int, end: int) -> float:
            span = "END" if position >= end else "MID" if position >= 3 else "start"
            port = replace(v, span=span if spans and not isinstance(v.node, Logits) else None)
            return float(not mask[graph.index(Edge(u, port))])

        rows = [[at(t, int(n) - 1) for t in range(7)] for n in p.lengths]
        return torch.tensor(rows, dtype=tiny.model.W_E.dtype)[:, :, None]

    expected = slow.run_edges(tiny.model, p.clean, gone, removed, NEURONS)
    value = run_circuit(tiny.model, p, Circuit(graph, mask))
    close(value, slow.logit_diff(slow.unembedded(tiny.model, expected), p), 10 * tiny.atol)


@pytest.mark.usefixtures("as_users_run")
@over(one_of_each, has_mlp, among=FASTEST)
@pytest.mark.parametrize("ablation", ["resample", "zero"])
def test_all_parts_together_are_the_mlp(tiny: Tiny, ablation: str) -> None:
    """Where the parts of an MLP have its edges, the run is that of the graph without neurons; pruning changes none."""
    p, graph, bare = prompts(), split(tiny, spans=["END"]), Graph.of(tiny.model, spans=["END"])
    mask = half(bare, 3)
    parts = Circuit(graph, as_parts(graph, mask))
    value = run_circuit(tiny.model, p, parts, ablation=ablation)
    close(value, run_circuit(tiny.model, p, Circuit(bare, mask), ablation=ablation), tiny.atol)
    assert torch.equal(parts.without_neurons().mask, mask)
    assert torch.equal(parts.pruned().without_neurons().mask, Circuit(bare, mask).pruned().mask)
    some = Circuit(graph, half(graph, 7))
    assert some.pruned() <= some
    close(
        run_circuit(tiny.model, p, some.pruned(), ablation=ablation),
        run_circuit(tiny.model, p, some, ablation=ablation),
        tiny.atol,
    )


@over(one_of_each, has_mlp, among=FASTEST)
def test_a_whole_layer_apart_leaves_the_bias(tiny: Tiny) -> None:
    """With every neuron of a layer a node, its rest writes b_out whatever it reads: edges into it score 0."""
    p = prompts()
    graph = Graph.of(tiny.model, neurons={0: range(describe(tiny.model).d_mlp)})
    scores = circuits.eap(tiny.model, p, graph=graph)
    assert not scores.per_prompt[:, :, graph.mlp_columns(0)].any()
    close(scores.without_neurons().per_prompt, circuits.eap(tiny.model, p).per_prompt, tiny.atol)
    without = Circuit.full(graph).mask.clone()
    without[:, graph.mlp_columns(0)] = False
    close(
        run_circuit(tiny.model, p, Circuit(graph, without)),
        run_circuit(tiny.model, p, Circuit.full(graph)),
        tiny.atol,
    )


# --- discovery ---------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("as_users_run")
@over(one_of_each, has_mlp)
@pytest.mark.parametrize("spans", [("END",)])
def test_gradient_scores_of_the_parts_add_up_to_the_mlps(tiny: Tiny, spans: tuple[str, ...]) -> None:
    """Out of neurons and rest, and into them; one neuron's score is the derivative of its own edge."""
    p, graph, bare = prompts(), split(tiny, spans=spans), Graph.of(tiny.model, spans=spans)
    for method in GRADIENTS:
        found = method(tiny.model, p, graph=graph)
        close(found.without_neurons().per_prompt, method(tiny.model, p, graph=bare).per_prompt, tiny.atol)
        for neuron in NEURONS:
            assert found.per_prompt[:, graph.row[neuron]].any()
            assert found.per_prompt[:, :, graph.neuron_columns(neuron.layer)].any()


def test_embeddings_apart_and_neurons_apart() -> None:
    p, graph = prompts(), split(PLAIN, split_embed=True)
    bare = Graph.of(PLAIN.model, split_embed=True)
    found = circuits.eap(PLAIN.model, p, graph=graph).without_neurons()
    close(found.per_prompt, circuits.eap(PLAIN.model, p, graph=bare).per_prompt, 1e-9)
    parts = Circuit(graph, as_parts(graph, half(bare)))
    close(run_circuit(PLAIN.model, p, parts), run_circuit(PLAIN.model, p, Circuit(bare, half(bare))), 1e-9)


@over(one_of_each, among=[tiny for tiny in FASTEST if tiny.family.name in ("gpt2", "llama", "neox")])
def test_eap_is_the_derivative_of_an_edge(tiny: Tiny) -> None:
    """d metric / d mask by a backward pass through the slow twin, a mask for every edge."""
    p, graph = prompts(), split(tiny)
    edges = [edge for edge in graph.edges() if any(isinstance(n, Neuron) for n in (edge.writer, edge.port.node))]
    masks = {edge: torch.zeros(len(p), 1, 1, dtype=torch.float64, requires_grad=True) for edge in edges}
    gone: dict[Node, torch.Tensor] = {
        node: slow.rest_of_mlp(tiny.model, p.corrupted, node.layer, NEURONS)
        if isinstance(node, Mlp) else slow.write_of(tiny.model, p.corrupted, node)
        for node in graph.nodes
    }  # fmt: skip
    with torch.enable_grad():
        final = slow.run_edges(tiny.model, p.clean, gone, lambda u, v: masks.get(Edge(u, v), 0.0), NEURONS)
        total = slow.logit_diff(slow.unembedded(tiny.model, final), p).sum()
        gradients = torch.autograd.grad(total, list(masks.values()))
    scores = circuits.eap(tiny.model, p, graph=graph)
    for edge, gradient in zip(edges, gradients, strict=True):
        close(scores.of(edge), gradient.flatten(), tiny.atol)


@pytest.mark.skipif(not HOOKED_EXISTS, reason="backward rules need a HookedTransformer (transformer-lens 3.9)")
@over(one_of_each, among=[tiny for tiny in FASTEST if tiny.family.name in ("gpt2", "llama")])
def test_backward_rules_add_up_too(tiny: Tiny) -> None:
    for rule in ("relp", "gim"):
        found = circuits.eap(tiny.model, prompts(), graph=split(tiny), rule=rule).without_neurons()
        close(found.per_prompt, circuits.eap(tiny.model, prompts(), rule=rule).per_prompt, tiny.atol)


@pytest.mark.usefixtures("as_users_run")
@over(among=[SMALL, LLAMA])
def test_exact_scores_are_removals(tiny: Tiny) -> None:
    p, graph = prompts(), split(tiny)
    scores = circuits.exact(tiny.model, p, graph=graph)
    clean = run_circuit(tiny.model, p, Circuit.full(graph))
    for edge in map(parse_edge, ("input->m1.n17", "m0.n5->m1", "m0.n5->m1.n0", "m1.n17->logits")):
        gone = Circuit.full(graph) - Circuit.of(graph, [edge])
        close(scores.of(edge), run_circuit(tiny.model, p, gone) - clean, 1e-9)


@pytest.mark.usefixtures("as_users_run")
def test_acdc_decides_as_the_sequential_loop_does() -> None:
    p, graph, tau = prompts(), split(SMALL), 0.05
    ground, metric = circuits.background(SMALL.model, p, graph=graph), metric_of(SMALL.model, p, None)

    def of(mask: torch.Tensor) -> torch.Tensor:
        return run_masks(SMALL.model, graph, mask[None], p, metric, ground)[0].mean()

    mask = graph.real.clone()
    current = of(mask)
    for column in reversed(range(len(graph.ports))):
        for row in reversed(graph.real[:, column].nonzero().flatten().tolist()):
            less = mask.clone()
            less[row, column] = False
            new = of(less)
            if abs(new - current) < tau:
                mask, current = less, new
    scores = circuits.acdc(SMALL.model, p, graph=graph, tau=tau)
    assert torch.equal((scores.values.abs() >= tau) & graph.real, mask) and 0 < mask.sum() < graph.n_edges


@pytest.mark.usefixtures("as_users_run")
@over(one_of_each, has_mlp, among=FASTEST)
def test_every_method_knows_neurons(tiny: Tiny) -> None:
    """Shares of what a port reads add up with the neurons in; importance is a node's; gates are learned for each edge;
    AtP* without its corrections is EAP; circuits are selected, evaluated and matched by random ones."""
    p, graph = prompts(), split(tiny)
    shares = circuits.ifr(tiny.model, p, graph=graph).per_prompt
    assert float(shares.sum(1).max()) < 1 + 1e-9
    close(shares[:, :, graph.column[Port(Neuron(1, 17))]], shares[:, :, graph.mlp_columns(1).start], 1e-12)
    importance = circuits.hisp(tiny.model, p, graph=graph)
    out = importance.of(parse_edge("m0.n5->logits"))
    assert (importance.of(parse_edge("m0.n5->m1.n0")) <= out + 1e-12).all()
    atp = circuits.atp_star(tiny.model, p, graph=graph, qk_fix=False)
    close(atp.per_prompt, circuits.eap(tiny.model, p, graph=graph).per_prompt, 1e-9)
    dropped = circuits.atp_star(tiny.model, p, graph=graph, qk_fix=hooked(tiny), grad_drop=True).per_prompt
    assert dropped[:, :, graph.neuron_columns(1)].any() and not math.isnan(float(dropped.sum()))
    gates = circuits.edge_pruning(tiny.model, p, n_edges=20, graph=graph, steps=3)
    assert gates.values[graph.row[Neuron(1, 17)], -1] > 0
    found = circuits.select(atp, 25)
    report = circuits.evaluate(tiny.model, p, found, draws=2)
    assert report.circuit == found


@pytest.mark.usefixtures("as_users_run")
def test_soft_gates_run_as_circuits_do() -> None:
    """Gates that are all open or shut are the circuit; the gradient of a neuron's gate is that of its edge."""
    p, graph = prompts(), split(LLAMA)
    ground = circuits.background(LLAMA.model, p, graph=graph)
    inputs = embedding(LLAMA.model, p.clean)
    final = soft_residual(LLAMA.model, graph.real.double(), inputs, ground)
    close(final.detach(), final_residual(LLAMA.model, p.clean), LLAMA.atol)
    mask = half(graph)
    final = soft_residual(LLAMA.model, mask.double(), inputs, ground).detach()
    value = slow.logit_diff(slow.unembedded(LLAMA.model, final), p)
    close(run_circuit(LLAMA.model, p, Circuit(graph, mask)), value, LLAMA.atol)


# --- files, definitions, refusals --------------------------------------------------------------------------------


@pytest.mark.usefixtures("as_users_run")
def test_files_keep_neurons_or_refuse_them(tmp_path: Path) -> None:
    graph = split(LLAMA)
    scores = circuits.eap(LLAMA.model, prompts(), graph=graph)
    some = circuits.select(scores, 40) | Circuit.of(graph, ["input->m1.n17", "m0.n5->m1.n17", "m1.n17->logits"])
    circuit = replace(some, roles={"units": (Neuron(1, 17),)})
    again = Circuit.load(circuit.save(tmp_path / "circuit.json"))
    assert again.graph == graph and torch.equal(again.mask, circuit.mask) and again.roles == circuit.roles
    for name in FORMATS:
        (tmp_path / name).mkdir()
        folder_or_file = "ioi_plain" if name.startswith("mib") else name
        path = tmp_path / name / f"{folder_or_file}{FORMATS[name].suffix}"  # type: ignore[attr-defined]
        if name in ("eap_ig", "eap_ig_pt", "mib", "mib_pt"):
            with pytest.raises(UnsupportedError, match=r"no place for neurons.*circuit\.without_neurons\(\)"):
                export_circuit(circuit, path, name)
            with pytest.raises(UnsupportedError, match="no place for neurons"):
                import_circuit(export_circuit(circuit.without_neurons(), path, name), graph=graph, format=name)
            continue
        export_circuit(circuit, path, name)
        if FORMATS[name].read is not None:  # type: ignore[attr-defined]
            assert torch.equal(import_circuit(path, format=name).mask, circuit.mask), name
        else:
            assert "m1" in path.read_text() and "n17" in path.read_text(), name


def test_damaged_names_of_neurons_are_refused() -> None:
    content = split(PLAIN).as_dict()
    for wrong in ("m0.n5", ["m0"], [3], ["m0.n5", "m0.n5"], ["m9.n0"]):
        with pytest.raises(InputError):
            Graph.from_dict(content | {"neurons": wrong})


def test_a_drawing_shows_each_neuron_beside_its_mlp() -> None:
    """Nodes stand apart, and in their layer."""
    from llmtrace.plots import plot
    from llmtrace.plots.figures.circuit import place_of

    graph = split(PLAIN)
    places = {place_of(node, graph) for node in graph.nodes}
    assert len(places) == len(graph.nodes)
    assert place_of(Neuron(1, 17), graph)[1] == place_of(Mlp(1), graph)[1]
    drawn = plot(Circuit.of(graph, ["m0.n5->m1.n17", "m1.n17->logits"]))
    assert "m1.n17" in drawn.to_json()


def test_a_definition_names_mlps_and_means_their_neurons() -> None:
    """An MLP of a role is its rest and its neurons; comparing by role, it is found where one of its neurons is."""
    graph = split(PLAIN)
    known = circuits.Definition(
        "toy", "here", "plain", roles={"readers": (Head(1, 1),), "units": (Mlp(0),)}, mlps="named"
    )
    circuit = known.circuit(graph)
    assert torch.equal(circuit.mask, as_parts(graph, known.circuit(graph.without_neurons).mask))
    assert "m0.n5->a1.h1<v>" in circuit and "m0->a1.h1<v>" in circuit and "input->m0.n5" in circuit
    found = circuits.compare(Circuit.of(graph, ["m0.n5->logits"]), circuit)
    assert found.roles["units"].shared == 1 and found.roles["readers"].shared == 0


def test_what_has_no_neurons_refuses_them() -> None:
    attn_only = next(tiny for tiny in ALL if tiny.family is ATTN_ONLY)
    with pytest.raises(InputError, match="attention-only"):
        Graph.of(attn_only.model, neurons=NEURONS)
    with pytest.raises(UnsupportedError, match="norms what its MLP's neurons write together"):
        Graph.of(next(tiny for tiny in POST_NORM if tiny.family is GEMMA2).model, neurons=NEURONS)
    with pytest.raises(InputError, match="neurons 0-23"):
        Graph.of(PLAIN.model, neurons=[Neuron(0, 24)])
    with pytest.raises(InputError, match="every neuron once"):
        Graph.of(PLAIN.model, neurons=["m0.n5", "m0.n5"])
    with pytest.raises(InputError, match="put it in a list"):
        Graph.of(PLAIN.model, neurons="m0.n5")
    with pytest.raises(InputError, match="heads and MLPs are nodes anyway"):
        Graph.of(PLAIN.model, neurons=["m0"])
    with pytest.raises(UnsupportedError, match="write m1 for the port of the whole MLP"):
        interventions.path_patch(PLAIN.model, prompts(), receivers=[parse_port("m1.n17")])
    with pytest.raises(InputError, match=r"m0\.n99 is not in this model"):
        run_circuit(PLAIN.model, prompts(), Circuit.full(Graph(2, 4, 4, False, False, neurons=(Neuron(0, 99),))))


def test_mixtures_of_experts_are_refused() -> None:
    """As a graph with neurons and as one without: there is no one MLP to read and write."""
    import transformers

    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = transformers.MixtralConfig(vocab_size=40, num_key_value_heads=2, num_local_experts=2, **sizes)
    mixed = load(transformers.MixtralForCausalLM(config).eval(), dtype="float32", backend="bridge")
    for neurons in ((), NEURONS):
        with pytest.raises(UnsupportedError, match="layer 0 of this model has no weights of one MLP"):
            Graph.of(mixed, neurons=neurons)


def test_activations_that_mix_neurons_are_refused() -> None:
    """What the configuration says is not asked: the model itself is, again when its weights or parts are others."""
    model = PLAIN.build(PLAIN.family.source(1))
    mlp = getattr(model.blocks[1].mlp, "original_component", model.blocks[1].mlp)
    setattr(mlp, "act_fn" if hasattr(mlp, "act_fn") else "act", lambda x: x * torch.softmax(x, -1))
    with pytest.raises(UnsupportedError, match="layer 1 a neuron's activation depends on other neurons"):
        Graph.of(model, neurons=NEURONS)
