"""Circuits that people wrote down: what they stand for on a graph, what is refused, and how a found circuit fares
against them. Numbers are counted by hand; rankings are held against all pairs."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, strategies as st
from typer.testing import CliRunner

import llmtrace as lt
from llmtrace import circuits, prompts
from llmtrace.circuits import (
    DEFINITIONS,
    Circuit,
    Definition,
    EdgeScores,
    Graph,
    average_precision,
    compare,
    definition_json_schema,
    load_definition,
    roc_auc,
)
from llmtrace.circuits.definitions.role_edge import RoleEdge, parse_role_edge
from llmtrace.cli import app
from llmtrace.cli.output import documents
from llmtrace.errors import FileFormatError, InputError, LLMTraceError, MismatchError, NotFoundError
from llmtrace.models.hand_built.designs import known_circuit
from llmtrace.nodes import Embed, Head, KvHead, Mlp

GPT2 = Graph(12, 12, 12, False, False)
GRAPHS = {
    "ioi": GPT2,
    "greater_than": GPT2,
    "docstring": Graph(4, 8, 8, False, True),
    "induction": Graph(2, 1, 1, False, True),
}


def names(circuit: Circuit) -> set[str]:
    return {str(edge) for edge in circuit.edges}


def written(**changes: Any) -> Definition:
    """Two heads in two layers of two heads, one role each."""
    fields: dict[str, Any] = {
        "name": "toy", "source": "a paper", "model": "toy",
        "roles": {"first": (Head(0, 0),), "second": (Head(1, 1),)},
    }  # fmt: skip
    return Definition(**{**fields, **changes})


FIRST_TO_SECOND = (
    RoleEdge("input", "first", ("v",)),
    RoleEdge("first", "second", ("k",)),
    RoleEdge("second", "logits"),
)
TOY = Graph(2, 2, 2, False, True)


# --- those that come with the package ----------------------------------------------------------------------------


def test_there_is_a_graph_for_every_definition() -> None:
    assert set(DEFINITIONS) == set(GRAPHS)
    folder = Path(circuits.definitions.__file__).parent
    assert {file.stem for file in folder.glob("*.yaml")} == set(DEFINITIONS)


@pytest.mark.parametrize("name", GRAPHS)
def test_a_shipped_definition_is_a_circuit_on_its_models_graph(name: str, tmp_path: Path) -> None:
    definition = load_definition(name)
    circuit = definition.circuit(GRAPHS[name])
    assert (definition.name, definition.graph, definition.circuit().graph) == (name, GRAPHS[name], GRAPHS[name])
    assert circuit.roles == definition.roles and circuit.options["definition"] == name
    assert set(circuit.nodes) >= set(definition.nodes), "every head and MLP of it has an edge out"
    assert circuit.pruned().n_edges == circuit.n_edges, "and leads somewhere"
    assert set(definition.positions) == set(definition.roles)
    assert definition.source and definition.notes and name in repr(definition)
    again = Circuit.load(circuit.save(tmp_path / "c.json"))
    assert torch.equal(again.mask, circuit.mask) and dict(again.roles) == dict(circuit.roles)
    assert compare(again, definition).edges.jaccard == 1


def test_ioi_has_the_26_heads_of_the_paper_and_the_edges_between_their_classes() -> None:
    ioi = load_definition("ioi")
    assert len(ioi.nodes) == 26 and {role: len(nodes) for role, nodes in ioi.roles.items()} == {
        "previous_token": 2, "duplicate_token": 3, "induction": 4, "s_inhibition": 4, "negative_name_mover": 2,
        "name_mover": 3, "backup_name_mover": 8,
    }  # fmt: skip
    assert ioi.roles["s_inhibition"] == (Head(7, 3), Head(7, 9), Head(8, 6), Head(8, 10))
    assert ioi.positions["s_inhibition"] == ("END",) and ioi.positions["previous_token"] == ("S1+1",)
    circuit = ioi.circuit(GPT2)
    movers = 3 + 2 + 8
    between = 4 * movers + 2 * (2 * 4) + 2 * (4 * 4) + 2 * (3 * 4)  # S-inhibition q; the rest by k and v
    from_input = 3 * (2 + 3) + 4 + 2 * movers
    layers = sum(node.layer for node in ioi.nodes if isinstance(node, Head))
    mlps = 12 + 66 + 12 + (26 * 12 - layers) + 3 * layers  # input, each other, logits, read heads, read by heads
    assert circuit.n_edges == between + from_input + movers + mlps == 962
    assert "a8.h6->a9.h9<q>" in circuit and "a8.h6->a9.h9<k>" not in circuit
    assert "a4.h11->a5.h5<k>" in circuit and "a5.h5->logits" not in circuit and "m0->a5.h5<q>" in circuit


def test_greater_than_has_only_the_mlps_that_it_names() -> None:
    circuit = load_definition("greater_than").circuit(GPT2)
    assert {node for node in circuit.nodes if isinstance(node, Mlp)} == {Mlp(i) for i in (0, 1, 2, 3, 8, 9, 10, 11)}
    early = 3 * 3 + 4 + 3 * 4 + 6  # input to heads and MLPs, heads to MLPs, MLPs among them
    read = 2 * 7 * (1 + 3 + 4)  # keys and values of seven heads, from the input, early heads and early MLPs
    late = 6 * 4 + 3 + 6  # 9.1 comes after MLP 8
    assert circuit.n_edges == early + read + late + 7 + 4 == 187


def test_docstring_has_five_heads() -> None:
    definition = load_definition("docstring")
    assert {node.label for node in definition.nodes} == {"0.5", "1.4", "2.0", "3.0", "3.6"}
    assert definition.circuit().n_edges == 18


def test_induction_is_the_hand_built_circuit_and_exact_scores_rank_it_first() -> None:
    truth, model = known_circuit("induction"), lt.load("induction", dtype="float64")
    definition = load_definition("induction")
    assert names(definition.circuit(Graph.of(model))) == set(truth.edges)
    pair = prompts.from_pairs(model, [(truth.clean, truth.corrupted, truth.correct, truth.wrong)])
    found = compare(circuits.exact(model, pair), definition)
    assert found.edges.roc_auc == found.edges.average_precision == found.edges.f1 == 1
    assert found.nodes.recall == 1 and not found.missed and not found.extra


# --- what a definition stands for --------------------------------------------------------------------------------


def test_edges_between_roles_are_all_pairs_that_the_graph_has() -> None:
    roles = {"a": (Head(0, 0), Head(1, 0)), "b": (Head(1, 1), Head(2, 0))}
    definition = written(roles=roles, edges=(RoleEdge("a", "b", ("q", "v")),))
    assert names(definition.circuit(Graph(3, 2, 2, False, True))) == {
        f"{writer}->{reader}<{slot}>"
        for writer, reader in (("a0.h0", "a1.h1"), ("a0.h0", "a2.h0"), ("a1.h0", "a2.h0"))  # not 1.0 -> 1.1
        for slot in "qv"
    }


def test_without_edges_everything_among_the_nodes_is_meant() -> None:
    assert names(written().circuit(TOY)) == {
        *(f"input->{head}<{slot}>" for head in ("a0.h0", "a1.h1") for slot in "qkv"), "input->logits",
        *(f"a0.h0->a1.h1<{slot}>" for slot in "qkv"), "a0.h0->logits", "a1.h1->logits",
    }  # fmt: skip
    with_mlps = Graph(2, 2, 2, False, False)
    assert names(written(mlps="named").circuit(with_mlps)) == names(written().circuit(TOY))
    added = names(written().circuit(with_mlps)) - names(written().circuit(TOY))
    assert added == {
        "input->m0", "a0.h0->m0", "m0->a1.h1<q>", "m0->a1.h1<k>", "m0->a1.h1<v>", "m0->logits",
        "input->m1", "a0.h0->m1", "m0->m1", "a1.h1->m1", "m1->logits",
    }  # fmt: skip


def test_mlps_come_with_edges_between_roles_too_and_a_parallel_one_does_not_read_its_layer() -> None:
    definition = written(edges=FIRST_TO_SECOND)
    own = {"input->a0.h0<v>", "a0.h0->a1.h1<k>", "a1.h1->logits"}
    assert names(definition.circuit(TOY)) == own
    added = names(definition.circuit(Graph(2, 2, 2, False, False))) - own
    assert added == names(written().circuit(Graph(2, 2, 2, False, False))) - names(written().circuit(TOY))
    assert added - names(definition.circuit(Graph(2, 2, 2, True, False))) == {"a0.h0->m0", "a1.h1->m1"}


def test_grouped_keys_and_values_are_those_of_the_key_value_head() -> None:
    grouped = Graph(2, 4, 2, False, True)
    roles = {"first": (Head(0, 1),), "second": (Head(1, 2), Head(1, 3))}
    edges = tuple(map(parse_role_edge, ("first -> second<q,k>", "input -> first<v>", "second -> logits")))
    assert names(written(roles=roles, edges=edges).circuit(grouped)) == {
        "a0.h1->a1.h2<q>", "a0.h1->a1.h3<q>", "a0.h1->a1.kv1<k>", "input->a0.kv0<v>", "a1.h2->logits", "a1.h3->logits"
    }  # fmt: skip


def test_input_is_both_embeddings_where_the_graph_keeps_them_apart() -> None:
    circuit = written(edges=FIRST_TO_SECOND).circuit(replace(TOY, split_embed=True))
    assert names(circuit) == {"embed->a0.h0<v>", "pos->a0.h0<v>", "a0.h0->a1.h1<k>", "a1.h1->logits"}


def test_an_edge_between_roles_is_printed_as_it_is_parsed() -> None:
    for text in ("input -> first<q,k,v>", "first -> second<q>", "second -> logits"):
        assert str(parse_role_edge(text)) == text
    assert parse_role_edge(" a->b< q , k > ") == RoleEdge("a", "b", ("q", "k"))


# --- files -------------------------------------------------------------------------------------------------------

CONTENT = {
    "kind": "llmtrace.definition", "schema_version": 1, "name": "toy", "source": "a paper", "model": "toy",
    "graph": {"n_layers": 2, "n_heads": 2, "attn_only": True},
    "roles": {"first": {"nodes": ["a0.h0"], "positions": ["S2"]}, "second": ["1.1"]},
    "edges": ["input -> first<v>", "first -> second<k>", "second -> logits"],
}  # fmt: skip
AS_YAML = """\
kind: llmtrace.definition
schema_version: 1
name: toy
source: a paper
model: toy
graph: {n_layers: 2, n_heads: 2, attn_only: true}
roles:
  first: {nodes: [a0.h0], positions: [S2]}
  second: ["1.1"]
edges: [input -> first<v>, first -> second<k>, second -> logits]
"""


def test_json_and_yaml_say_the_same(tmp_path: Path) -> None:
    (tmp_path / "toy.json").write_text(json.dumps(CONTENT))
    (tmp_path / "toy.yaml").write_text(AS_YAML)
    expected = written(edges=FIRST_TO_SECOND, graph=TOY, positions={"first": ("S2",)})
    assert load_definition(tmp_path / "toy.json") == load_definition(str(tmp_path / "toy.yaml")) == expected
    assert expected.circuit().options["positions"] == {"first": ["S2"]}


def test_the_schema_is_published() -> None:
    schema = definition_json_schema()
    assert set(CONTENT) <= set(schema["properties"]) and schema["additionalProperties"] is False
    json.dumps(schema)


def content(**changes: Any) -> str:
    return json.dumps({**CONTENT, **changes})


BAD_FILES: dict[str, tuple[str, str, type[LLMTraceError], str]] = {
    "another ending": ("d.txt", "", InputError, "Expected a definition in .json, .yaml or .yml, got 'd.txt'; rename"),
    "broken YAML": ("d.yaml", "roles: [a", FileFormatError, "'d.yaml' is not readable YAML (while parsing a flow"),
    "no mapping": ("d.yaml", "- a", FileFormatError, "Expected a YAML mapping in 'd.yaml', got list; start with"),
    "a program in YAML": (
        "d.yaml",
        "!!python/object/apply:os.getcwd []",
        FileFormatError,
        "could not determine a constructor for the tag",
    ),
    "a key twice": (
        "d.yaml",
        AS_YAML + "model: gpt2\n",
        FileFormatError,
        "is not readable YAML (the key 'model' comes twice in",
    ),
    "a circuit": (
        "d.json",
        '{"kind": "llmtrace.circuit"}',
        FileFormatError,
        "Expected a llmtrace.definition file, but",
    ),
    "newer": (
        "d.json",
        content(schema_version=2),
        FileFormatError,
        "has schema version 2 and this llmtrace reads up to",
    ),
    "unknown field": (
        "d.json",
        content(role=1),
        FileFormatError,
        "schema: role: Extra inputs are not permitted; correct",
    ),
    "a number for a head": (
        "d.yaml",
        AS_YAML.replace('"1.1"', "10.10"),
        FileFormatError,
        "roles.second.nodes.0: Value error, 10.1 is a number, and 10.10 would be read as 10.1: write a10.h10, or",
    ),
    "no node": ("d.json", content(roles={"a": ["x"]}), FileFormatError, "schema: Expected a node such as 'a9.h6' (or"),
    "no role": ("d.json", content(roles={}), FileFormatError, "schema: Expected at least one role with its heads or"),
    "unknown mlps": ("d.json", content(mlps="no"), FileFormatError, "schema: mlps: Input should be 'all' or 'named'"),
    "no graph": (
        "d.json",
        content(graph={"n_layers": 0, "n_heads": 2}),
        FileFormatError,
        "schema: Expected whole numbers of layers",
    ),
    "no edge": ("d.json", content(edges=["first second"]), FileFormatError, "Expected an edge between roles such as"),
}


@pytest.mark.parametrize(("name", "text", "error", "sentence"), BAD_FILES.values(), ids=BAD_FILES)
def test_a_bad_file_is_one_sentence(
    tmp_path: Path, name: str, text: str, error: type[LLMTraceError], sentence: str
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(error) as caught:
        load_definition(tmp_path / name)
    assert sentence in str(caught.value) and "\n" not in str(caught.value)


# --- refusals ----------------------------------------------------------------------------------------------------


def scores(values: Any, graph: Graph = TOY) -> EdgeScores:
    return EdgeScores(graph, values[None], "made up", "logit_diff", {}, "")


def nowhere(graph: Graph = TOY) -> torch.Tensor:
    return torch.zeros(graph.real.shape)


REFUSED: dict[str, tuple[Callable[[], object], type[LLMTraceError], str]] = {
    "no file": (
        lambda: load_definition("no.yaml"),
        NotFoundError,
        "Expected the file 'no.yaml', found none at that path",
    ),
    "no JSON file": (
        lambda: load_definition("no.json"),
        NotFoundError,
        "Expected the file 'no.json', found none at that",
    ),
    "unknown name": (
        lambda: load_definition("greater-than"),
        NotFoundError,
        "Expected a definition, one of ioi, greater_than,",
    ),
    "unknown role": (
        lambda: written(edges=(RoleEdge("frist", "second"),)),
        InputError,
        "Expected one of first, input, second in the edge 'frist -> second', got 'frist'. Did you mean 'first'?",
    ),
    "logits write nothing": (
        lambda: written(edges=(RoleEdge("logits", "second"),)),
        InputError,
        "in the edge 'logits -> second', got 'logits'",
    ),
    "positions of no role": (
        lambda: written(positions={"third": ("END",)}),
        InputError,
        "Expected one of first, second in positions, got",
    ),
    "a role called input": (
        lambda: written(roles={"input": (Mlp(0),)}),
        InputError,
        "Expected a role's name of letters",
    ),
    "an empty role": (
        lambda: written(roles={"a": ()}),
        InputError,
        "one or more different nodes in the role 'a', got 0",
    ),
    "a head twice": (
        lambda: written(roles={"a": (Mlp(0), Mlp(0))}),
        InputError,
        "one or more different nodes in the role 'a', got 2",
    ),
    "the embedding in a role": (
        lambda: written(roles={"a": (Embed(),)}),
        InputError,
        "Expected heads and MLPs (a9.h6, m3) in the role 'a', got inp",
    ),
    "a key-value head": (
        lambda: written(roles={"a": (KvHead(0, 0),)}),
        InputError,
        "in the role 'a', got a0.kv0; leave",
    ),
    "other mlps": (
        lambda: written(mlps="some"),
        InputError,
        "Expected mlps to be 'all' or 'named', got 'some'; 'all' is",
    ),
    "an unknown slot": (
        lambda: parse_role_edge("a -> b<z>"),
        InputError,
        "such as 's_inhibition -> name_mover<q>', got",
    ),
    "a slot twice": (
        lambda: parse_role_edge("a -> b<q,q>"),
        InputError,
        "such as 's_inhibition -> name_mover<q>', got",
    ),
    "no slots in brackets": (lambda: parse_role_edge("a -> b<>"), InputError, "Expected an edge between roles such as"),
    "a graph without its nodes": (
        lambda: load_definition("ioi").circuit(TOY),
        MismatchError,
        "The definition 'ioi' names a2.h2 and 24 more of its nodes, which Graph(2 layers x 2 heads, 29 edges) does not "
        "have; give the graph of gpt2.",
    ),
    "a graph without MLPs": (
        lambda: written(roles={"a": (Mlp(1),)}).circuit(TOY),
        MismatchError,
        "names m1, which Graph(2 layers x 2 heads, 29",
    ),
    "another shape that has the names": (
        lambda: load_definition("ioi").circuit(Graph(24, 16, 16, False, False)),
        MismatchError,
        "belongs to gpt2, Graph(12 layers x 12 heads, 32,491 edges), and this is Graph(24 layers x 16 heads,",
    ),
    "no graph at all": (
        lambda: written().circuit(),
        InputError,
        "does not say the shape of its model; pass Graph.of(model)",
    ),
    "an edge against the layers": (
        lambda: written(edges=(RoleEdge("second", "first"),)).circuit(TOY),
        InputError,
        "'second -> first' stands for no edge of Graph(2 layers x 2 heads, 29 edges): heads alone have slots,",
    ),
    "a slot of the logits": (
        lambda: written(edges=(RoleEdge("first", "logits", ("q",)),)).circuit(TOY),
        InputError,
        "'first -> logits<q>' stands for no edge",
    ),
    "circuits of two graphs": (
        lambda: compare(Circuit.full(TOY), Circuit.full(GPT2)),
        MismatchError,
        "Expected circuits of one graph, got Graph(2 layers x 2 heads, 29 edges) and Graph(12 layers x 12 heads,",
    ),
    "a circuit of another model than the definition's": (
        lambda: compare(Circuit.full(TOY), load_definition("ioi")),
        MismatchError,
        "The definition 'ioi' names a2.h2 and 24",
    ),
    "nothing is known": (
        lambda: compare(Circuit.full(TOY), Circuit.empty(TOY)),
        InputError,
        "Expected a known circuit with edges, got one",
    ),
    "NaN": (
        lambda: compare(scores(nowhere() + math.nan), written()),
        InputError,
        "Expected scores that are numbers, got NaN;",
    ),
    "all true": (
        lambda: roc_auc(torch.ones(3), torch.ones(3, dtype=torch.bool)),
        InputError,
        "Expected true and false items to tell apart, got 3 true of 3; a ranking of one kind says nothing.",
    ),
    "none true": (
        lambda: average_precision(torch.ones(3), torch.zeros(3, dtype=torch.bool)),
        InputError,
        "got 0 true of 3; a rank",
    ),
}


@pytest.mark.parametrize(("call", "error", "sentence"), REFUSED.values(), ids=REFUSED)
def test_what_makes_no_sense_is_refused_in_one_sentence(
    call: Callable[[], object], error: type[LLMTraceError], sentence: str
) -> None:
    with pytest.raises(error) as caught:
        call()
    assert type(caught.value) is error and sentence in str(caught.value) and "\n" not in str(caught.value)


# --- rankings ----------------------------------------------------------------------------------------------------


@st.composite
def ranked(draw: st.DrawFn) -> tuple[torch.Tensor, torch.Tensor]:
    """A few scores with ties, true and false among them."""
    values = draw(st.lists(st.integers(-3, 3), min_size=2, max_size=12))
    truth = draw(
        st.lists(st.booleans(), min_size=len(values), max_size=len(values)).filter(lambda t: 0 < sum(t) < len(t))
    )
    return torch.tensor(values, dtype=torch.float32) / 2, torch.tensor(truth)


@given(ranked())
def test_roc_auc_counts_pairs(case: tuple[torch.Tensor, torch.Tensor]) -> None:
    values, truth = case
    pairs = [(x > y) + (x == y) / 2 for x in values[truth].tolist() for y in values[~truth].tolist()]
    assert roc_auc(values, truth) == pytest.approx(sum(pairs) / len(pairs), abs=1e-12)
    assert roc_auc(-values, truth) == pytest.approx(1 - roc_auc(values, truth), abs=1e-12)
    assert roc_auc(values.exp(), truth) == roc_auc(values, truth), "only the order matters"


@given(ranked())
def test_average_precision_sums_precision_over_thresholds(case: tuple[torch.Tensor, torch.Tensor]) -> None:
    values, truth = case
    total, before = 0.0, 0.0
    for threshold in sorted(set(values.tolist()), reverse=True):
        taken = values >= threshold
        recall = (taken & truth).sum().item() / truth.sum().item()
        total += (recall - before) * (taken & truth).sum().item() / taken.sum().item()
        before = recall
    assert average_precision(values, truth) == pytest.approx(total, abs=1e-12)


def test_law_42_perfect_is_1_reversed_0_constant_a_half() -> None:
    truth = torch.arange(10) >= 7
    assert roc_auc(torch.arange(10.0), truth) == 1 and average_precision(torch.arange(10.0), truth) == 1
    assert roc_auc(-torch.arange(10.0), truth) == 0
    assert roc_auc(torch.ones(10), truth) == 0.5 and average_precision(torch.ones(10), truth) == pytest.approx(0.3)


def test_a_ranking_by_hand() -> None:
    values, truth = torch.tensor([5.0, 4.0, 3.0, 3.0, 1.0]), torch.tensor([True, False, True, False, False])
    assert roc_auc(values, truth) == pytest.approx((3 + 1.5) / 6)  # the second: above one, tied with one, below one
    assert average_precision(values, truth) == pytest.approx((1 / 1 + 2 / 4) / 2)


# --- comparisons -------------------------------------------------------------------------------------------------

KNOWN = Circuit.of(
    TOY, ["input->a0.h0<v>", "a0.h0->a1.h1<k>", "input->a1.h1<q>", "a1.h1->logits"],
    roles={"first": (Head(0, 0),), "second": (Head(1, 1),)},
)  # fmt: skip
FOUND = Circuit.of(TOY, ["input->a0.h0<v>", "a1.h1->logits", "a1.h0->logits"])


def test_overlap_by_hand() -> None:
    found = compare(FOUND, KNOWN)
    edges, nodes = found.edges, found.nodes
    assert (edges.found, edges.known, edges.shared) == (3, 4, 2)
    assert (edges.precision, edges.recall) == (2 / 3, 1 / 2)
    assert edges.f1 == pytest.approx(4 / 7) and edges.jaccard == 2 / 5
    assert (nodes.found, nodes.known, nodes.shared) == (3, 3, 2)  # input, 1.1; 1.0 instead of 0.0
    assert {role: overlap.recall for role, overlap in found.roles.items()} == {"first": 0.0, "second": 1.0}
    assert found.missed == (Head(0, 0),) and found.extra == (Head(1, 0),)
    assert edges.roc_auc is None and edges.average_precision is None and not found.caveats
    frame = found.df().set_index("over")
    assert list(frame.index) == ["edges", "nodes", "first", "second"]
    assert frame.loc["edges", "jaccard"] == 0.4 and frame.loc["first", "recall"] == 0
    assert repr(found) == (
        "Comparison(2 of 4 known edges among 3 found, 2 of 3 known nodes among 3: edge F1 0.57, Jaccard 0.40)"
    )
    assert "<table" in found._repr_html_()


def test_a_circuit_against_itself_nothing_and_everything() -> None:
    itself = compare(KNOWN, KNOWN)
    assert itself.edges.precision == itself.edges.recall == itself.edges.f1 == itself.edges.jaccard == 1
    assert all(overlap.recall == 1 for overlap in itself.roles.values())
    nothing = compare(Circuit.empty(TOY), KNOWN).edges
    assert (nothing.precision, nothing.recall, nothing.f1, nothing.jaccard) == (None, 0, 0, 0)
    everything = compare(scores(nowhere() + 1), Circuit.full(TOY)).edges
    assert everything.jaccard == 1 and everything.roc_auc is None, "no edge that is not known: no ranking"


def test_scores_are_ranked_by_size_over_edges_and_nodes() -> None:
    values = nowhere()
    for edge, score in zip(KNOWN.edges, (-4.0, 3.0, -2.0, 1.0), strict=True):
        values[TOY.index(edge)] = score
    perfect = compare(scores(values), KNOWN)
    assert perfect.edges.roc_auc == perfect.nodes.roc_auc == perfect.edges.average_precision == 1
    assert perfect.edges.precision == perfect.edges.recall == 1, "cut at as many edges as are known"
    constant = compare(scores(nowhere() + 1), KNOWN)
    assert constant.edges.roc_auc == constant.nodes.roc_auc == 0.5
    reversed_ = compare(scores((~KNOWN.mask).float()), KNOWN)
    assert reversed_.edges.roc_auc == 0 and reversed_.edges.shared == 0
    values[~TOY.real] = 9.0  # where there is no edge nothing counts
    assert compare(scores(values), KNOWN).edges == perfect.edges and compare(scores(values), KNOWN).nodes.roc_auc == 1


def test_a_circuits_scores_are_used_and_a_file_that_kept_few_is_said_to_be_one(tmp_path: Path) -> None:
    values = (torch.rand(TOY.real.shape) + 1) * TOY.real
    fresh = circuits.select(scores(values), 6, selection="top", prune=False)
    assert compare(fresh, KNOWN).edges.roc_auc == roc_auc(values[TOY.real], KNOWN.mask[TOY.real])
    assert not compare(fresh, KNOWN).caveats
    stored = compare(Circuit.load(fresh.save(tmp_path / "c.json")), KNOWN)
    assert stored.edges.roc_auc is not None and stored.edges.shared == compare(fresh, KNOWN).edges.shared
    assert stored.caveats == (
        "every edge outside the found circuit scores 0 (files keep no others), so they count as tied",
    )


# --- the command line --------------------------------------------------------------------------------------------


def run(*arguments: str | Path) -> Any:
    return CliRunner().invoke(app, ["compare", *map(str, arguments)])


def test_two_names_make_a_table() -> None:
    result = run("ioi", "greater_than")
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0] == "ioi (found) against greater_than (known), Graph(12 layers x 12 heads, 32,491 edges)"
    assert [line.split()[:4] for line in lines if line.startswith(("edges", "nodes"))] == [
        ["edges", "962", "187", "51"], ["nodes", "39", "19", "12"]
    ]  # fmt: skip
    assert "Known nodes not found: a0.h3, a0.h5, a5.h1, a7.h10, a8.h8, a8.h11, a9.h1." in lines


def test_files_and_folders_are_read_and_written(tmp_path: Path) -> None:
    folder = tmp_path / "found"
    circuit = circuits.select(scores(torch.rand(TOY.real.shape) * TOY.real), 6, selection="top", prune=False)
    replace(circuit, provenance={"model": "toy"}).save(folder / "circuit.json")
    (tmp_path / "toy.json").write_text(json.dumps(CONTENT))
    (tmp_path / "toy.yaml").write_text(AS_YAML)
    given_folder = run(folder, tmp_path / "toy.yaml", "--out", tmp_path / "out", "--json")
    assert given_folder.exit_code == 0, given_folder.stderr
    document = json.loads(given_folder.stdout)
    assert document["kind"] == "llmtrace.cli.compare" and document["command"] == "compare"
    assert [row["over"] for row in document["rows"]] == ["edges", "nodes", "first", "second"]
    expected = compare(Circuit.load(folder / "circuit.json"), load_definition(tmp_path / "toy.yaml"))
    assert document["rows"][0]["roc_auc"] == expected.edges.roc_auc and document["rows"][2]["f1"] is None
    assert document["summary"]["missed"] == [str(node) for node in expected.missed]
    assert document["summary"]["caveats"] == list(expected.caveats) != []
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["report.html", "result.json"]
    documents.document_of("compare").model_validate(document)
    as_json = run(folder / "circuit.json", tmp_path / "toy.json")
    assert "roc auc" in as_json.stdout and "Caution: every edge outside" in as_json.stdout
    assert f"llmtrace evaluate toy {folder / 'circuit.json'}" in as_json.stdout


def test_refusals_have_exit_codes(tmp_path: Path) -> None:
    unknown, other = run("ioo", "ioi"), run("ioi", "docstring")
    assert unknown.exit_code == 3 and "found no 'ioo'; check the path. Did you mean 'ioi'?" in unknown.stderr
    assert other.exit_code == 1 and other.stderr.startswith("llmtrace: The definition 'ioi' names")
    (tmp_path / "x.json").write_text("{}")
    assert "Expected a llmtrace.circuit file" in run(tmp_path / "x.json", "ioi").stderr
