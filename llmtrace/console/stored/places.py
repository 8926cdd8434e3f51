"""One number for each place, by the place's name, as a map of heads or as a grid of layers by positions."""

from __future__ import annotations

import re
from collections.abc import Mapping

from llmtrace.errors import InputError
from llmtrace.nodes import Head, Mlp, Node, parse_node

SITE = re.compile(r"(\w+)[. ](\d+)@(\d+)")


def on_map(values: Mapping[str, float]) -> tuple[list[list[float]], list[float] | None] | None:
    """[layer][head] and a number for each MLP; None where it is not every head of some layers from the first on."""
    nodes: dict[Node, float] = {}
    for name, value in values.items():
        try:
            nodes[parse_node(name)] = value
        except InputError:  # a bias, an edge, a position
            continue
    heads = {(node.layer, node.head): value for node, value in nodes.items() if isinstance(node, Head)}
    mlps = {node.layer: value for node, value in nodes.items() if isinstance(node, Mlp)}
    if not heads:
        return None
    layers, across = (1 + max(place[axis] for place in heads) for axis in (0, 1))
    if len(heads) != layers * across:
        return None
    grid = [[heads[layer, head] for head in range(across)] for layer in range(layers)]
    return grid, [mlps[layer] for layer in range(layers)] if len(mlps) == layers else None


def on_grid(values: Mapping[str, float]) -> tuple[str, list[int], list[int], list[list[float]]] | None:
    """(kind, layers, positions, [layer][position]); None where it is not one kind at every layer and position."""
    found = {name: SITE.fullmatch(name) for name in values}
    places = {(str(m[1]), int(m[2]), int(m[3])): values[name] for name, m in found.items() if m}
    kinds = {kind for kind, _, _ in places}
    if len(places) != len(values) or len(kinds) != 1:
        return None
    kind = kinds.pop()
    layers, positions = sorted({layer for _, layer, _ in places}), sorted({at for _, _, at in places})
    if len(places) != len(layers) * len(positions):
        return None
    return kind, layers, positions, [[places[kind, layer, at] for at in positions] for layer in layers]
