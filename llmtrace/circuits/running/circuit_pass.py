"""One pass of circuits over some prompts, from the embedding to the final residual stream.

Port v reads   x_v = (what it reads when nothing is live) + sum over its kept edges u of (live_u - ablated_u)

and only nodes with a kept edge in and a path to the logits are run; the others write what they write when nothing is
live. A layer is a wave: what its heads and its MLP read of the writers before it is one product [ports x writers]. Two
things shorten it. A writer that every later port reads is no factor of it: such writers are one running sum. And ports
that read the same are one stream, normed and multiplied with their weights once. So the whole graph costs a forward
pass, not a product per port. Heads and MLPs are TransformerLens' own modules (`models/components/heads.py`); no forward
pass is written anew. Where neurons are nodes of their own, all of a layer that run are one product with their weights,
and their MLP is the whole module less what those neurons write at *its* stream.
"""

from __future__ import annotations

from bisect import bisect_left

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from llmtrace.circuits.running.background import Background, Buffer
from llmtrace.models import (
    TraceModel,
    head_mixtures,
    heads_received,
    kv_heads,
    neuron_results,
    run_mlp,
    sum_of_neurons,
    sum_through_output,
    through_output,
)
from llmtrace.models.arithmetic import recording_gradients

Masks = Bool[Tensor, "circuit node port"]
FEW = 3  # fewer than a third of the writers: they are copied together rather than multiplied by zeros


def idle_writes(model: TraceModel, ground: Background) -> Buffer:
    """What every node writes when nothing is live, less its ablated write."""
    nothing = torch.zeros_like(ground.graph.real)[None]
    inputs = ground.writes[: ground.graph.before(0)]
    run = _Run(model, nothing, inputs, ground, everyone=True)
    run.to_the_end()
    run.delta[:, : len(inputs)] = -inputs.flatten(1)
    return run.delta[0].view_as(ground.writes)


def circuit_residuals(
    model: TraceModel, masks: Masks, inputs: Float[Tensor, "input batch pos d_model"], ground: Background
) -> Float[Tensor, "circuit batch pos d_model"]:
    """The final residual stream that the logits read when only the edges of each mask are live, as one batch."""
    return _Run(model, masks, inputs, ground).to_the_end()


def soft_residual(
    model: TraceModel,
    gates: Float[Tensor, "node port"],
    inputs: Float[Tensor, "input batch pos d_model"],
    ground: Background,
) -> Float[Tensor, "batch pos d_model"]:
    """The same for gates between 0 and 1, with a gradient to them: an open edge is live, a half-open one half."""
    with recording_gradients(model):
        return _SoftRun(model, gates[None], inputs, ground, everyone=True).to_the_end()[0]


class _Run:
    """It is filled layer by layer. `delta[circuit, slot]` is live_u - ablated_u of the writers that some ports read and
    others do not (`rows`, in order); `common` is the sum over those that every later port reads."""

    def __init__(self, model: TraceModel, masks: Masks, inputs: Tensor, ground: Background, *, everyone: bool = False):
        self.model, self.graph, self.ground, self.n_circuits = model, ground.graph, ground, len(masks)
        masks = masks.cpu()
        union = masks.any(0)
        if everyone:
            self.runs = torch.ones(len(self.graph.nodes), dtype=torch.bool)
            self.everywhere, self.rows = set[int](), list(range(len(self.runs)))
        else:
            self.runs = self.graph.reaching(union) & self.graph.reading(union)
            shared = self._everywhere(masks)
            self.everywhere = set(shared.nonzero().flatten().tolist())
            self.rows = (union.any(1) & ~shared).nonzero().flatten().tolist()
        _, *self.shape = ground.writes.shape
        self.span_of, self.slot = ground.span_of, {row: slot for slot, row in enumerate(self.rows)}
        self.kept = masks[:, self.rows]
        self._begin((inputs - ground.writes[: len(inputs)]).flatten(1))

    def _everywhere(self, masks: Masks) -> Bool[Tensor, " node"]:
        """Writers that every later port reads, of those that this pass runs: what others write is known already."""
        written = self.runs.clone()
        written[: self.graph.before(0)] = True
        return (masks | ~self.graph.real).all(0).all(1) & written

    def _begin(self, inputs: Float[Tensor, "input x"]) -> None:
        flat, idle = self.ground.writes.flatten(1), self.ground.idle
        self.gates = self.kept.to(flat)
        self.common = flat.new_zeros(self.n_circuits, flat.shape[1])
        self.delta = flat.new_zeros(self.n_circuits, len(self.rows), flat.shape[1])
        if idle is not None:
            for slot, row in enumerate(self.rows):  # one by one: no second buffer of this size
                self.delta[:, slot] = idle[row].flatten()
        self._changed(list(range(len(inputs))), inputs.expand(self.n_circuits, -1, -1))

    def to_the_end(self) -> Float[Tensor, "circuit batch pos d_model"]:
        for layer in range(self.graph.n_layers):
            self._layer(layer)
        self.span_of, last = None, [len(self.graph.ports) - 1]
        final = self._streams(self.ground.attn[-1], self.common, self._brought(last, 0, len(self.graph.nodes)))
        return final[0].unflatten(0, (self.n_circuits, -1))

    def _layer(self, layer: int) -> None:
        """One product for all ports of a layer; where its MLP reads its heads, a second one adds theirs."""
        graph, before, at_mlp = self.graph, self.graph.before(layer), self.graph.mlp_sources(layer)
        head_ports, mlp_ports = self._head_ports(layer), self._mlp_ports(layer)
        to_heads, of_heads = self._patterns(head_ports, before)
        to_mlp, of_mlp = self._patterns(mlp_ports, at_mlp)
        brought, common = self._brought(to_heads + to_mlp, 0, before), self.common
        for_heads, for_mlp = brought.split([len(to_heads), len(to_mlp)], 1)
        if head_ports:
            self._heads(layer, self._streams(self.ground.attn[layer], common, for_heads), of_heads)
        if mlp_ports:
            if not graph.parallel:
                common, for_mlp = self.common, for_mlp + self._brought(to_mlp, before, at_mlp)
            self._mlp(layer, self._streams(self.ground.mlp[layer], common, for_mlp), of_mlp)

    # which ports there are, and what they read ------------------------------------------------------------------------

    def _running(self, rows: slice) -> list[int]:
        found: list[int] = self.runs[rows].nonzero().flatten().tolist()
        return found

    def _running_heads(self, layer: int) -> list[int]:
        heads = self._running(self.graph.head_rows(layer))
        return list(range(self.graph.n_heads)) if heads and self.graph.post_norm else heads

    def _head_ports(self, layer: int) -> list[int]:
        """The (first) columns of q, k and v of the heads that run, in this order."""
        heads, each = self._running_heads(layer), self.graph.columns_per_port
        groups = kv_heads(self.model, heads)
        return [
            self.graph.head_columns(layer, slot).start + which * each
            for slot, some in (("q", heads), ("k", groups), ("v", groups))
            for which in some
        ]

    def _mlp_ports(self, layer: int) -> list[int]:
        """The (first) columns of the MLP, if it runs, and of the layer's neurons that do."""
        graph, each = self.graph, self.graph.columns_per_port
        if graph.attn_only:
            return []
        mlp = [graph.mlp_columns(layer).start] if self.runs[graph.mlp_row(layer)] else []
        first, some = graph.neuron_columns(layer).start, self._running(graph.neuron_rows(layer))
        return [*mlp, *(first + which * each for which in some)]

    def _patterns(self, columns: list[int], sources: int) -> tuple[list[int], list[int]]:
        """One column of each set of ports that read the same of the first writers; and the set that each port is of."""
        kept = self.kept[:, : self._slots(sources)].numpy()
        index, of = dict[bytes, int](), list[int]()
        for column in columns:
            pattern = kept[:, :, column : column + self._width].tobytes()
            of.append(index.setdefault(pattern, len(index)))
        return [columns[of.index(which)] for which in range(len(index))], of

    @property
    def _width(self) -> int:
        return 1 if self.span_of is None else self.graph.columns_per_port

    def _slots(self, sources: int) -> int:
        """How many of the first writers have a slot."""
        return bisect_left(self.rows, sources)

    def _brought(self, columns: list[int], first: int, last: int) -> Float[Tensor, "circuit port #x"]:
        """What the writers from row `first` up to `last` bring to the ports of these (first) columns."""
        slots = slice(self._slots(first), self._slots(last))
        every = [column + span for column in columns for span in range(self._width)]
        used = (self.kept[:, slots][:, :, every].any(2).any(0).nonzero().flatten() + slots.start).tolist()
        if not used:
            return self.common.new_zeros(self.n_circuits, len(columns), 1)
        some = used if FEW * len(used) < slots.stop - slots.start else slots
        delta, gates = self._delta(some), self.gates[:, some]
        if self.span_of is None:
            return gates[:, :, columns].mT @ delta
        return self._by_span(delta, gates, columns)

    def _delta(self, slots: slice | list[int]) -> Float[Tensor, "circuit slot x"]:
        return self.delta[:, slots]

    def _by_span(self, delta: Tensor, gates: Tensor, columns: list[int]) -> Float[Tensor, "circuit port x"]:
        """Each span's tokens through the edges that are kept there."""
        assert self.span_of is not None
        of = self.span_of.flatten().to(delta.device)
        order, by_token = of.argsort(stable=True), delta.unflatten(2, (len(of), -1))
        parts = [
            gates[:, :, [column + span for column in columns]].mT @ by_token[:, :, order[of[order] == span]].flatten(2)
            for span in range(len(self.graph.spans))
        ]
        together = torch.cat([part.unflatten(2, (-1, by_token.shape[3])) for part in parts], 2)
        return together[:, :, order.argsort()].flatten(2)

    def _streams(self, stream: Tensor, common: Tensor, brought: Tensor) -> Float[Tensor, "stream row pos d_model"]:
        """What ports read, circuits stacked on the prompts."""
        x = (stream.flatten() + common)[:, None] + brought
        return x.unflatten(2, self.shape).transpose(0, 1).flatten(1, 2)

    # what nodes make of it --------------------------------------------------------------------------------------------

    def _heads(self, layer: int, streams: Float[Tensor, "stream row pos d_model"], of: list[int]) -> None:
        """The heads that run; `of` says which stream each of their ports reads."""
        heads, first = self._running_heads(layer), self.graph.head_rows(layer).start
        groups = (len(of) - len(heads)) // 2
        q, k, v = of[: len(heads)], of[len(heads) : -groups], of[-groups:]
        z = head_mixtures(self.model, layer, heads, streams, q, k, v)
        if self.graph.post_norm:
            results = heads_received(self.model, layer, through_output(self.model, layer, heads, z))
            self._wrote([first + head for head in heads], results)
            return
        apart = [at for at, head in enumerate(heads) if first + head in self.slot]
        shared = [at for at, head in enumerate(heads) if first + head in self.everywhere]
        if apart:
            some = [heads[at] for at in apart]
            self._wrote([first + head for head in some], through_output(self.model, layer, some, _at(z, apart)))
        if shared:
            some = [heads[at] for at in shared]
            live = sum_through_output(self.model, layer, some, _at(z, shared)).unflatten(0, (self.n_circuits, -1))
            self.common = self.common + (live - self.ground.writes[[first + head for head in some]].sum(0)).flatten(1)

    def _mlp(self, layer: int, streams: Float[Tensor, "stream row pos d_model"], of: list[int]) -> None:
        """The MLP and its neurons, those that run; `of` says which stream each of them reads."""
        graph, row = self.graph, self.graph.mlp_row(layer)
        neurons, some = graph.neurons_of(layer), self._running(graph.neuron_rows(layer))
        if self.runs[row]:
            x = streams[of[0]]
            written = run_mlp(self.model, layer, x)
            if neurons:
                written = written - sum_of_neurons(self.model, layer, neurons, x)
            self._wrote([row], written[None])
        if some:
            apart = neuron_results(self.model, layer, [neurons[n] for n in some], streams[of[-len(some) :]])
            self._wrote([row + 1 + n for n in some], apart)

    def _wrote(self, rows: list[int], written: Float[Tensor, "node row pos d_model"]) -> None:
        live = written.unflatten(1, (self.n_circuits, -1)).transpose(0, 1)
        self._changed(rows, (live - self.ground.writes[rows]).flatten(2))

    def _changed(self, rows: list[int], change: Float[Tensor, "circuit node x"]) -> None:
        apart = [at for at, row in enumerate(rows) if row in self.slot]
        shared = [at for at, row in enumerate(rows) if row in self.everywhere]
        if apart:
            self.delta[:, [self.slot[rows[at]] for at in apart]] = change[:, apart]
        if shared:
            self.common = self.common + change[:, shared].sum(1)


def _at(z: Float[Tensor, "row pos head d_head"], some: list[int]) -> Float[Tensor, "row pos some d_head"]:
    return z if len(some) == z.shape[2] else z[:, :, some]


class _SoftRun(_Run):
    """Everybody runs, in the order of the rows, and nothing is written in place: autograd keeps what it needs."""

    def __init__(self, model: TraceModel, gates: Tensor, inputs: Tensor, ground: Background, *, everyone: bool):
        self.soft = gates
        super().__init__(model, torch.ones_like(gates, dtype=torch.bool), inputs, ground, everyone=everyone)

    def _begin(self, inputs: Float[Tensor, "input x"]) -> None:
        self.gates, self.common, self._parts = self.soft, inputs.new_zeros(1, inputs.shape[1]), [inputs[None]]

    def _patterns(self, columns: list[int], sources: int) -> tuple[list[int], list[int]]:
        return columns, list(range(len(columns)))

    def _delta(self, slots: slice | list[int]) -> Float[Tensor, "circuit slot x"]:
        return torch.cat(self._parts, 1)[:, slots]

    def _changed(self, rows: list[int], change: Float[Tensor, "circuit node x"]) -> None:
        self._parts.append(change)
