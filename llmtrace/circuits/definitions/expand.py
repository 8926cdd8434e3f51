"""From roles and edges between them to the edges of a graph, as a mask."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from jaxtyping import Bool
from torch import Tensor

from llmtrace.circuits.definitions.role_edge import INPUT, LOGITS, RoleEdge
from llmtrace.circuits.graph import Graph
from llmtrace.errors import InputError
from llmtrace.nodes import Logits, Mlp, Node, Port


def expand(
    graph: Graph, roles: Mapping[str, Sequence[Node]], edges: Sequence[RoleEdge], *, all_mlps: bool
) -> Bool[Tensor, "node port"]:
    """The mask of a definition (see `definition.py` for what it means); every node is in the graph.

    Raises InputError for an edge between roles that stands for no edge of the graph.
    """
    places = _Places(graph)
    mlps = tuple(Mlp(layer) for layer in range(graph.n_layers)) if all_mlps and not graph.attn_only else ()
    named = tuple(node for nodes in roles.values() for node in nodes)
    rows = places.rows_of(places.inputs, named, mlps)
    columns = [*places.columns_of((*named, *mlps)), places.logits]
    mask = torch.zeros_like(graph.real)
    if not edges:
        return _filled(mask, rows, columns) & graph.real
    for edge in edges:
        writers = places.inputs if edge.writer == INPUT else tuple(roles[edge.writer])
        read = [places.logits] if edge.reader == LOGITS else places.columns_of(roles[edge.reader], edge.slots)
        if edge.reader == LOGITS and edge.slots:
            read = []
        meant = _filled(torch.zeros_like(mask), places.rows_of(writers), read) & graph.real
        if not bool(meant.any()):
            raise InputError(
                f"'{edge}' stands for no edge of {graph}: heads alone have slots, and a writer comes before its "
                "reader; correct the edge."
            )
        mask |= meant
    _filled(mask, rows, places.columns_of(mlps))
    _filled(mask, places.rows_of(mlps), columns)
    return mask & graph.real


class _Places:
    """Rows and columns of the nodes that a definition can name, whatever the graph splits them into."""

    def __init__(self, graph: Graph) -> None:
        self.inputs: tuple[Node, ...] = tuple(node for node in graph.nodes if not node.reads)
        self.logits = graph.column[Port(Logits())]
        self._row, self._slots = graph.row, [port.slot for port in graph.ports]
        self._parts: dict[Node, list[int]] = {}
        for row, node in enumerate(graph.nodes):
            if node.whole != node:
                self._parts.setdefault(node.whole, []).append(row)
        self._read_by = graph.columns_of

    def rows_of(self, *groups: Iterable[Node]) -> list[int]:
        """Of an MLP whose neurons are nodes of their own: its rest and theirs."""
        found: list[int] = []
        for node in (node for group in groups for node in group):
            found.append(self._row[node])
            found += self._parts.get(node, [])
        return found

    def columns_of(self, nodes: Iterable[Node], slots: Sequence[str] = ()) -> list[int]:
        """What the nodes read; with `slots` only those inputs."""
        read = {column for row in self.rows_of(nodes) for column in self._read_by.get(row, [])}
        return sorted(column for column in read if not slots or self._slots[column] in slots)


def _filled(mask: Bool[Tensor, "node port"], rows: list[int], columns: list[int]) -> Bool[Tensor, "node port"]:
    """The same mask, True in these rows and columns."""
    if rows and columns:
        mask[torch.tensor(rows)[:, None], torch.tensor(columns)] = True
    return mask
