"""`Graph`: every writer, every port, and which writer comes before which port - as matrices, not objects.

Rows are writers: input 0, head `1 + l(H+1) + h`, MLP `1 + l(H+1) + H` (with `split_embed` token and position embeddings
are two rows, `embed` and `pos`, and all others come one later). Columns are ports: per layer q of all heads,
k and v of all key-value heads, the MLP; the logits last. Names are made when somebody asks for them: Llama-3-8B has
805,681 edges.

    edges = sum_l [(H + 2 Hkv) before_l + before_l + H] + before_L,     before_l = 1 + (H + 1) l       (law 28)

With `spans` the positions are told apart: a port is one column for each span of positions, `a9.h6<q>@END`, and an edge
is what a writer brings a port *there*; the logits stay one column (`span_columns.py` says which token is where).

With `neurons` these hidden units are nodes of their own, `m3.n17`: each reads the stream through its own weights and
writes its own part of the MLP, whose node is then the rest of the neurons and b_out. Their rows and columns follow
their MLP's in order of index, so that all writers before a layer are still the first rows. A neuron more is a row and a
column more; with many of a layer the memory of a run is that of their writes.

A parallel MLP does not read its own layer's heads; an attention-only model has no MLP rows and columns. In a post-norm
model a node's write is what the residual stream receives of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from llmtrace.arguments import check_methods
from llmtrace.errors import InputError, UnsupportedError
from llmtrace.models import (
    Architecture,
    TraceModel,
    attention_weights,
    describe,
    require_additive,
    require_neurons,
    require_separate_heads,
)
from llmtrace.nodes import Edge, Head, KvHead, Logits, Mlp, Neuron, Node, Port, parse_edge, read_node
from llmtrace.signals.node_writes import writers

START = "start"  # the span before the first named position


@check_methods
@dataclass(frozen=True)
class Graph:
    """The shape of a model's computational graph. Two models of one shape have equal graphs."""

    n_layers: int
    n_heads: int
    n_kv_heads: int
    parallel: bool
    attn_only: bool
    split_embed: bool = False
    post_norm: bool = False
    spans: tuple[str, ...] = ()
    neurons: tuple[Neuron, ...] = ()

    def __post_init__(self) -> None:
        if len(set(self.spans)) < len(self.spans):
            raise InputError(f"Expected every span once, got {', '.join(self.spans)}; leave the repeated ones out.")
        sizes = self.n_layers, self.n_heads, self.n_kv_heads
        if not all(isinstance(size, int) and size > 0 for size in sizes) or self.n_heads % self.n_kv_heads:
            raise InputError(
                f"Expected whole numbers of layers, heads and key-value heads above 0, the last dividing the second, "
                f"got {', '.join(map(str, sizes))}; use Graph.of(model)."
            )
        if self.neurons:
            _require_neurons(self)

    @classmethod
    def of(
        cls,
        model: TraceModel | Architecture,
        *,
        split_embed: bool = False,
        spans: Sequence[str | int] = (),
        neurons: Sequence[Neuron | str] | Mapping[int, Sequence[int]] = (),
    ) -> Graph:
        """The graph of a model. Raises UnsupportedError where writes do not add up, or heads (or neurons that are
        asked for) do not work apart.

        split_embed   token and position embeddings as two nodes (models with learned or sinusoidal positions)
        spans         tell positions apart: each span begins at a named position (or index) and ends before the next
                      one in the prompt; what comes before all of them is the span "start"
        neurons       are nodes of their own, apart from their MLP: [Neuron(3, 17), "m5.n0"] or {3: [17], 5: range(8)}
        """
        arch = model if isinstance(model, Architecture) else describe(model)
        if split_embed and arch.positional != "standard":
            raise UnsupportedError(
                f"Only positions that are added to the embedding can be a node, and this model's are "
                f"{arch.positional}; leave split_embed out."
            )
        if not isinstance(model, Architecture):
            require_separate_heads(model, "A graph of edges")
            require_additive(model, "A graph of edges", post_norm=True)
            _require_no_bias_in_post_norm(model)
        chosen = _chosen(neurons)
        for neuron in chosen:
            arch.require(neuron)
        if chosen and not isinstance(model, Architecture):
            require_neurons(model, "A graph with neurons")
        names = tuple(map(str, spans))
        return cls(
            arch.n_layers, arch.n_heads, arch.n_kv_heads, arch.parallel, arch.attn_only, split_embed, arch.post_norm,
            (START, *names) if names and names[0] not in (START, "0") else names, chosen,
        )  # fmt: skip

    @property
    def without_spans(self) -> Graph:
        """The same graph with all positions of a port together."""
        return replace(self, spans=())

    @property
    def without_neurons(self) -> Graph:
        """The same graph with the neurons back in their MLPs."""
        return replace(self, neurons=())

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        """Writers in row order."""
        return writers(self, split_embed=self.split_embed, neurons=self.neurons)

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
            found += [Port(Neuron(layer, index)) for index in self.neurons_of(layer)]
        if self.spans:
            found = [replace(port, span=span) for port in found for span in self.spans]
        return (*found, Port(Logits()))

    @cached_property
    def row(self) -> dict[Node, int]:
        return {node: index for index, node in enumerate(self.nodes)}

    @cached_property
    def column(self) -> dict[Port, int]:
        return {port: index for index, port in enumerate(self.ports)}

    def before(self, layer: int) -> int:
        """How many writers come before layer `layer`: they are the first rows."""
        return 1 + self.split_embed + layer * (self.n_heads + (not self.attn_only)) + self._neurons_before(layer)

    def neurons_of(self, layer: int) -> list[int]:
        """Which neurons of a layer are nodes of their own, in order."""
        return [neuron.index for neuron in self._by_layer[layer]] if self.neurons else []

    def _neurons_before(self, layer: int) -> int:
        return self._neurons_so_far[layer] if self.neurons else 0

    @cached_property
    def _by_layer(self) -> list[list[Neuron]]:
        return [[neuron for neuron in self.neurons if neuron.layer == layer] for layer in range(self.n_layers)]

    @cached_property
    def _neurons_so_far(self) -> list[int]:
        return [0, *accumulate(map(len, self._by_layer))]

    def head_rows(self, layer: int) -> slice:
        return slice(self.before(layer), self.before(layer) + self.n_heads)

    def mlp_row(self, layer: int) -> int:
        return self.before(layer) + self.n_heads

    def neuron_rows(self, layer: int) -> slice:
        """Rows of the neurons of a layer that are nodes of their own; empty where none is."""
        return slice(self.mlp_row(layer) + 1, self.mlp_row(layer) + 1 + len(self.neurons_of(layer)))

    def head_columns(self, layer: int, slot: str) -> slice:
        """Columns of the q, k or v ports of a layer; the spans of a port lie side by side."""
        offset = {"q": 0, "k": self.n_heads, "v": self.n_heads + self.n_kv_heads}[slot]
        return self._columns(layer, offset, self.n_heads if slot == "q" else self.n_kv_heads)

    def mlp_columns(self, layer: int) -> slice:
        """The column of an MLP's port, or one for each span."""
        return self._columns(layer, self.n_heads + 2 * self.n_kv_heads, 1)

    def neuron_columns(self, layer: int) -> slice:
        """Columns of the neurons of a layer; the spans of each lie side by side."""
        return self._columns(layer, self.n_heads + 2 * self.n_kv_heads + 1, len(self.neurons_of(layer)))

    def _columns(self, layer: int, offset: int, ports: int) -> slice:
        start = self._layer_width * layer + self._neurons_before(layer) + offset
        return slice(start * self.columns_per_port, (start + ports) * self.columns_per_port)

    @cached_property
    def ports_of_columns(self) -> Int[Tensor, " column"]:
        """Of every column, the one that it is in the graph without spans."""
        return torch.arange(len(self.ports)) // self.columns_per_port

    def merged(self, values: Float[Tensor, "*lead column"]) -> Float[Tensor, "*lead port"]:
        """Numbers of the columns, summed over the spans of each port."""
        total = values.new_zeros(*values.shape[:-1], len(self.without_spans.ports))
        return total.index_add_(-1, self.ports_of_columns.to(values.device), values)

    def in_mlps(self, values: Float[Tensor, "*lead node port"]) -> Float[Tensor, "*lead whole_node whole_port"]:
        """Numbers of the edges, summed over the neurons and the rest of each MLP: edges of `without_neurons`."""
        whole = self.without_neurons
        rows = [whole.row[node.whole] for node in self.nodes]
        columns = [whole.column[port.of(port.node.whole)] for port in self.ports]
        by_row = values.new_zeros(*values.shape[:-2], len(whole.nodes), values.shape[-1])
        by_row.index_add_(-2, torch.tensor(rows, device=values.device), values)
        total = values.new_zeros(*by_row.shape[:-1], len(whole.ports))
        return total.index_add_(-1, torch.tensor(columns, device=values.device), by_row)

    @property
    def columns_per_port(self) -> int:
        """One, or one for each span (the logits always have one)."""
        return len(self.spans) or 1

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
                mask[: self.mlp_sources(layer), self.mlp_columns(layer)] = True
                mask[: self.mlp_sources(layer), self.neuron_columns(layer)] = True
        mask[:, -1] = True
        return mask

    @property
    def n_edges(self) -> int:
        return int(self.real.sum())

    def index(self, edge: Edge | str) -> tuple[int, int]:
        """(row, column) of an edge. Raises InputError when the graph has no such edge."""
        edge = parse_edge(edge) if isinstance(edge, str) else edge
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
        return [self.row[node] for node in port.node.feeds(self.n_heads // self.n_kv_heads)]

    @cached_property
    def columns_of(self) -> dict[int, list[int]]:
        """The columns that each writer reads, by its row; inputs read none."""
        found: dict[int, list[int]] = {}
        for column, port in enumerate(self.ports):
            for row in self.writer_of(port):
                found.setdefault(row, []).append(column)
        return found

    def reaching(self, mask: Bool[Tensor, "node port"]) -> Bool[Tensor, " node"]:
        """Writers with a path to the logits through the edges of `mask`.

        The heads of a post-norm layer share one scale: where one of them matters, all do.
        """
        found, each = mask[:, -1].clone(), self.columns_per_port
        for layer in reversed(range(self.n_layers)):
            if not self.attn_only and found[self.mlp_row(layer)]:
                found |= mask[:, self.mlp_columns(layer)].any(1)
            if self.neurons:
                neurons = found[self.neuron_rows(layer)].repeat_interleave(each)
                found |= (mask[:, self.neuron_columns(layer)] & neurons).any(1)
            heads = found[self.head_rows(layer)]
            heads = heads.any().expand_as(heads) if self.post_norm else heads
            groups = heads.view(self.n_kv_heads, -1).any(1)
            found[self.head_rows(layer)] |= heads
            for slot, alive in (("q", heads), ("k", groups), ("v", groups)):
                found |= (mask[:, self.head_columns(layer, slot)] & alive.repeat_interleave(each)).any(1)
        return found

    def reading(self, mask: Bool[Tensor, "node port"]) -> Bool[Tensor, " node"]:
        """Writers with an edge of `mask` into one of their ports."""
        read, found = mask.any(0), torch.zeros(len(self.nodes), dtype=torch.bool)
        for layer in range(self.n_layers):
            q, k, v = (
                read[self.head_columns(layer, slot)].view(-1, self.columns_per_port).any(1) for slot in ("q", "k", "v")
            )
            found[self.head_rows(layer)] = q | (k | v).repeat_interleave(self.n_heads // self.n_kv_heads)
            if not self.attn_only:
                found[self.mlp_row(layer)] = read[self.mlp_columns(layer)].any()
            if self.neurons:
                neurons = read[self.neuron_columns(layer)].view(-1, self.columns_per_port)
                found[self.neuron_rows(layer)] = neurons.any(1)
        return found

    def as_dict(self) -> dict[str, Any]:
        return {
            "n_layers": self.n_layers, "n_heads": self.n_heads, "n_kv_heads": self.n_kv_heads,
            "parallel": self.parallel, "attn_only": self.attn_only, "split_embed": self.split_embed,
            "post_norm": self.post_norm, "spans": list(self.spans), "neurons": list(map(str, self.neurons)),
        }  # fmt: skip

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Graph:
        """`as_dict` back, from a file. Raises InputError or TypeError for what is no graph."""
        spans = content.get("spans", [])
        if not isinstance(spans, list) or not all(isinstance(span, str) for span in spans):
            raise InputError(f"Expected a list of spans, got {spans!r}")
        neurons = content.get("neurons", [])
        if not isinstance(neurons, list) or not all(isinstance(neuron, str) for neuron in neurons):
            raise InputError(f"Expected a list of neurons such as 'm3.n17', got {neurons!r}")
        return cls(**{**content, "spans": tuple(spans), "neurons": _chosen(neurons)})

    def __repr__(self) -> str:
        kv = f" ({self.n_kv_heads} key-value)" if self.n_kv_heads < self.n_heads else ""
        at = f" at {', '.join(self.spans)}" if self.spans else ""
        more = f" + {len(self.neurons)} neurons" if self.neurons else ""
        return f"Graph({self.n_layers} layers x {self.n_heads} heads{kv}{more}{at}, {self.n_edges:,} edges)"


def _chosen(neurons: Sequence[Neuron | str] | Mapping[int, Sequence[int]]) -> tuple[Neuron, ...]:
    """Neurons by name or by layer, in the order of the rows."""
    if isinstance(neurons, Mapping):
        listed: list[Any] = [Neuron(layer, index) for layer, some in neurons.items() for index in some]
    elif isinstance(neurons, str | Neuron) or not isinstance(neurons, Sequence):
        raise InputError(f"Expected a list of neurons, got {neurons!r} alone; write neurons=['m3.n17'] or {{3: [17]}}.")
    else:
        listed = [read_node(neuron) for neuron in neurons]
    for neuron in listed:
        if not isinstance(neuron, Neuron):
            raise InputError(f"Expected neurons such as 'm3.n17', got {neuron}; heads and MLPs are nodes anyway.")
    return tuple(sorted(listed))


def _require_neurons(graph: Graph) -> None:
    """Refuse neurons that a graph of this shape cannot have."""
    if len(set(graph.neurons)) < len(graph.neurons) or list(graph.neurons) != sorted(graph.neurons):
        raise InputError("Expected every neuron once and in order; leave the repeated ones out.")
    if graph.attn_only or graph.post_norm:
        why = "has no MLPs" if graph.attn_only else "norms what the neurons of an MLP write together"
        raise UnsupportedError(f"A graph with neurons needs neurons that write apart, and this one {why}.")
    if outside := [neuron for neuron in graph.neurons if not 0 <= neuron.layer < graph.n_layers or neuron.index < 0]:
        raise InputError(f"Expected neurons of layers 0-{graph.n_layers - 1}, got {outside[0]}; leave it out.")


def require_no_neurons(graph: Graph, what: str) -> None:
    """Refuse a graph with neurons where only heads and whole MLPs have a place."""
    if graph.neurons:
        raise UnsupportedError(
            f"{what} has no place for neurons, and this graph has {len(graph.neurons)} ({graph.neurons[0]}, ...); "
            "leave neurons out, or put them back with circuit.without_neurons()."
        )


def _require_no_bias_in_post_norm(model: TraceModel) -> None:
    """A bias inside a post-norm would be scaled by what the heads do, and belong to nobody."""
    arch = describe(model)
    if arch.post_norm and any(bool(attention_weights(model, layer).b_O.any()) for layer in range(arch.n_layers)):
        raise UnsupportedError(
            "A graph of edges needs constant biases; this model norms its attention's output bias together with what "
            "the heads write, so the bias depends on them."
        )
