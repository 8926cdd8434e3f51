"""Arrows: a circuit as boxes and arrows between them, for formats that draw.

An arrow joins two nodes and holds all slots through which the one reads the other (q, k, v; "" for an MLP or logits).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Bool, Float
from torch import Tensor

from llmtrace.circuits.circuit import Circuit
from llmtrace.nodes import Node, Port


@dataclass(frozen=True)
class Arrow:
    """`slots` maps a slot to the score of that edge, or to None where the circuit has no scores."""

    source: Node
    target: Node
    slots: dict[str, float | None]

    @property
    def total(self) -> float | None:
        """The sum of the scores: edges into one reader add up (to first order)."""
        known = [score for score in self.slots.values() if score is not None]
        return sum(known) if known else None

    @property
    def label(self) -> str:
        return " ".join(filter(None, self.slots))


def arrows(
    nodes: Sequence[Node],
    ports: Sequence[Port],
    mask: Bool[Tensor, "node port"],
    scores: Float[Tensor, "node port"] | None,
) -> list[Arrow]:
    """The edges of a mask, those between the same two nodes together, readers in the order of the model."""
    found: dict[tuple[Node, Node], Arrow] = {}
    columns, rows = mask.T.nonzero(as_tuple=True)
    values = [None] * len(rows) if scores is None else scores[rows, columns].tolist()
    for row, column, score in zip(rows.tolist(), columns.tolist(), values, strict=True):
        source, port = nodes[row], ports[column]
        arrow = found.setdefault((source, port.node), Arrow(source, port.node, {}))
        arrow.slots[port.slot or ""] = score
    return list(found.values())


def circuit_arrows(circuit: Circuit, scores: Float[Tensor, "node port"] | None) -> list[Arrow]:
    graph = circuit.graph
    return arrows(graph.nodes, graph.ports, circuit.mask.cpu(), scores)


def boxes(drawn: Sequence[Arrow]) -> list[Node]:
    """Every node at an end of an arrow, in the order in which a model computes them."""
    found = {node: None for arrow in drawn for node in (arrow.source, arrow.target)}
    return sorted(found, key=lambda node: (*node.stage, getattr(node, "index", 0), str(node)))


def shares(circuit: Circuit, drawn: Sequence[Node]) -> list[tuple[Node, Node]]:
    """Key-value heads and the query heads that use them, where both are drawn: paths go on through them."""
    group, there = circuit.graph.n_heads // circuit.graph.n_kv_heads, set(drawn)
    return [(node, head) for node in drawn for head in node.feeds(group) if head != node and head in there]
