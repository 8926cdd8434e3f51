"""A circuit: its edges and nodes. The edges outside it, and how faithful it is, are not in its file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from llmtrace.console.schemas import CircuitEdge, CircuitNode, CircuitView
from llmtrace.console.stored.found import Found, stored_run
from llmtrace.errors import FileFormatError
from llmtrace.files import read_json, require_schema
from llmtrace.nodes import Node, parse_edge

KIND, VERSION = "llmtrace.circuit", 1
SENT = 2000  # edges


def read_circuit(path: Path) -> Found:
    """Raises FileFormatError for a file that is damaged, or of another kind."""
    about = read_json(path)
    require_schema(about, KIND, VERSION, path.name)
    try:
        return _found(path, about)
    except Exception as error:  # whatever a damaged file ends in
        raise FileFormatError(f"{path.name!r} is damaged ({type(error).__name__}: {error}); write it again.") from error


def _found(path: Path, about: dict[str, Any]) -> Found:
    graph, options = about["graph"], about["options"]
    edges = [parse_edge(text) for text in about["edges"]]
    scores = about["scores"] or [0.0] * len(edges)
    ranked = sorted(zip(edges, scores, strict=True), key=lambda each: -abs(each[1]))[:SENT]
    roles = {node: role for role, nodes in about["roles"].items() for node in nodes}
    ends = dict.fromkeys(node for edge, _ in ranked for node in (edge.writer, edge.port.node))
    python = f"import llmtrace as lt\n\ncircuit = lt.Circuit.load({str(path)!r})\nresult = circuit.n_edges\n"
    run = stored_run(
        path.stem, python, about["provenance"], metric=str(options.get("metric", "")), about=about["edges"]
    )
    method = str(options.get("method", "circuit"))
    view = CircuitView(
        run=run.about.id, method=method,
        nodes=[_node(node, graph, roles.get(str(node))) for node in sorted(ends, key=lambda n: (n.stage, str(n)))],
        edges=[CircuitEdge(sender=str(e.writer), receiver=str(e.port), score=score, kept=True) for e, score in ranked],
        edges_total=len(edges), edges_cut=len(edges) - len(ranked), faithfulness=None, curve=[], python=python,
    )  # fmt: skip
    run.put("circuit", view, method=method, edges=len(edges))
    return Found([run])


def _node(node: Node, graph: dict[str, Any], role: str | None) -> CircuitNode:
    index, of = getattr(node, "index", None), graph.get(node.counted or "")
    x = (index + 0.5) / (of + 1) if index is not None and of else 1.0 if node.in_mlp else 0.5
    layer = int(graph["n_layers"]) if node.depth is None else node.depth
    return CircuitNode(name=str(node), layer=layer, x=x, role=role)
