"""Neuronpedia's (and circuit-tracer's) attribution graph, to look at in a browser: metadata, qParams, nodes, links.

Its graphs have a column per token; a circuit holds at every position, so all its nodes stand in one column, labelled
"(all positions)". A link joins two nodes and weighs the sum of the scores of the slots it reads through (1 without
scores); `slots` has them one by one. Keys and values are those of query heads (`head_form`).

Only files of our own are read: others are of features of one prompt, which are no nodes of a circuit here. As in
`circuit.json`, scores outside the circuit are not kept.

Format: https://github.com/safety-research/circuit-tracer; Neuronpedia's graph-schema.json.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ValidationError

from llmtrace.circuits.circuit import Circuit
from llmtrace.circuits.formats.sharing.arrows import Arrow, arrows
from llmtrace.circuits.formats.sharing.head_form import HeadForm
from llmtrace.circuits.formats.sharing.stamp import KEY, Stamp, finite_scores, read_stamp, require_finite
from llmtrace.circuits.graph import Graph
from llmtrace.errors import FileFormatError, LLMTraceError, MismatchError, UnsupportedError
from llmtrace.files import first_problem, read_json, write_text
from llmtrace.nodes import Logits, Node, Port, parse_node

COLUMN = 1  # the frontend drops what stands at more than two thirds of the tokens, so there are two
TOKENS = ("(all", " positions)")
READS = "in"  # the slot of an MLP and of the logits
KINDS = {"embedding": "embedding", "logits": "logit"}  # what the frontend knows; it draws others as circles


class Link(BaseModel):
    """What is read of a link."""

    source: str
    target: str
    slots: dict[str, float | None]


class Place(BaseModel):
    """What is read of a node."""

    node_id: str
    name: str


def write(circuit: Circuit, path: str | Path) -> Path:
    """One JSON file, which Neuronpedia's upload and circuit-tracer's server take."""
    graph, form, scores = circuit.graph, HeadForm(circuit.graph), finite_scores(circuit)
    drawn = arrows(
        graph.nodes, form.ports, form.spread(circuit.mask.cpu()), None if scores is None else form.spread(scores)
    )
    ends = {end for arrow in drawn for end in (arrow.source, arrow.target)}
    nodes = [node for node in (*graph.nodes, Logits()) if node in ends or node.depth in (-1, None)]
    ids = {node: _identity(graph, node) for node in nodes}
    model = str(circuit.provenance.get("model", "unknown"))
    content = {
        "metadata": {
            "slug": re.sub(r"[^a-z0-9]+", "-", Path(path).stem.lower()).strip("-") or "circuit",
            "scan": model, "transcoder_list": [], "prompt_tokens": list(TOKENS), "prompt": "".join(TOKENS),
            "info": {"description": f"{circuit!r} of {model}", "generator": {"name": "llmtrace"}},
            KEY: Stamp.of(circuit).model_dump(),
        },
        "qParams": {"pinnedIds": [], "supernodes": [], "linkType": "both", "clickedId": "", "sg_pos": ""},
        "nodes": [_node(node, ids[node]) for node in nodes],
        "links": [_link(arrow, ids) for arrow in drawn],
    }  # fmt: skip
    write_text(path, json.dumps(content, allow_nan=False))
    return Path(path)


def _identity(graph: Graph, node: Node) -> str:
    """`layer_feature_position`, as the frontend takes it apart; the feature is the node's row."""
    layer = {-1: "E", None: str(graph.n_layers + 1)}.get(node.depth, str(node.depth))
    return f"{layer}_{graph.row.get(node, len(graph.nodes))}_{COLUMN}"


def _node(node: Node, identity: str) -> dict[str, Any]:
    layer, feature, _ = identity.split("_")
    return {
        "node_id": identity, "feature": int(feature), "layer": layer, "ctx_idx": COLUMN,
        "feature_type": KINDS.get(node.kind, node.kind), "token_prob": 0.0, "is_target_logit": False,
        "run_idx": 0, "reverse_ctx_idx": 0, "jsNodeId": f"{layer}_{feature}-0",
        # the frontend looks for a probability in the label of a logit
        "clerp": "" if node.writes is None else str(node),
        "influence": None, "activation": None, "name": str(node),
    }  # fmt: skip


def _link(arrow: Arrow, ids: dict[Node, str]) -> dict[str, Any]:
    return {
        "source": ids[arrow.source],
        "target": ids[arrow.target],
        "weight": 1.0 if arrow.total is None else arrow.total,
        "slots": {slot or READS: score for slot, score in arrow.slots.items()},
    }


def read(path: str | Path, *, graph: Graph | None = None) -> Circuit:
    """A file of ours. Raises UnsupportedError for an attribution graph of features."""
    content, name = read_json(path), Path(path).name
    if not isinstance(content.get("metadata"), dict) or not isinstance(content.get("links"), list):
        raise FileFormatError(f"Expected an attribution graph with metadata and links in {name!r}; give another file.")
    stamp = read_stamp(content["metadata"].get(KEY), name)
    if stamp is None:
        raise UnsupportedError(
            f"Expected a Neuronpedia file that llmtrace exported, but {name!r} is a graph of features on one prompt; a "
            "circuit here is made of heads and MLPs."
        )
    found = stamp.model_graph()
    if graph is not None and graph != found:
        raise MismatchError(f"Expected a circuit of {graph}, but {name!r} is of {found}; give the graph of its model.")
    try:
        places = {place.node_id: parse_node(place.name) for place in map(Place.model_validate, content["nodes"])}
        links = [Link.model_validate(link) for link in content["links"]]
        return _circuit(found, places, links, stamp, name)
    except (ValidationError, TypeError, KeyError, LLMTraceError) as error:
        if isinstance(error, MismatchError | FileFormatError):
            raise
        raise FileFormatError(
            f"The nodes and links of {name!r} are not those of {found} ({first_problem(error).rstrip('.')}); "
            "export it again."
        ) from None


def _circuit(graph: Graph, places: dict[str, Node], links: list[Link], stamp: Stamp, name: str) -> Circuit:
    form = HeadForm(graph)
    column_of = {port: column for column, port in enumerate(form.ports)}
    mask, scores = torch.zeros_like(form.real), torch.zeros(form.real.shape, dtype=torch.float64)
    for link in links:
        for slot, score in link.slots.items():
            port = Port(places[link.target], None if slot == READS else slot)  # type: ignore[arg-type]
            at = graph.row[places[link.source]], column_of[port]
            mask[at], scores[at] = True, score or 0.0
    require_finite(scores, name)
    return Circuit(
        graph,
        form.gather(mask, "membership"),
        scores=form.gather(scores, "score").to(stamp.dtype) if stamp.scores else None,
        **stamp.fields(),
    )
