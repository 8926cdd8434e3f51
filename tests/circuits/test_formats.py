"""Circuits in other programs' files: exact round trips, the indices those programs use, what is refused and how."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import networkx
import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor
from typer.testing import CliRunner

import llmtrace as lt
from llmtrace.circuits import FORMATS, Circuit, Graph, export_circuit, import_circuit
from llmtrace.circuits.formats.mib import PER_MILLE
from llmtrace.circuits.formats.sharing.head_form import HeadForm
from llmtrace.cli import app
from llmtrace.errors import (
    FileFormatError,
    InputError,
    LimitError,
    LLMTraceError,
    MismatchError,
    NotFoundError,
    UnsupportedError,
)

GRAPHS = {
    "multi-head": Graph(3, 4, 4, False, False),
    "grouped": Graph(3, 6, 2, False, False),
    "one key": Graph(2, 4, 1, False, False),
    "parallel": Graph(2, 3, 3, True, False),
    "parallel, grouped": Graph(2, 4, 2, True, False),
    "attention-only": Graph(3, 2, 2, False, True),
}
WITH_MLPS = [name for name in GRAPHS if name != "attention-only"]
ALL_SCORES = ("eap_ig", "eap_ig_pt", "mib", "mib_pt")  # the others keep scores of the circuit's own edges
READABLE = [name for name in FORMATS if FORMATS[name].read is not None]


def some_circuit(graph: Graph, seed: int = 0, share: float = 0.3, dtype: torch.dtype = torch.float32) -> Circuit:
    generator = torch.Generator().manual_seed(seed)
    mask = graph.real & (torch.rand(graph.real.shape, generator=generator) < share)
    scores = torch.randn(graph.real.shape, generator=generator, dtype=dtype).where(graph.real, 0)
    return Circuit(graph, mask, scores=scores, provenance={"model": "tiny"}, options={"method": "eap"})


def place(folder: Path, name: str) -> Path:
    """A fresh file (or MIB's folder) of a format."""
    row = FORMATS[name]
    stem = f"ioi_n{len(list(folder.iterdir()))}"
    return folder / (f"{stem}{row.suffix}")


def same(found: Circuit, circuit: Circuit, *, all_scores: bool) -> None:
    assert found.graph == circuit.graph
    assert torch.equal(found.mask, circuit.mask)
    if circuit.scores is None:
        assert found.scores is None
        return
    kept = circuit.scores if all_scores else circuit.scores.where(circuit.mask, 0)
    assert found.scores is not None and found.scores.dtype in (kept.dtype, torch.float32)
    assert torch.equal(found.scores, kept.to(found.scores.dtype))


# ---- round trips ----------------------------------------------------------------------------------------------------


def holds(name: str, graph: Graph) -> bool:
    return not (graph.attn_only and name in ALL_SCORES)


@pytest.mark.parametrize("shape", GRAPHS)
@pytest.mark.parametrize("name", READABLE)
def test_a_round_trip_is_exact(tmp_path: Path, name: str, shape: str) -> None:
    circuit = some_circuit(GRAPHS[shape])
    if not holds(name, circuit.graph):
        return refuses_attention_only(tmp_path, name, circuit)
    path = export_circuit(circuit, place(tmp_path, name), name)
    for found in (import_circuit(path), import_circuit(path, format=name, graph=circuit.graph)):
        same(found, circuit, all_scores=name in ALL_SCORES)
        assert (found.provenance, found.options) == (circuit.provenance, circuit.options)
    return None


def refuses_attention_only(folder: Path, name: str, circuit: Circuit) -> None:
    with pytest.raises(UnsupportedError, match="has an MLP in every layer and cannot run a model without them"):
        export_circuit(circuit, place(folder, name), name)
    assert not list(folder.iterdir())


@pytest.mark.parametrize("name", [name for name in READABLE if not name.startswith("mib")])
@pytest.mark.parametrize("shape", ["grouped", "parallel"])
def test_without_scores_there_are_none_afterwards(tmp_path: Path, name: str, shape: str) -> None:
    circuit = replace(some_circuit(GRAPHS[shape]), scores=None)
    same(import_circuit(export_circuit(circuit, place(tmp_path, name), name)), circuit, all_scores=True)


@pytest.mark.parametrize("name", [name for name in READABLE if name != "llmtrace"])
def test_scores_keep_their_precision(tmp_path: Path, name: str) -> None:
    circuit = some_circuit(GRAPHS["grouped"], dtype=torch.float64)
    found = import_circuit(export_circuit(circuit, place(tmp_path, name), name))
    assert found.scores is not None and found.scores.dtype == torch.float64
    same(found, circuit, all_scores=name in ALL_SCORES)


@pytest.mark.parametrize("name", READABLE)
@settings(deadline=None, max_examples=25)
@given(data=st.data())
def test_any_mask_survives(tmp_path_factory: pytest.TempPathFactory, name: str, data: st.DataObject) -> None:
    graph = GRAPHS[data.draw(st.sampled_from([g for g in GRAPHS if holds(name, GRAPHS[g])]))]
    bits = data.draw(st.lists(st.booleans(), min_size=graph.n_edges, max_size=graph.n_edges))
    mask = torch.zeros_like(graph.real)
    mask[graph.real] = torch.tensor(bits)
    scale = data.draw(st.sampled_from([1e-30, 1.0, 1e30]))
    circuit = replace(some_circuit(graph), mask=mask)
    circuit = replace(circuit, scores=circuit.scores * scale if circuit.scores is not None else None)
    path = export_circuit(circuit, place(tmp_path_factory.mktemp("any"), name), name)
    same(import_circuit(path), circuit, all_scores=name in ALL_SCORES)


def test_roles_come_back(tmp_path: Path) -> None:
    circuit = replace(some_circuit(GRAPHS["grouped"]), roles={"mover": (lt.Head(2, 1), lt.Head(2, 3))})
    for name in READABLE:
        if name not in ("mib", "mib_pt"):
            assert import_circuit(export_circuit(circuit, place(tmp_path, name), name)).roles == circuit.roles


def test_a_found_circuit_goes_out_and_comes_back(tmp_path: Path) -> None:
    model = lt.load("tiny-english")
    circuit = lt.discover(model, lt.prompts.ioi(model, 4), n_edges=60)
    for name in READABLE:
        found = import_circuit(export_circuit(circuit, place(tmp_path, name), name))
        found.require_model(model)
        assert torch.equal(found.mask, circuit.mask)


# ---- the matrices of EAP-IG -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", WITH_MLPS)
def test_rows_and_columns_follow_the_formulae(tmp_path: Path, shape: str) -> None:
    """EAP-IG numbers them so: source 1 + l(H+1) + h, port l(3H+1) + {q: 0, k: 1, v: 2} H + h."""
    circuit = some_circuit(GRAPHS[shape])
    graph, n_heads = circuit.graph, circuit.graph.n_heads
    content = torch.load(export_circuit(circuit, tmp_path / "c.pt"), weights_only=True)
    mask, scores = content["edges_in_graph"], content["edges_scores"]
    n_layers = graph.n_layers
    assert mask.shape == (1 + n_layers * (n_heads + 1), n_layers * (3 * n_heads + 1) + 1)
    source = {"input": 0}
    for layer in range(n_layers):
        source |= {f"a{layer}.h{head}": 1 + layer * (n_heads + 1) + head for head in range(n_heads)}
        source[f"m{layer}"] = 1 + layer * (n_heads + 1) + n_heads
    port = {"logits": n_layers * (3 * n_heads + 1)}
    for layer in range(n_layers):
        start = layer * (3 * n_heads + 1)
        for slot, offset in (("q", 0), ("k", 1), ("v", 2)):
            port |= {f"a{layer}.h{head}<{slot}>": start + offset * n_heads + head for head in range(n_heads)}
        port[f"m{layer}"] = start + 3 * n_heads
    assert content["src_nodes"] == sorted(source, key=source.__getitem__)
    assert content["dst_nodes"] == sorted(port, key=port.__getitem__)
    assert circuit.scores is not None
    group, seen = n_heads // graph.n_kv_heads, 0
    for edge in graph.edges():
        node, slot = edge.port.node, edge.port.slot
        heads = (
            [f"a{node.layer}.h{node.head * group + i}<{slot}>" for i in range(group)]
            if isinstance(node, lt.nodes.KvHead)
            else [str(edge.port)]
        )
        for name in heads:
            at = source[str(edge.writer)], port[name]
            assert mask[at] == circuit.mask[graph.index(edge)] and scores[at] == circuit.scores[graph.index(edge)]
            seen += 1
    assert seen == int(HeadForm(graph).real.sum())
    assert int(mask.sum()) == int(HeadForm(graph).spread(circuit.mask).sum())


def test_the_json_holds_every_edge_by_name(tmp_path: Path) -> None:
    circuit = some_circuit(GRAPHS["grouped"])
    content = json.loads(export_circuit(circuit, tmp_path / "c.json", "eap_ig", d_model=24).read_text())
    assert content["cfg"] == {
        "n_layers": 3, "n_heads": 6, "parallel_attn_mlp": False, "d_model": 24, "n_key_value_heads": 2
    }  # fmt: skip
    assert list(content["nodes"]) == [str(node) for node in circuit.graph.nodes] + ["logits"]
    assert (
        len(content["edges"]) == sum(3 * 6 * (1 + 7 * layer) + 7 * layer + 7 for layer in range(3)) + 22
    )  # every layer's q, k, v; its MLP; the logits
    row = content["edges"]["m0->a1.h4<v>"]
    edge = ("m0", "a1.kv1<v>")
    assert row["in_graph"] == ("->".join(edge) in circuit)


def test_nodes_of_eap_ig_have_an_edge_in_and_an_edge_out(tmp_path: Path) -> None:
    edges = ["input->a0.h1<q>", "a0.h1->m0", "m0->logits", "a1.h0->logits", "input->a1.kv1<k>"]
    circuit = Circuit.of(Graph(2, 4, 2, False, False), edges)
    content = torch.load(export_circuit(circuit, tmp_path / "c.pt"), weights_only=True)
    live = [n for n, there in zip(content["src_nodes"], content["nodes_in_graph"].tolist(), strict=True) if there]
    assert live == ["input", "a0.h1", "m0"]  # a1.h0 reads nothing, a1.h2 and a1.h3 read and write nothing
    nodes = json.loads(export_circuit(circuit, tmp_path / "c.json", "eap_ig").read_text())["nodes"]
    assert [name for name, node in nodes.items() if node["in_graph"]] == [*live, "logits"]


def foreign(circuit: Circuit, folder: Path, name: str) -> Path:
    """As EAP-IG itself would have written it: without our marks."""
    path = export_circuit(circuit, place(folder, name), name)

    def strip(content: dict[str, Any]) -> None:
        del content["llmtrace"]
        content["cfg"].pop("n_key_value_heads", None)

    return changed(path, strip)


def changed(path: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    if path.suffix == ".json":
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))
    else:
        content = torch.load(path, weights_only=True)
        change(content)
        torch.save(content, path)
    return path


@pytest.mark.parametrize("name", ["eap_ig", "eap_ig_pt"])
def test_a_file_of_eap_ig_itself_is_read(tmp_path: Path, name: str) -> None:
    circuit = some_circuit(GRAPHS["parallel"])
    found = import_circuit(foreign(circuit, tmp_path, name))
    same(found, circuit, all_scores=True)
    assert found.provenance["format"] == "eap_ig" and found.options == {}
    grouped = some_circuit(GRAPHS["grouped"])
    path = foreign(grouped, tmp_path, name)
    same(import_circuit(path, n_kv_heads=2), grouped, all_scores=True)
    same(import_circuit(path, graph=grouped.graph), grouped, all_scores=True)
    apart = import_circuit(path)
    assert apart.graph == Graph(3, 6, 6, False, False)
    assert torch.equal(apart.mask, HeadForm(grouped.graph).spread(grouped.mask))


def test_the_width_of_a_read_file_is_written_again(tmp_path: Path) -> None:
    path = export_circuit(some_circuit(GRAPHS["multi-head"]), tmp_path / "a.json", "eap_ig", d_model=32)
    found = import_circuit(changed(path, lambda content: content.pop("llmtrace")))
    assert json.loads(export_circuit(found, tmp_path / "b.json", "eap_ig").read_text())["cfg"]["d_model"] == 32


def test_membership_of_edges_that_do_not_exist_is_dropped(tmp_path: Path) -> None:
    circuit = some_circuit(GRAPHS["multi-head"])
    path = foreign(circuit, tmp_path, "eap_ig_pt")

    def whole_rows(content: dict[str, Any]) -> None:
        content["edges_in_graph"] = content["edges_in_graph"] | ~circuit.graph.real

    same(import_circuit(changed(path, whole_rows)), circuit, all_scores=True)


def test_membership_files_without_scores_are_read(tmp_path: Path) -> None:
    circuit = some_circuit(GRAPHS["multi-head"])
    path = changed(
        foreign(circuit, tmp_path, "eap_ig"), lambda content: [row.pop("score") for row in content["edges"].values()]
    )
    same(import_circuit(path), replace(circuit, scores=None), all_scores=True)


# ---- MIB ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", ["multi-head", "grouped"])
@pytest.mark.parametrize("name", ["mib", "mib_pt"])
def test_nine_circuits_of_mibs_sizes(tmp_path: Path, name: str, shape: str) -> None:
    circuit = some_circuit(GRAPHS[shape])
    path = export_circuit(circuit, tmp_path / "arc-easy_gpt2", name, membership=True)
    assert len(list(path.iterdir())) == 9
    form, before = HeadForm(circuit.graph), Circuit.empty(circuit.graph)
    total = int(form.real.sum())
    for percent in PER_MILLE:
        found = import_circuit(path, percent=float(percent))
        assert found.scores is None and before <= found
        assert int(form.spread(found.mask).sum()) <= total * float(percent) / 100
        before = found
    assert circuit.scores is not None
    kept, left = circuit.scores.abs()[before.mask], circuit.scores.abs()[circuit.graph.real & ~before.mask]
    assert kept.numel() > 0.2 * circuit.graph.n_edges and kept.min() > left.median() / 2
    with pytest.raises(InputError, match=r"Expected percent, one of 0\.1"):
        import_circuit(path)


def test_the_largest_scores_are_chosen(tmp_path: Path) -> None:
    """Half of the graph, when no edge leads nowhere: exactly the largest."""
    graph = Graph(1, 2, 2, False, False)  # 12 edges: 6 into heads, 3 into the MLP, 4 into the logits, less none
    scores = torch.zeros(graph.real.shape)
    edges = ["input->logits", "a0.h0->logits", "a0.h1->logits", "m0->logits", "input->m0"]
    for rank, edge in enumerate(edges):
        scores[graph.index(lt.nodes.parse_edge(edge))] = (-1) ** rank * (10.0 - rank)
    circuit = Circuit(graph, graph.real.clone(), scores=scores)
    path = export_circuit(circuit, tmp_path / "ioi_gpt2", "mib", membership=True)
    found = import_circuit(path, percent=50)
    assert graph.n_edges == 13 and found.n_edges == 6 and all(edge in found for edge in edges)
    assert {str(edge) for edge in import_circuit(path, percent=20).edges} == set(edges[:2])


def test_importances_are_one_file(tmp_path: Path) -> None:
    circuit = some_circuit(GRAPHS["grouped"])
    for name, file in (("mib", "importances.json"), ("mib_pt", "importances.pt")):
        path = export_circuit(circuit, tmp_path / f"ioi_{name}", name)
        assert [found.name for found in path.iterdir()] == [file]


# ---- drawings -------------------------------------------------------------------------------------------------------


def test_networkx_reads_graphml(tmp_path: Path) -> None:
    circuit = some_circuit(GRAPHS["grouped"])
    graph: Any = networkx.read_graphml(export_circuit(circuit, tmp_path / "c.graphml"))
    edges = {
        f"{source}->{target}" + (f"<{data['slot']}>" if "slot" in data else "")
        for source, target, data in graph.edges(data=True)
        if data["kind"] == "reads"
    }
    assert edges == {str(edge) for edge in circuit.edges}
    assert graph.nodes["a1.h2"] == {"kind": "attention head", "layer": 1}
    assert {"a1.h0", "a1.h1", "a1.h2"} >= set(graph.successors("a1.kv0")) > set(), "paths go on through shared keys"


def test_graphml_of_others_is_read_with_a_graph(tmp_path: Path) -> None:
    path = tmp_path / "mine.graphml"
    space = 'xmlns="http://graphml.graphdrawing.org/xmlns"'
    path.write_text(
        f'<graphml {space}><key id="d0" for="edge" attr.name="slot"/><graph edgedefault="directed">'
        '<node id="input"/><node id="a0.h1"/><edge source="input" target="a0.h1"><data key="d0">q</data></edge>'
        '<edge source="a0.h1" target="logits"/></graph></graphml>'
    )
    with pytest.raises(InputError, match=r"does not say of which model's graph it is; pass graph=Graph.of\(model\)"):
        import_circuit(path)
    found = import_circuit(path, graph=GRAPHS["attention-only"])
    assert {str(edge) for edge in found.edges} == {"input->a0.h1<q>", "a0.h1->logits"} and found.scores is None


def test_neuronpedia_finds_what_it_requires(tmp_path: Path) -> None:
    """The required fields of its graph-schema.json, and what its frontend would stumble over."""
    circuit = some_circuit(GRAPHS["grouped"])
    content = json.loads(export_circuit(circuit, tmp_path / "My circuit.json", "neuronpedia").read_text())
    assert {"metadata", "qParams", "nodes", "links"} <= set(content)
    assert {"slug", "scan", "prompt_tokens", "prompt"} <= set(content["metadata"])
    assert (content["metadata"]["slug"], content["metadata"]["scan"]) == ("my-circuit", "tiny")
    ids = [node["node_id"] for node in content["nodes"]]
    assert len(set(ids)) == len(ids)
    for node in content["nodes"]:
        assert {"node_id", "feature", "layer", "ctx_idx", "feature_type", "jsNodeId", "clerp"} <= set(node)
        assert isinstance(node["feature"], int) and isinstance(node["layer"], str)
        assert node["ctx_idx"] < len(content["metadata"]["prompt_tokens"])
        assert node["feature_type"] != "logit" or not node["clerp"], "it looks for a probability in a logit's label"
    assert {"embedding", "logit", "attention head", "mlp"} == {node["feature_type"] for node in content["nodes"]}
    assert len({(link["source"], link["target"]) for link in content["links"]}) == len(content["links"])
    assert all(link["source"] in ids and link["target"] in ids for link in content["links"])
    for link in content["links"]:
        assert link["weight"] == pytest.approx(sum(link["slots"].values()))


def test_dot_and_mermaid_say_every_edge(tmp_path: Path) -> None:
    circuit = Circuit.of(
        Graph(2, 2, 2, False, False),
        ["input->a0.h0<q>", "input->a0.h0<k>", "a0.h0->m1", "m1->logits"],
    )
    scores = torch.zeros(circuit.mask.shape)
    scores[circuit.graph.index(lt.nodes.parse_edge("m1->logits"))] = -2.0
    circuit = replace(circuit, scores=scores)
    dot = export_circuit(circuit, tmp_path / "c.dot").read_text()
    assert dot.startswith("digraph circuit {") and dot.endswith("}\n")
    assert '"input" -> "a0.h0" [label="q k", penwidth=0.50, tooltip="0"];' in dot
    assert '"m1" -> "logits" [penwidth=4.00, tooltip="-2", style=dashed];' in dot
    chart = export_circuit(circuit, tmp_path / "c.mmd").read_text()
    assert chart.splitlines()[0] == "flowchart BT"
    for line in ('a0_h0["a0.h0"]', 'input -->|"q k"| a0_h0', "a0_h0 --> m1", "m1 -.-> logits"):
        assert f"  {line}\n" in chart


def test_shared_keys_are_boxes_that_lead_to_their_heads(tmp_path: Path) -> None:
    circuit = Circuit.of(Graph(1, 4, 2, False, False), ["input->a0.kv1<k>", "a0.h2->logits"])
    assert (
        '"a0.kv1" -> "a0.h2" [style=dotted, arrowhead=none];' in export_circuit(circuit, tmp_path / "c.dot").read_text()
    )
    chart = export_circuit(circuit, tmp_path / "c.mmd").read_text()
    assert 'input -->|"k"| a0_kv1' in chart and "a0_kv1 --- a0_h2" in chart and "a0_h3" not in chart


# ---- which format ---------------------------------------------------------------------------------------------------


def test_the_table_is_whole() -> None:
    for name, row in FORMATS.items():
        assert row.summary and (row.read is not None or name in ("dot", "mermaid"))


@pytest.mark.parametrize(
    ("name", "file"), [("eap_ig_pt", "c.pt"), ("graphml", "c.graphml"), ("dot", "c.dot"), ("mermaid", "c.mmd")]
)
def test_a_suffix_that_leaves_no_doubt_names_the_format(tmp_path: Path, name: str, file: str) -> None:
    circuit = some_circuit(GRAPHS["grouped"])
    left, right = export_circuit(circuit, tmp_path / file), export_circuit(circuit, tmp_path / f"named-{file}", name)
    assert left.suffix == ".pt" or left.read_bytes() == right.read_bytes()


# ---- refusals -------------------------------------------------------------------------------------------------------

Given = Callable[[Path], object]
MHA, GQA = some_circuit(GRAPHS["multi-head"]), some_circuit(GRAPHS["grouped"])


def disagree(key: str, value: object, name: str = "eap_ig") -> Given:
    """A file in which one of three heads that share a key is set apart."""

    def make(folder: Path) -> object:
        def change(content: dict[str, Any]) -> None:
            content["edges"]["input->a1.h2<k>"][key] = value

        full = replace(GQA, mask=GQA.graph.real.clone())
        return import_circuit(changed(foreign(full, folder, name), change), n_kv_heads=2)

    return make


def edited(circuit: Circuit, name: str, change: Callable[[dict[str, Any]], object], **how: Any) -> Given:
    return lambda folder: import_circuit(
        changed(export_circuit(circuit, place(folder, name), name), change), format=name, **how
    )


def unmarked(circuit: Circuit, name: str, change: Callable[[dict[str, Any]], object], **how: Any) -> Given:
    return lambda folder: import_circuit(changed(foreign(circuit, folder, name), change), format=name, **how)


def written(text: str, file: str = "c.json", **how: Any) -> Given:
    def make(folder: Path) -> object:
        (folder / file).write_text(text)
        return import_circuit(folder / file, **how)

    return make


def loaded_code(folder: Path) -> object:
    (folder / "c.pt").write_bytes(pickle.dumps({"cfg": Path}))
    return import_circuit(folder / "c.pt")


def some_files(folder: Path) -> object:
    for index in range(3):
        export_circuit(MHA, folder / f"{index}.pt")
    return import_circuit(folder)


def too_large(folder: Path) -> object:
    path = export_circuit(MHA, folder / "ioi_gpt2", "mib_pt", membership=True)
    export_circuit(Circuit.full(MHA.graph), path / "0.1.pt")
    return import_circuit(path, percent=1)


def divided(folder: Path) -> object:
    graph = Graph.of(lt.load("tiny-english"), split_embed=True)
    return export_circuit(Circuit.full(graph), folder / "c.pt")


def reorder(content: dict[str, Any]) -> None:
    content["src_nodes"] = content["src_nodes"][::-1]


def infinite(content: dict[str, Any]) -> None:
    content["edges_scores"][0, 0] = torch.inf


def node_scores(content: dict[str, Any]) -> None:
    content["nodes_scores"] = torch.ones(len(content["src_nodes"]))
    content["edges_scores"], content["edges_in_graph"] = (
        torch.zeros_like(content[k]) for k in ("edges_scores", "edges_in_graph")
    )


def put(*path: str, value: object) -> Callable[[dict[str, Any]], None]:
    def change(content: dict[str, Any]) -> None:
        for key in path[:-1]:
            content = content[key]
        content[path[-1]] = value

    return change


def drop(key: str) -> Callable[[dict[str, Any]], object]:
    return lambda content: content.pop(key)


NAN = replace(MHA, scores=torch.full(MHA.mask.shape, torch.nan))
OWN_ONLY = replace(MHA, scores=None if MHA.scores is None else MHA.scores.where(MHA.mask, 0))
UNSCORED = replace(MHA, scores=None)
ATTN = some_circuit(GRAPHS["attention-only"])
WIDE = Circuit.full(Graph(4, 8, 8, False, False))

REFUSED: dict[str, tuple[Given, type[LLMTraceError], str]] = {
    "members that disagree": (
        disagree("in_graph", False),
        MismatchError,
        "Expected a1.h0<k> and a1.h2<k>, which share one key-value head, to agree, but the membership of "
        "input->a1.h0<k> is True and that of input->a1.h2<k> False; make the group agree, or",
    ),
    "scores that disagree": (
        disagree("score", 5.0),
        MismatchError,
        "but the score of input->a1.h0<k> is ",
    ),
    "attention-only": (
        lambda folder: export_circuit(ATTN, folder / "c.pt"),
        UnsupportedError,
        "this graph is of an attention-only model; export it as graphml or llmtrace.",
    ),
    "read as attention-only": (
        unmarked(MHA, "eap_ig_pt", lambda content: None, graph=ATTN.graph),
        UnsupportedError,
        "an attention-only model",
    ),
    "embeddings apart": (
        divided,
        UnsupportedError,
        "this graph is divided further (embed is one of its nodes)",
    ),
    "no such format": (
        lambda folder: export_circuit(MHA, folder / "c.pt", "eapig"),
        NotFoundError,
        "Expected a circuit format, one of llmtrace, eap_ig,",
    ),
    "which JSON": (
        lambda folder: export_circuit(MHA, folder / "c.json"),
        InputError,
        "Expected the format of 'c.json', which its name leaves open; pass format=, one of llmtrace, eap_ig",
    ),
    "wrong suffix": (
        lambda folder: export_circuit(MHA, folder / "c.json", "graphml"),
        InputError,
        "Expected a file name that ends in .graphml for graphml, got 'c.json'; rename it.",
    ),
    "unknown option": (
        lambda folder: export_circuit(MHA, folder / "c.graphml", d_model=8),
        InputError,
        "Expected options of graphml (it has none), got 'd_model'",
    ),
    "unknown option of reading": (
        lambda folder: import_circuit(export_circuit(MHA, folder / "c.graphml"), percent=1),
        InputError,
        "Expected options of graphml (graph), got 'percent'",
    ),
    "no width": (
        lambda folder: export_circuit(MHA, folder / "c.pt", d_model=-1),
        InputError,
        "Expected d_model as a whole number",
    ),
    "NaN": (lambda folder: export_circuit(NAN, folder / "c.pt"), InputError, "Expected finite scores to export"),
    "drawings are not read": (
        lambda folder: import_circuit(export_circuit(MHA, folder / "c.dot")),
        UnsupportedError,
        "dot files are drawings and do not hold a whole circuit",
    ),
    "too many arrows": (
        lambda folder: export_circuit(WIDE, folder / "c.mmd"),
        LimitError,
        "Mermaid draws at most 500 arrows",
    ),
    "nothing there": (
        lambda folder: import_circuit(folder / "c.pt"),
        NotFoundError,
        "Expected a circuit at 'c.pt', found nothing",
    ),
    "no circuit": (written("{}"), InputError, "Expected a circuit file of a known format, got 'c.json'"),
    "no JSON": (written("{"), FileFormatError, "'c.json' is not readable JSON"),
    "no XML": (written("<graphml>", "c.graphml"), FileFormatError, "'c.graphml' is not readable XML"),
    "no GraphML": (written("<svg/>", "c.graphml"), FileFormatError, "Expected GraphML with a graph in 'c.graphml'"),
    "no tensors": (written("PK", "c.pt"), FileFormatError, "Expected tensors and plain values in 'c.pt'"),
    "code": (
        loaded_code,
        FileFormatError,
        "Expected tensors and plain values in 'c.pt', got a broken file or one that",
    ),
    "no membership": (
        edited(MHA, "eap_ig_pt", drop("edges_in_graph")),
        FileFormatError,
        "found no edges_in_graph; give another file.",
    ),
    "no cfg": (
        edited(MHA, "eap_ig", drop("cfg")),
        FileFormatError,
        "Expected an EAP-IG graph with cfg, nodes, edges in",
    ),
    "broken cfg": (
        edited(MHA, "eap_ig", put("cfg", "n_heads", value="4")),
        FileFormatError,
        "Expected n_layers and n_heads above 0",
    ),
    "another size": (
        edited(MHA, "eap_ig", put("cfg", "n_heads", value=5)),
        FileFormatError,
        "Expected 20 nodes of 3 layers x 5 heads",
    ),
    "another shape": (
        edited(MHA, "eap_ig_pt", put("cfg", "n_layers", value=4)),
        FileFormatError,
        "Expected tensors of (21, 53)",
    ),
    "another order": (edited(MHA, "eap_ig_pt", reorder), FileFormatError, "got another order; export it again."),
    "an infinite score": (unmarked(MHA, "eap_ig_pt", infinite), FileFormatError, "Expected finite scores of edges in"),
    "nodes only": (unmarked(MHA, "eap_ig_pt", node_scores), UnsupportedError, "scores nodes, and a circuit here is"),
    "neurons": (
        edited(MHA, "eap_ig", put("nodes", "m0", "neurons", value=[True])),
        UnsupportedError,
        "chooses among neurons of each node; export it at edge level.",
    ),
    "neurons in tensors": (
        edited(MHA, "eap_ig_pt", put("neurons_in_graph", value=torch.ones(16, 4))),
        UnsupportedError,
        "neurons",
    ),
    "an edge that is none": (
        edited(MHA, "eap_ig", put("edges", "m2->a0.h0<q>", value={"score": 0.0, "in_graph": True})),
        FileFormatError,
        "has the edge 'm2->a0.h0<q>', which Graph(3 layers x 4 heads,",
    ),
    "a membership that is none": (
        edited(MHA, "eap_ig", put("edges", "input->m0", "in_graph", value="yes")),
        FileFormatError,
        "Expected 'in_graph' of every edge in",
    ),
    "a score that is none": (
        edited(MHA, "eap_ig", put("edges", "input->m0", "score", value=None)),
        FileFormatError,
        "Expected 'score' of every edge in",
    ),
    "another graph": (
        edited(MHA, "eap_ig", lambda content: None, graph=GQA.graph),
        MismatchError,
        "but 'ioi_n0.json' is of 3 layers x 4",
    ),
    "parallel or not": (
        edited(MHA, "eap_ig_pt", lambda c: None, graph=replace(MHA.graph, parallel=True)),
        MismatchError,
        "with parallel blocks, but 'ioi_n0.pt' is of 3 layers x 4 heads; give the graph",
    ),
    "other groups": (
        edited(GQA, "eap_ig", lambda content: None, n_kv_heads=3),
        MismatchError,
        "Expected 2 key-value heads in each layer of 'ioi_n0.json', got 3",
    ),
    "groups that do not divide": (
        unmarked(GQA, "eap_ig", lambda content: None, n_kv_heads=4),
        FileFormatError,
        "divides the 6 heads of",
    ),
    "a mark that is no graph": (
        edited(MHA, "eap_ig", put("llmtrace", "graph", "parallel", value="no")),
        FileFormatError,
        "its graph says neither yes nor no where it should",
    ),
    "infinite GraphML": (
        lambda folder: written(
            export_circuit(MHA, folder / "a.graphml")
            .read_text()
            .replace('"score">', '"score">1e999</data><data key="old">', 1),
            "c.graphml",
        )(folder),
        FileFormatError,
        "Expected finite scores of edges in 'c.graphml', got NaN or infinity",
    ),
    "an unknown encoding": (
        written("<?xml version='1.0' encoding='utf-x'?><a/>", "c.graphml"),
        FileFormatError,
        "'c.graphml' is not readable XML",
    ),
    "a damaged mark": (
        edited(MHA, "eap_ig", put("llmtrace", "graph", value={"n_layers": 3})),
        FileFormatError,
        "What llmtrace wrote into 'ioi_n0.json' beside the circuit is damaged",
    ),
    "a newer mark": (
        edited(MHA, "neuronpedia", put("metadata", "llmtrace", "version", value=9)),
        FileFormatError,
        "newer",
    ),
    "features": (
        edited(MHA, "neuronpedia", lambda content: content["metadata"].pop("llmtrace")),
        UnsupportedError,
        "is a graph of features on one prompt; a circuit here is made of heads and MLPs.",
    ),
    "a link from nowhere": (
        edited(MHA, "neuronpedia", lambda content: content["links"][0].update(source="9_9_9")),
        FileFormatError,
        "The nodes and links of 'ioi_n0.json' are not those of Graph(3 layers x 4 heads",
    ),
    "another model's drawing": (
        edited(MHA, "neuronpedia", lambda content: None, graph=GQA.graph),
        MismatchError,
        "give the graph of its model.",
    ),
    "another model's GraphML": (
        lambda folder: import_circuit(export_circuit(MHA, folder / "c.graphml"), graph=GQA.graph),
        MismatchError,
        "give the graph of its model.",
    ),
    "another model's circuit": (
        edited(MHA, "llmtrace", lambda content: None, graph=GQA.graph),
        MismatchError,
        "load its own model.",
    ),
    "folder name": (
        lambda folder: export_circuit(MHA, folder / "mine", "mib"),
        InputError,
        "Expected a folder named task_model, such as 'ioi_gpt2', with a task of ioi, mcqa",
    ),
    "no ranking": (
        lambda folder: export_circuit(UNSCORED, folder / "ioi_gpt2", "mib"),
        InputError,
        "MIB ranks edges, and this circuit has no scores",
    ),
    "half a ranking": (
        lambda folder: export_circuit(OWN_ONLY, folder / "ioi_gpt2", "mib"),
        InputError,
        "MIB ranks all 262 edges, and of",
    ),
    "three files": (some_files, FileFormatError, "Expected one file of importances or nine of membership"),
    "no such size": (
        lambda folder: import_circuit(export_circuit(MHA, folder / "ioi_x", "mib", membership=True), percent=3),
        InputError,
        "Expected percent, one of 0.1, 0.2",
    ),
    "a size of importances": (
        lambda folder: import_circuit(export_circuit(MHA, folder / "ioi_x", "mib"), percent=5),
        InputError,
        "'ioi_x' has 1 and percent is 5",
    ),
    "too large for MIB": (too_large, FileFormatError, "MIB's nine sizes are at most 0.1, 0.2"),
}


@pytest.mark.usefixtures("as_users_run")
@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_is_refused_in_one_sentence(tmp_path: Path, name: str) -> None:
    do, error, sentence = REFUSED[name]
    with pytest.raises(LLMTraceError) as caught:
        do(tmp_path)
    assert type(caught.value) is error and sentence in str(caught.value), str(caught.value)
    assert str(caught.value).endswith((".", "?")) and "\n" not in str(caught.value)
    assert not [file for file in tmp_path.iterdir() if file.name.startswith(".")], "a draft was left behind"


@pytest.mark.parametrize("name", [name for name in READABLE if not name.startswith("mib")])
@settings(deadline=None, max_examples=40)
@given(cut=st.floats(0, 1), put=st.sampled_from([b"", b"\0", b"1e999", b"null", b"[]", b'"m0"', b"true"]))
def test_a_damaged_file_is_refused_or_read(
    tmp_path_factory: pytest.TempPathFactory, name: str, cut: float, put: bytes
) -> None:
    """Some bytes lost, some put in their place: one of our sentences, never another error."""
    path = export_circuit(GQA, place(tmp_path_factory.mktemp("cut"), name), name)
    content = path.read_bytes()
    at = int(cut * len(content))
    path.write_bytes(content[:at] + put + (content[at + 4 :] if put else b""))
    try:
        found = import_circuit(path, format=name)
    except LLMTraceError as error:
        assert "\n" not in str(error)
    else:
        assert found.graph == GQA.graph or found.mask.shape == found.graph.real.shape


def test_a_folder_that_exists_is_kept(tmp_path: Path) -> None:
    export_circuit(MHA, tmp_path / "ioi_gpt2", "mib")
    with pytest.raises(InputError, match="Expected a new folder, but 'ioi_gpt2' exists"):
        export_circuit(MHA, tmp_path / "ioi_gpt2", "mib")


# ---- the command ----------------------------------------------------------------------------------------------------


def run(*arguments: str | Path) -> Any:
    return CliRunner().invoke(app, ["convert", *map(str, arguments)])


def test_the_command_converts_back_and_forth(tmp_path: Path) -> None:
    GQA.save(tmp_path / "found" / "circuit.json")
    for name in [name for name in FORMATS if not name.startswith("mib")]:
        out = tmp_path / name
        result = run(tmp_path / "found", "--to", name, "--out", out)
        assert result.exit_code == 0, result.stderr
        file = out / f"circuit{FORMATS[name].suffix}"
        assert file.is_file() and f"{file.name}, result.json" in result.stdout
        if FORMATS[name].read is not None:
            again = run(file, "--to", "llmtrace", "--out", tmp_path / f"{name} again")
            assert again.exit_code == 0, again.stderr
            same(Circuit.load(tmp_path / f"{name} again" / "circuit.json"), GQA, all_scores=False)


def test_the_command_writes_submissions(tmp_path: Path) -> None:
    source = export_circuit(GQA, tmp_path / "all.pt")
    result = run(source, "--to", "mib", "--name", "ioi_gpt2", "--membership", "--out", tmp_path / "sent", "--json")
    found = json.loads(result.stdout)
    assert found["kind"] == "llmtrace.cli.convert" and len(found["rows"]) == 9
    assert found == json.loads((tmp_path / "sent" / "result.json").read_text())
    result = run(tmp_path / "sent" / "ioi_gpt2", "--to", "llmtrace", "--percent", "20", "--out", tmp_path / "back")
    assert result.exit_code == 0 and "llmtrace evaluate MODEL" in result.stdout
    expected = import_circuit(tmp_path / "sent" / "ioi_gpt2", percent=20)
    assert torch.equal(Circuit.load(tmp_path / "back" / "circuit.json").mask, expected.mask)


def test_the_command_takes_the_graph_from_another_circuit(tmp_path: Path) -> None:
    source = foreign(GQA, tmp_path, "eap_ig")
    like = GQA.save(tmp_path / "like.json")
    for how in (("--like", like), ("--n-kv-heads", "2")):
        out = tmp_path / str(how[0])
        assert run(source, "--to", "llmtrace", *how, "--out", out).exit_code == 0
        assert Circuit.load(out / "circuit.json").graph == GQA.graph


def test_without_out_nothing_is_written(tmp_path: Path) -> None:
    path = export_circuit(MHA, tmp_path / "c.graphml")
    result = run(path, "--to", "dot")
    assert result.exit_code == 0 and "Nothing was written: add --out FOLDER" in result.stdout
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (("--to", "eapig"), 3, "Expected a circuit format, one of llmtrace"),
        (("--to", "mib"), 2, "mib writes a folder per task and model, so it needs --name"),
        (("--to", "dot", "--name", "a/b"), 2, "Expected --name to be a plain name without folders"),
        (("--to", "dot", "--percent", "5"), 2, "got 'percent'; leave it out."),
        (("--to", "dot", "--d-model", "5"), 2, "dot takes no option of other methods, got --d-model"),
        (("--to", "mib", "--name", "mine"), 2, "Expected a folder named task_model"),
    ],
)
def test_the_command_refuses(tmp_path: Path, arguments: tuple[str, ...], code: int, sentence: str) -> None:
    path = export_circuit(MHA, tmp_path / "c.graphml")
    result = run(path, *arguments, "--out", tmp_path / "out")
    assert (result.exit_code, result.stdout) == (code, "") and sentence in result.stderr
    assert list(tmp_path.iterdir()) == [path]


def test_graphml_is_well_formed(tmp_path: Path) -> None:
    provenance = {"model": 'a "name" with <brackets> & more, and \x01'}
    path = export_circuit(replace(MHA, provenance=provenance), tmp_path / "c.graphml")
    assert ElementTree.parse(path).getroot().tag.endswith("graphml")
    assert import_circuit(path).provenance == provenance


def test_matrices_of_a_head_form_come_back() -> None:
    for graph in GRAPHS.values():
        form, matrix = HeadForm(graph), torch.arange(graph.real.numel()).view(graph.real.shape)
        spread: Tensor = form.spread(matrix)
        assert spread.shape[1] == sum(3 * graph.n_heads + (not graph.attn_only) for _ in range(graph.n_layers)) + 1
        assert torch.equal(form.gather(spread, "number"), matrix)
