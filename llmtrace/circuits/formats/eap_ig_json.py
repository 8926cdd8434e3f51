"""EAP-IG's graph as one JSON object, which MIB reads too.

    {"cfg": {"n_layers", "n_heads", "parallel_attn_mlp", "d_model"},
     "nodes": {"input": {"in_graph"}, "a0.h0": ..., "m0": ..., "logits": ...},
     "edges": {"input->a0.h0<q>": {"score", "in_graph"}, "a0.h0->m0": ...}}

What can be named, and what is refused: `eap_ig_graph`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from llmtrace.circuits.circuit import Circuit
from llmtrace.circuits.formats.sharing.eap_ig_graph import (
    circuit_of,
    config_of,
    graph_of,
    head_matrices,
    live_nodes,
    require_edge_level,
    require_keys,
    shape_of,
)
from llmtrace.circuits.formats.sharing.head_form import HeadForm
from llmtrace.circuits.formats.sharing.stamp import KEY, Stamp, read_stamp
from llmtrace.circuits.graph import Graph
from llmtrace.errors import FileFormatError
from llmtrace.files import read_json, write_text

KEYS = ("cfg", "nodes", "edges")


def write(circuit: Circuit, path: str | Path, *, d_model: int | None = None) -> Path:
    """One JSON file. Every edge of the graph is in it: large graphs are smaller and faster as tensors."""
    form, mask, scores = head_matrices(circuit)
    columns, rows = form.real.T.nonzero(as_tuple=True)
    writers, readers = list(map(str, circuit.graph.nodes)), list(map(str, form.ports))
    content = {
        "cfg": config_of(circuit, d_model),
        "nodes": {
            **{name: {"in_graph": there} for name, there in zip(writers, live_nodes(form, mask).tolist(), strict=True)},
            "logits": {"in_graph": True},
        },
        KEY: Stamp.of(circuit).model_dump(),
    }
    # an object per edge would take four times as long: names need no escape, and a finite float prints as JSON's
    values = zip(
        rows.tolist(), columns.tolist(), scores[rows, columns].tolist(), mask[rows, columns].tolist(), strict=True
    )
    edges = ", ".join(
        f'"{writers[row]}->{readers[column]}": {{"score": {score!r}, "in_graph": {"true" if there else "false"}}}'
        for row, column, score, there in values
    )
    write_text(path, f'{json.dumps(content, allow_nan=False)[:-1]}, "edges": {{{edges}}}}}')
    return Path(path)


def read(path: str | Path, *, graph: Graph | None = None, n_kv_heads: int | None = None) -> Circuit:
    """Raises FileFormatError for what is not such a file, MismatchError where it contradicts `graph`."""
    content, name = read_json(path), Path(path).name
    require_keys(content, KEYS, name)
    nodes, edges = content["nodes"], content["edges"]
    if not isinstance(nodes, dict) or not isinstance(edges, dict):
        raise FileFormatError(f"Expected nodes and edges by name in {name!r}, got lists; export it again.")
    require_edge_level(any(isinstance(node, dict) and "neurons" in node for node in nodes.values()), name)
    stamp = read_stamp(content.get(KEY), name)
    layers, heads, _ = shape_of(content["cfg"], name)
    if len(nodes) != 2 + layers * (heads + 1):
        raise FileFormatError(
            f"Expected {2 + layers * (heads + 1)} nodes of {layers} layers x {heads} heads in {name!r}, "
            f"got {len(nodes)}; export it again."
        )
    form = HeadForm(graph_of(content["cfg"], stamp, graph, n_kv_heads, name))
    rows, columns = _places(form, edges, name)
    mask, scores = torch.zeros_like(form.real), torch.zeros(form.real.shape, dtype=torch.float64)
    mask[rows, columns] = _column(edges, "in_graph", bool, name)
    scored = any(isinstance(edge, dict) and "score" in edge for edge in edges.values())
    if scored:
        scores[rows, columns] = _column(edges, "score", float, name)
    node_level = any("score" in node for node in nodes.values() if isinstance(node, dict))
    return circuit_of(form, mask, scores.to(stamp.dtype if stamp else torch.float32), stamp, node_level, name, content)


def _places(form: HeadForm, edges: dict[str, Any], name: str) -> tuple[Tensor, Tensor]:
    """Row and column of every edge of the file."""
    row_of = {str(node): row for row, node in enumerate(form.graph.nodes)}
    column_of = {str(port): column for column, port in enumerate(form.ports)}
    found: list[tuple[int, int]] = []
    for edge in edges:
        writer, _, reader = edge.partition("->")
        found.append((row_of.get(writer, -1), column_of.get(reader, -1)))
    rows, columns = torch.tensor(found, dtype=torch.long).view(-1, 2).T
    wrong = (rows < 0) | (columns < 0) | ~form.real[rows, columns]
    if bool(wrong.any()):
        edge = list(edges)[int(wrong.nonzero()[0])]
        raise FileFormatError(
            f"{name!r} has the edge {edge!r}, which {form.graph} does not have; export it again, or give its own graph."
        )
    return rows, columns


def _column(edges: dict[str, Any], key: str, kind: type, name: str) -> Tensor:
    """One entry of every edge."""
    allowed = (bool,) if kind is bool else (int, float)
    try:
        values = [edge[key] for edge in edges.values()]
    except (KeyError, TypeError):
        values = [None]
    if not {type(value) for value in values} <= set(allowed):
        raise FileFormatError(
            f"Expected {key!r} of every edge in {name!r} as {'true or false' if kind is bool else 'a number'}; "
            "export it again."
        )
    return torch.tensor(values, dtype=torch.bool if kind is bool else torch.float64)
