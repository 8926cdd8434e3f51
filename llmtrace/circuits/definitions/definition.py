"""`Definition`: a circuit as people write it down - heads and MLPs by role, and which role reads which.

It names no edge of a graph; `circuit(graph)` makes them:

    edges given   every pair of heads behind each edge between roles that the graph has, slot by slot
    roles only    every edge of the graph among the nodes of the roles, the input and the logits
    mlps "all"    the MLPs of the model are in, as Wang et al. (2022) have it, who let them be recomputed: each reads
                  every writer of the circuit before it, and each is read by every input of the circuit's heads and
                  MLPs and by the logits
    mlps "named"  only those MLPs are in that have a role

With grouped-query attention the k and v of a head are those of its key-value head, which the other heads of the group
read too. An MLP is all of its neurons, those too that are nodes of the graph. Positions are kept beside the circuit
(`options["positions"]`); its edges hold at every position.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from llmtrace.circuits.circuit import Circuit
from llmtrace.circuits.definitions.expand import expand
from llmtrace.circuits.definitions.role_edge import INPUT, LOGITS, ROLE, RoleEdge
from llmtrace.circuits.graph import Graph
from llmtrace.errors import InputError, MismatchError, did_you_mean
from llmtrace.nodes import Head, Mlp, Node

MLPS = ("all", "named")


@dataclass(frozen=True)
class Definition:
    """`graph` is the shape of the model that it belongs to, where that is known: other shapes are refused."""

    name: str
    source: str
    model: str
    roles: Mapping[str, tuple[Node, ...]]
    positions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    edges: tuple[RoleEdge, ...] = ()
    mlps: str = "all"
    graph: Graph | None = None
    notes: str = ""

    def __post_init__(self) -> None:
        if not self.roles:
            raise InputError("Expected at least one role with its heads or MLPs, got none; name the nodes.")
        if self.mlps not in MLPS:
            raise InputError(f"Expected mlps to be 'all' or 'named', got {self.mlps!r}; 'all' is the default.")
        for role, nodes in self.roles.items():
            _require_role(role, nodes)
        for role in self.positions:
            self._require_known(role, "positions", set(self.roles))
        for edge in self.edges:
            self._require_known(edge.writer, f"the edge {str(edge)!r}", {*self.roles, INPUT})
            self._require_known(edge.reader, f"the edge {str(edge)!r}", {*self.roles, LOGITS})

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The nodes of all roles, each once, in the order in which they were written."""
        return tuple(dict.fromkeys(node for nodes in self.roles.values() for node in nodes))

    def circuit(self, graph: Graph | None = None) -> Circuit:
        """The definition on a graph (default: that of its own model).

        Raises MismatchError for a graph of another shape or without the nodes, InputError for an edge between roles
        that stands for no edge of the graph.
        """
        graph = self._require_graph(graph)
        return Circuit(
            graph,
            expand(graph, self.roles, self.edges, all_mlps=self.mlps == "all"),
            roles=dict(self.roles),
            provenance={"model": self.model, "source": self.source},
            options={
                "definition": self.name, "mlps": self.mlps,
                "positions": {role: list(places) for role, places in self.positions.items()},
            },
        )  # fmt: skip

    def _require_graph(self, graph: Graph | None) -> Graph:
        graph = graph or self.graph
        if graph is None:
            raise InputError(
                f"The definition {self.name!r} does not say the shape of its model; pass Graph.of(model) to circuit."
            )
        missing = [node for node in self.nodes if not _has(graph, node)]
        if missing:
            more = f" and {len(missing) - 1} more of its nodes" if len(missing) > 1 else ""
            raise MismatchError(
                f"The definition {self.name!r} names {missing[0]}{more}, which {graph} does not have; "
                f"give the graph of {self.model}."
            )
        if self.graph is not None and _shape(self.graph) != _shape(graph):
            raise MismatchError(
                f"The definition {self.name!r} belongs to {self.model}, {self.graph}, and this is {graph}: the same "
                f"names are other heads there; give the graph of {self.model}."
            )
        return graph

    def _require_known(self, role: str, where: str, known: set[str]) -> None:
        if role not in known:
            names = sorted(known)
            raise InputError(f"Expected one of {', '.join(names)} in {where}, got {role!r}.{did_you_mean(role, names)}")

    def __repr__(self) -> str:
        roles = ", ".join(f"{role} {len(nodes)}" for role, nodes in self.roles.items())
        return f"Definition({self.name} of {self.model}: {roles}; {self.source})"


def _require_role(role: str, nodes: tuple[Node, ...]) -> None:
    """A name that an edge can be written with, and heads or MLPs, each once."""
    if not re.fullmatch(ROLE, role) or role in (INPUT, LOGITS):
        raise InputError(
            f"Expected a role's name of letters, digits and underscores other than 'input' and 'logits', got {role!r}."
        )
    if not nodes or len(set(nodes)) < len(nodes):
        raise InputError(f"Expected one or more different nodes in the role {role!r}, got {len(nodes)}; correct them.")
    for node in nodes:
        if not isinstance(node, Head | Mlp):
            raise InputError(f"Expected heads and MLPs (a9.h6, m3) in the role {role!r}, got {node}; leave it out.")


def _has(graph: Graph, node: Node) -> bool:
    """Whether the graph has that head or MLP."""
    return node in graph.row


def _shape(graph: Graph) -> tuple[int, int, bool]:
    return graph.n_layers, graph.n_heads, graph.attn_only
