"""GraphML, which Gephi, yEd, Cytoscape, igraph and networkx read.

    <node id="a0.h0">  kind, layer        <edge source="a0.h0" target="a1.h2">  kind=reads, slot, score

Node names are the field's, so a file of another program is read where `graph` says of which model. With grouped queries
key-value heads are nodes of their own (`a1.kv0`), and edges of kind `shares` lead from them to the query heads that use
them, so that paths go on; they are no edges of the circuit. Scores outside the circuit are not kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import torch

from llmtrace.circuits.circuit import Circuit
from llmtrace.circuits.formats.sharing.arrows import boxes, circuit_arrows, shares
from llmtrace.circuits.formats.sharing.stamp import (
    KEY,
    Stamp,
    finite_scores,
    foreign_fields,
    read_stamp,
    require_finite,
)
from llmtrace.circuits.graph import Graph
from llmtrace.errors import FileFormatError, InputError, LLMTraceError, MismatchError, NotFoundError
from llmtrace.files import first_problem, write_bytes
from llmtrace.nodes import parse_edge

SPACE = "http://graphml.graphdrawing.org/xmlns"
READS, SHARES = "reads", "shares"
# id, what it belongs to, name, type
DATA = (
    ("stamp", "graph", KEY, "string"),
    ("node_kind", "node", "kind", "string"),
    ("layer", "node", "layer", "int"),
    ("edge_kind", "edge", "kind", "string"),
    ("slot", "edge", "slot", "string"),
    ("score", "edge", "score", "double"),
)


def write(circuit: Circuit, path: str | Path) -> Path:
    """One file with the circuit's nodes and edges."""
    root = ElementTree.Element("graphml", xmlns=SPACE)
    for identity, of, name, kind in DATA:
        ElementTree.SubElement(root, "key", {"id": identity, "for": of, "attr.name": name, "attr.type": kind})
    parent = ElementTree.SubElement(root, "graph", id="circuit", edgedefault="directed")
    _add_data(parent, stamp=Stamp.of(circuit).model_dump_json())
    drawn = circuit_arrows(circuit, finite_scores(circuit))
    nodes = boxes(drawn)
    for node in nodes:
        _add_data(ElementTree.SubElement(parent, "node", id=str(node)), node_kind=node.kind, layer=node.depth)
    for arrow in drawn:
        for slot, score in arrow.slots.items():
            edge = ElementTree.SubElement(parent, "edge", source=str(arrow.source), target=str(arrow.target))
            _add_data(edge, edge_kind=READS, slot=slot or None, score=score)
    for kv_head, head in shares(circuit, nodes):
        edge = ElementTree.SubElement(parent, "edge", source=str(kv_head), target=str(head))
        _add_data(edge, edge_kind=SHARES)
    ElementTree.indent(root, " ")
    write_bytes(path, ElementTree.tostring(root, encoding="utf-8", xml_declaration=True) + b"\n")
    return Path(path)


def _add_data(element: ElementTree.Element, **values: Any) -> None:
    for key, value in values.items():
        if value is not None:
            ElementTree.SubElement(element, "data", key=key).text = str(value)


def read(path: str | Path, *, graph: Graph | None = None) -> Circuit:
    """Raises FileFormatError for a broken file, InputError where it does not say of which graph it is."""
    root, name = _parse(Path(path)), Path(path).name
    parent = root.find(f"{{{SPACE}}}graph")
    if parent is None:
        raise FileFormatError(f"Expected GraphML with a graph in {name!r}, got {root.tag!r:.60}; give another file.")
    names = {key.get("id", ""): key.get("attr.name", "") for key in root.iter(f"{{{SPACE}}}key")}
    stamp = read_stamp(_data(parent, names).get(KEY), name)
    found = graph if graph is not None else stamp.model_graph() if stamp else None
    if found is None:
        raise InputError(f"{name!r} does not say of which model's graph it is; pass graph=Graph.of(model).")
    if stamp is not None and stamp.model_graph() != found:
        raise MismatchError(
            f"Expected a circuit of {found}, but {name!r} is of {stamp.model_graph()}; give the graph of its model."
        )
    try:
        edges = list(_edges(parent, names))
        at = [found.index(parse_edge(edge)) for edge, _ in edges]
        values = [None if score is None else float(score) for _, score in edges]
    except (ValueError, LLMTraceError) as error:
        raise FileFormatError(
            f"The edges of {name!r} are not those of {found} ({first_problem(error).rstrip('.')}); export it again."
        ) from None
    mask, scores = torch.zeros_like(found.real), torch.zeros(found.real.shape, dtype=torch.float64)
    for place, value in zip(at, values, strict=True):
        mask[place], scores[place] = True, value or 0.0
    require_finite(scores, name)
    scored = any(value is not None for value in values) if stamp is None else stamp.scores is not None
    return Circuit(
        found,
        mask,
        scores=scores.to(stamp.dtype if stamp else torch.float32) if scored else None,
        **(stamp.fields() if stamp else foreign_fields(name, "graphml")),
    )


def _parse(path: Path) -> ElementTree.Element:
    if not path.is_file():
        raise NotFoundError(f"Expected the file {path.name!r}, found none at that path; check the path.")
    try:
        return ElementTree.parse(path).getroot()
    except (ElementTree.ParseError, LookupError, ValueError) as error:  # unknown encodings are a LookupError
        raise FileFormatError(
            f"{path.name!r} is not readable XML ({error}); it is truncated or no GraphML: export it again."
        ) from None


def _data(element: ElementTree.Element, names: dict[str, str]) -> dict[str, str]:
    """The values of an element by name."""
    return {names.get(data.get("key", ""), ""): data.text or "" for data in element.findall(f"{{{SPACE}}}data")}


def _edges(parent: ElementTree.Element, names: dict[str, str]) -> Iterator[tuple[str, str | None]]:
    """Names and scores of the circuit's edges."""
    for element in parent.findall(f"{{{SPACE}}}edge"):
        data = _data(element, names)
        if data.get("kind", READS) == READS:
            slot = f"<{data['slot']}>" if data.get("slot") else ""
            yield f"{element.get('source')}->{element.get('target')}{slot}", data.get("score")
