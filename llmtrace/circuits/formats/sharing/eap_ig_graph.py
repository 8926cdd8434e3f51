"""What both forms of EAP-IG's graph files share: their matrices, their `cfg`, and which graph a file belongs to.

    source   input 0, head 1 + l(H+1) + h, MLP 1 + l(H+1) + H
    port     head l(3H+1) + {q: 0, k: 1, v: 2} H + h, MLP l(3H+1) + 3H, logits last

Keys and values are those of query heads (`head_form`). A file does not say how many key-value heads its model has:
ours add `n_key_value_heads` to `cfg`, for others pass `n_kv_heads`, else every head has its own. Nor does it say
whether blocks are followed by norms: of such a model (Gemma 2) pass `graph`.
`d_model` matters to EAP-IG at the level of neurons only; it is written as 0 where nobody said it. Where a file has
membership of edges that do not exist (EAP-IG's node level writes whole rows) they are dropped.

Refused: graphs with other nodes than input, heads, MLPs and logits; attention-only models, because EAP-IG gives every
layer an MLP; files at the level of neurons, and files that score nodes and choose no edges.

EAP-IG: Hanna, Pezzelle, Belinkov, "Have Faith in Faithfulness" (2024), https://github.com/hannamw/EAP-IG
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from llmtrace.circuits.circuit import Circuit
from llmtrace.circuits.formats.sharing.head_form import HeadForm
from llmtrace.circuits.formats.sharing.stamp import Stamp, finite_scores, foreign_fields, require_finite
from llmtrace.circuits.graph import Graph
from llmtrace.errors import FileFormatError, InputError, MismatchError, UnsupportedError
from llmtrace.nodes import Embed, Head, Mlp, Node

KV_HEADS = "n_key_value_heads"


def head_matrices(circuit: Circuit) -> tuple[HeadForm, Bool[Tensor, "source port"], Float[Tensor, "source port"]]:
    """Head form, membership and scores, which are zero where there are none."""
    require_nameable(circuit.graph)
    form, scores = HeadForm(circuit.graph), finite_scores(circuit)
    if scores is None:
        scores = torch.zeros(circuit.mask.shape)
    scores = scores.where(circuit.graph.real, 0)
    return form, form.spread(circuit.mask.cpu()).contiguous(), form.spread(scores).contiguous()


def config_of(circuit: Circuit, d_model: int | None) -> dict[str, Any]:
    graph = circuit.graph
    width = circuit.options.get("d_model", 0) if d_model is None else d_model
    if not isinstance(width, int) or isinstance(width, bool) or width < 0:
        raise InputError(f"Expected d_model as a whole number such as 768, got {width!r}; leave it out if unknown.")
    config = {
        "n_layers": graph.n_layers, "n_heads": graph.n_heads, "parallel_attn_mlp": graph.parallel, "d_model": width
    }  # fmt: skip
    return config if graph.n_kv_heads == graph.n_heads else {**config, KV_HEADS: graph.n_kv_heads}


def require_nameable(graph: Graph) -> None:
    """Refuse a graph with nodes that EAP-IG's does not have, or without those that it has."""
    if graph.attn_only:
        raise UnsupportedError(
            "EAP-IG's graph has an MLP in every layer and cannot run a model without them, and this graph is of an "
            "attention-only model; export it as graphml or llmtrace."
        )
    expected: list[Node] = [Embed("input")]
    for layer in range(graph.n_layers):
        expected += [*(Head(layer, head) for head in range(graph.n_heads)), Mlp(layer)]
    n_ports = graph.n_layers * (graph.n_heads + 2 * graph.n_kv_heads + 1) + 1
    if list(graph.nodes) != expected or len(graph.ports) != n_ports:
        other = next((node for node in graph.nodes if node not in expected), graph.nodes[0])
        raise UnsupportedError(
            f"EAP-IG names input, heads, MLPs and logits as nodes, and this graph is divided further ({other} is one "
            "of its nodes); export it as graphml or llmtrace, or discover on the plain graph."
        )


def live_nodes(form: HeadForm, mask: Bool[Tensor, "source port"]) -> Bool[Tensor, " source"]:
    """EAP-IG's membership of nodes: some edge out and some edge in; the input needs none in."""
    graph = form.graph
    layers = mask.any(0)[:-1].view(graph.n_layers, 3 * graph.n_heads + 1)
    heads = layers[:, :-1].view(graph.n_layers, 3, graph.n_heads).any(1)
    entered = torch.cat([heads, layers[:, -1:]], 1).flatten()
    return mask.any(1) & torch.cat([torch.ones(1, dtype=torch.bool), entered])


def require_keys(content: dict[str, Any], keys: tuple[str, ...], name: str) -> None:
    missing = [key for key in keys if key not in content]
    if missing:
        raise FileFormatError(
            f"Expected an EAP-IG graph with {', '.join(keys)} in {name!r}, found no {missing[0]}; give another file."
        )


def require_edge_level(has_neurons: bool, name: str) -> None:
    if has_neurons:
        raise UnsupportedError(
            f"Expected a circuit of edges, but {name!r} chooses among neurons of each node; export it at edge level."
        )


def shape_of(config: Any, name: str) -> tuple[int, int, bool]:
    """Layers, heads, and whether blocks are parallel."""
    sizes = [config.get(key) if isinstance(config, dict) else None for key in ("n_layers", "n_heads")]
    parallel = config.get("parallel_attn_mlp") if isinstance(config, dict) else None
    if not all(type(size) is int and size > 0 for size in sizes) or not isinstance(parallel, bool):
        raise FileFormatError(
            f"Expected n_layers and n_heads above 0 and parallel_attn_mlp true or false in the cfg of {name!r}, "
            f"got {config!r:.100}; export it again."
        )
    return sizes[0], sizes[1], parallel  # type: ignore[return-value]


def graph_of(
    config: dict[str, Any], stamp: Stamp | None, graph: Graph | None, kv_heads: int | None, name: str
) -> Graph:
    """The caller's graph, else the one that llmtrace wrote down, else what `cfg` says; none may contradict `cfg`."""
    layers, heads, parallel = shape_of(config, name)
    said = config.get(KV_HEADS)
    if graph is None and stamp is not None:
        graph = stamp.model_graph()
    if graph is None:
        groups = next((number for number in (kv_heads, said) if number is not None), heads)
        if type(groups) is not int or groups < 1 or heads % groups:
            raise FileFormatError(
                f"Expected a number of key-value heads that divides the {heads} heads of {name!r}, got {groups!r}; "
                "give the graph of its model."
            )
        graph = Graph(layers, heads, groups, parallel, False)
    require_nameable(graph)
    if (graph.n_layers, graph.n_heads, graph.parallel) != (layers, heads, parallel):
        raise MismatchError(
            f"Expected a circuit of {graph}{' with parallel blocks' * graph.parallel}, but {name!r} is of {layers} "
            f"layers x {heads} heads{' with parallel blocks' * parallel}; give the graph of its model."
        )
    for groups in (said, kv_heads):
        if groups is not None and groups != graph.n_kv_heads:
            raise MismatchError(
                f"Expected {graph.n_kv_heads} key-value heads in each layer of {name!r}, got {groups!r}; "
                "give the graph of its model."
            )
    return graph


def circuit_of(
    form: HeadForm, mask: Tensor, scores: Tensor, stamp: Stamp | None, node_level: bool, name: str, content: Any
) -> Circuit:
    mask, scores = mask & form.real, scores.where(form.real, 0)
    require_finite(scores, name)
    scored = bool(scores.any()) if stamp is None else stamp.scores is not None
    if node_level and not scored and not bool(mask.any()):
        raise UnsupportedError(
            f"{name!r} scores nodes, and a circuit here is chosen edge by edge; export it at edge level."
        )
    width = content["cfg"].get("d_model") or 0
    known = {"options": {"d_model": width} if width else {}, **foreign_fields(name, "eap_ig")}
    return Circuit(
        form.graph,
        form.gather(mask, "membership"),
        scores=form.gather(scores, "score") if scored else None,
        **(stamp.fields() if stamp else known),
    )
