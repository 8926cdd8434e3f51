"""Head form: every query head with keys and values of its own, as programs of the field write grouped-query attention.

Ours are those of key-value heads: `input->a0.kv1<k>` is one edge, because the model has one such key. Head form repeats
that column for every query head of the group, with the same membership and score; back again, a group whose members
disagree is refused - half of a shared key cannot be cut.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Int, Shaped
from torch import Tensor

from llmtrace.circuits.graph import Graph
from llmtrace.errors import MismatchError
from llmtrace.nodes import Port


@dataclass(frozen=True)
class HeadForm:
    """Columns of a graph, repeated for query heads. Without groups it is the graph itself."""

    graph: Graph

    @cached_property
    def _repeated(self) -> list[tuple[int, Port]]:
        """In order: our column, and the port that a query head reads through it."""
        group, found = self.graph.n_heads // self.graph.n_kv_heads, []
        for column, port in enumerate(self.graph.ports):
            readers = port.node.feeds(group) if port.slot else (port.node,)
            found += [(column, port.of(node)) for node in readers]
        return found

    @cached_property
    def ports(self) -> tuple[Port, ...]:
        return tuple(port for _, port in self._repeated)

    @cached_property
    def columns(self) -> Int[Tensor, " head_port"]:
        """Our column of every port in head form."""
        return torch.tensor([column for column, _ in self._repeated])

    @cached_property
    def real(self) -> Bool[Tensor, "node head_port"]:
        return self.spread(self.graph.real)

    def spread(self, matrix: Shaped[Tensor, "node port"]) -> Shaped[Tensor, "node head_port"]:
        """Every member of a group gets what its key-value head has."""
        return matrix[:, self.columns]

    def gather(self, matrix: Shaped[Tensor, "node head_port"], what: str) -> Shaped[Tensor, "node port"]:
        """The inverse. Raises MismatchError where members of a group differ."""
        first = torch.searchsorted(self.columns, torch.arange(len(self.graph.ports)))
        found = matrix[:, first]
        wrong = (self.spread(found) != matrix) & self.real
        if bool(wrong.any()):
            row, column = wrong.nonzero()[0].tolist()
            node, one, other = self.graph.nodes[row], self.ports[int(first[self.columns[column]])], self.ports[column]
            raise MismatchError(
                f"Expected {one} and {other}, which share one key-value head, to agree, but the {what} of "
                f"{node}->{one} is {found[row, self.columns[column]].item()!r} and that of {node}->{other} "
                f"{matrix[row, column].item()!r}; "
                "make the group agree, or read it as a graph without groups (n_kv_heads = n_heads)."
            )
        return found
