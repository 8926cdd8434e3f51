"""`Graph`: every writer, every port, and which writer comes before which port - as matrices, not objects.

Rows are writers: input 0, head `1 + l(H+1) + h`, MLP `1 + l(H+1) + H`. Columns are ports: per layer q of all heads,
k and v of all key-value heads, the MLP; the logits last. Names are made when somebody asks for them: Llama-3-8B has
805,681 edges.

    edges = sum_l [(H + 2 Hkv) before_l + before_l + H] + before_L,     before_l = 1 + (H + 1) l       (law 28)

A parallel MLP does not read its own layer's heads; an attention-only model has no MLP rows and columns.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from llmtrace.errors import InputError
from llmtrace.models import Architecture, TraceModel, describe, require_additive
from llmtrace.nodes import Edge, Head, KvHead, Logits, Mlp, Node, Port
from llmtrace.signals.writes import writers


@dataclass(frozen=True)
class Graph:
    """The shape of a model's computational graph. Two models of one shape have equal graphs."""

    n_layers: int
    n_heads: int
    n_kv_heads: int
    parallel: bool
    attn_only: bool

    def __post_init__(self) -> None:
        sizes = self.n_layers, self.n_heads, self.n_kv_heads
        if not all(isinstance(size, int) and size > 0 for size in sizes) or self.n_heads % self.n_kv_heads:
            raise InputError(
                f"Expected whole numbers of layers, heads and key-value heads above 0, the last dividing the second, "
                f"got {', '.join(map(str, sizes))}; use Graph.of(model)."
            )

    @classmethod
    def of(cls, model: TraceModel | Architecture) -> Graph:
        arch = model if isinstance(model, Architecture) else describe(model)
        arch.require_pre_norm("A graph of edges")
        if not isinstance(model, Architecture):
            require_additive(model, "A graph of edges")
        return cls(arch.n_layers, arch.n_heads, arch.n_kv_heads, arch.parallel, arch.attn_only)

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        """Writers in row order."""
        return writers(self)

    @cached_property
    def ports(self) -> tuple[Port, ...]:
        """Readers in column order."""
        found: list[Port] = []
        grouped = self.n_kv_heads < self.n_heads
        for layer in range(self.n_layers):
            found += [Port(Head(layer, head), "q") for head in range(self.n_heads)]
            for slot in ("k", "v"):
                found += [
                    Port(KvHead(layer, head) if grouped else Head(layer, head), slot) for head in range(self.n_kv_heads)
                ]
            found += [] if self.attn_only else [Port(Mlp(layer))]
        return (*found, Port(Logits()))

    @cached_property
    def row(self) -> dict[Node, int]:
        return {node: index for index, node in enumerate(self.nodes)}

    @cached_property
    def column(self) -> dict[Port, int]:
        return {port: index for index, port in enumerate(self.ports)}

    def before(self, layer: int) -> int:
        """How many writers come before layer `layer`: they are the first rows."""
        return 1 + layer * (self.n_heads + (not self.attn_only))

    def head_columns(self, layer: int, slot: str) -> slice:
        """Columns of the q, k or v ports of a layer."""
        start = self._layer_width * layer
        offset = {"q": 0, "k": self.n_heads, "v": self.n_heads + self.n_kv_heads}[slot]
        width = self.n_heads if slot == "q" else self.n_kv_heads
        return slice(start + offset, start + offset + width)

    def mlp_column(self, layer: int) -> int:
        return self._layer_width * layer + self.n_heads + 2 * self.n_kv_heads

    def mlp_sources(self, layer: int) -> int:
        """Writers that an MLP reads: its own layer's heads too, unless the block is parallel."""
        return self.before(layer) + (0 if self.parallel else self.n_heads)

    @property
    def _layer_width(self) -> int:
        return self.n_heads + 2 * self.n_kv_heads + (not self.attn_only)

    @cached_property
    def real(self) -> Bool[Tensor, "node port"]:
        """True where an edge exists."""
        mask = torch.zeros(len(self.nodes), len(self.ports), dtype=torch.bool)
        for layer in range(self.n_layers):
            for slot in ("q", "k", "v"):
                mask[: self.before(layer), self.head_columns(layer, slot)] = True
            if not self.attn_only:
                mask[: self.mlp_sources(layer), self.mlp_column(layer)] = True
        mask[:, -1] = True
        return mask

    @property
    def n_edges(self) -> int:
        return int(self.real.sum())

    def index(self, edge: Edge) -> tuple[int, int]:
        """(row, column) of an edge. Raises InputError when the graph has no such edge."""
        at = self.row.get(edge.writer), self.column.get(edge.port)
        if at[0] is None or at[1] is None or not self.real[at[0], at[1]]:
            raise InputError(
                f"{edge} is not an edge of this graph ({self}); a writer must come before the port that reads it, "
                "and with grouped-query attention k and v ports are those of a key-value head such as 'a0.kv1<k>'."
            )
        return at[0], at[1]

    def edges(self, mask: Bool[Tensor, "node port"] | None = None) -> Iterator[Edge]:
        """The edges of a mask (default: all), column by column."""
        chosen = self.real if mask is None else mask & self.real
        for column, row in chosen.T.nonzero().tolist():
            yield Edge(self.nodes[row], self.ports[column])

    def writer_of(self, port: Port) -> list[int]:
        """Rows of the writers that a port feeds: the query heads of a group share its k and v; logits feed none."""
        node = port.node
        if isinstance(node, KvHead):
            group = self.n_heads // self.n_kv_heads
            return [self.row[Head(node.layer, head)] for head in range(node.head * group, (node.head + 1) * group)]
        return [] if isinstance(node, Logits) else [self.row[node]]

    def as_dict(self) -> dict[str, Any]:
        return {
            "n_layers": self.n_layers, "n_heads": self.n_heads, "n_kv_heads": self.n_kv_heads,
            "parallel": self.parallel, "attn_only": self.attn_only,
        }  # fmt: skip

    def __repr__(self) -> str:
        kv = f" ({self.n_kv_heads} key-value)" if self.n_kv_heads < self.n_heads else ""
        return f"Graph({self.n_layers} layers x {self.n_heads} heads{kv}, {self.n_edges:,} edges)"
