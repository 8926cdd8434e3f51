"""One pass of circuits over some prompts, from the embedding to the final residual stream.

Port v reads   x_v = (what it reads when nothing is live) + sum over its kept edges u of (live_u - ablated_u)

and only nodes with a kept edge in and a path to the logits are run; the others write what they write when nothing is
live. Heads and MLPs are TransformerLens' own modules (`models/components.py`); no forward pass is written anew. Where
neurons are nodes of their own, all of a layer that run are one product with their weights, and their MLP is the whole
module less what those neurons write at *its* stream.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from llmtrace.circuits.ground import Background, Buffer
from llmtrace.models import (
    TraceModel,
    head_results,
    heads_received,
    kv_heads,
    neuron_results,
    run_mlp,
    sum_of_neurons,
)

Masks = Bool[Tensor, "circuit node port"]


def idle_writes(model: TraceModel, ground: Background) -> Buffer:
    """What every node writes when nothing is live, less its ablated write."""
    graph, everything = ground.graph, torch.zeros_like(ground.graph.real)[None]
    run = _Run(model, everything, ground.writes[: graph.before(0)], ground, everyone=True)
    run.to_the_end()
    run.delta[:, : graph.before(0)] = -ground.writes[: graph.before(0)].flatten(1)
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
    with torch.enable_grad():
        return _SoftRun(model, gates[None], inputs, ground, everyone=True).to_the_end()[0]


class _Run:
    """`delta[circuit, node]` is live_u - ablated_u; it is filled layer by layer."""

    def __init__(self, model: TraceModel, masks: Masks, inputs: Tensor, ground: Background, *, everyone: bool = False):
        self.model, self.graph, self.ground = model, ground.graph, ground
        self.kept = masks.to(ground.writes)
        n_inputs, union = self.graph.before(0), masks.any(0)
        self.runs = torch.ones(len(self.graph.nodes), dtype=torch.bool) if everyone else (
            self.graph.reaching(union.cpu()) & self.graph.reading(union.cpu())
        )  # fmt: skip
        _, *self.shape = ground.writes.shape
        self.used, self.span_of = union.any(1), ground.span_of
        self._begin((inputs - ground.writes[:n_inputs]).flatten(1))

    def _begin(self, inputs: Float[Tensor, "input x"]) -> None:
        flat = self.ground.writes.flatten(1)
        self.delta = flat.new_zeros(len(self.kept), *flat.shape)
        if self.ground.idle is not None:
            self.delta += self.ground.idle.flatten(1)
        self.delta[:, : len(inputs)] = inputs

    def to_the_end(self) -> Float[Tensor, "circuit batch pos d_model"]:
        graph = self.graph
        for layer in range(graph.n_layers):
            heads = self.runs[graph.head_rows(layer)].nonzero().flatten().tolist()
            if heads:
                self._heads(layer, list(range(graph.n_heads)) if graph.post_norm else heads)
            if not graph.attn_only and bool(self.runs[graph.mlp_row(layer)]):
                self._mlp(layer)
            if graph.neurons and (some := self.runs[graph.neuron_rows(layer)].nonzero().flatten().tolist()):
                self._neurons(layer, some)
        last, self.span_of = [len(graph.ports) - 1], None
        return self._reads(self.ground.attn[-1], last, len(graph.nodes))[0].unflatten(0, (len(self.kept), -1))

    def _heads(self, layer: int, heads: list[int]) -> None:
        graph, sources = self.graph, self.graph.before(layer)

        def reads(slot: str, which: list[int]) -> Tensor:
            first, each = graph.head_columns(layer, slot).start, graph.columns_per_port
            return self._reads(self.ground.attn[layer], [first + head * each for head in which], sources)

        groups = kv_heads(self.model, heads)
        results = head_results(self.model, layer, heads, reads("q", heads), reads("k", groups), reads("v", groups))
        first = graph.head_rows(layer).start
        self._wrote([first + head for head in heads], heads_received(self.model, layer, results))

    def _mlp(self, layer: int) -> None:
        graph = self.graph
        x = self._reads(self.ground.mlp[layer], [graph.mlp_columns(layer).start], graph.mlp_sources(layer))
        written = run_mlp(self.model, layer, x)
        if apart := graph.neurons_of(layer):
            written = written - sum_of_neurons(self.model, layer, apart, x)
        self._wrote([graph.mlp_row(layer)], written)

    def _neurons(self, layer: int, which: list[int]) -> None:
        """`which` of the layer's neurons that are nodes, counted among them."""
        graph, each = self.graph, self.graph.columns_per_port
        first, apart = graph.neuron_columns(layer).start, graph.neurons_of(layer)
        x = self._reads(self.ground.mlp[layer], [first + n * each for n in which], graph.mlp_sources(layer))
        written = neuron_results(self.model, layer, [apart[n] for n in which], x)
        self._wrote([graph.neuron_rows(layer).start + n for n in which], written)

    def _reads(self, stream: Tensor, columns: list[int], sources: int) -> Float[Tensor, "port row pos d_model"]:
        """What each port reads, circuits stacked on the prompts; `columns` are the ports' (first) columns."""
        delta, kept = self._sources(sources)
        ground = stream.flatten().expand(len(kept), len(columns), -1)
        if self.span_of is None:
            x = torch.baddbmm(ground, kept[:, :, columns].mT, delta)
        else:
            x = ground + self._by_span(delta, kept, columns)
        return x.unflatten(2, self.shape).transpose(0, 1).flatten(1, 2)

    def _by_span(self, delta: Tensor, kept: Tensor, columns: list[int]) -> Float[Tensor, "circuit port x"]:
        """Each span's tokens through the edges that are kept there."""
        assert self.span_of is not None
        of = self.span_of.flatten().to(delta.device)
        order, by_token = of.argsort(stable=True), delta.unflatten(2, (len(of), -1))
        parts = [
            kept[:, :, [column + span for column in columns]].mT @ by_token[:, :, order[of[order] == span]].flatten(2)
            for span in range(len(self.graph.spans))
        ]
        together = torch.cat([part.unflatten(2, (-1, by_token.shape[3])) for part in parts], 2)
        return together[:, :, order.argsort()].flatten(2)

    def _sources(self, sources: int) -> tuple[Tensor, Tensor]:
        """The changes of the first writers, and which of their edges are kept; without those that nobody reads."""
        rows = self.used[:sources].nonzero().flatten()
        delta, kept = self.delta[:, :sources], self.kept[:, :sources]
        return (delta[:, rows], kept[:, rows]) if len(rows) < sources / 2 else (delta, kept)

    def _wrote(self, rows: list[int], written: Float[Tensor, "node row pos d_model"]) -> None:
        live = written.unflatten(1, (len(self.kept), -1)).transpose(0, 1)
        self.delta[:, rows] = (live - self.ground.writes[rows]).flatten(2)


class _SoftRun(_Run):
    """Everybody runs, in the order of the rows, and nothing is written in place: autograd keeps what it needs."""

    def __init__(self, model: TraceModel, gates: Tensor, inputs: Tensor, ground: Background, *, everyone: bool):
        super().__init__(model, gates > 0, inputs, ground, everyone=everyone)
        self.kept = gates

    def _begin(self, inputs: Tensor) -> None:
        self._parts = [inputs[None]]

    def _sources(self, sources: int) -> tuple[Tensor, Tensor]:
        return torch.cat(self._parts, 1)[:, :sources], self.kept[:, :sources]

    def _wrote(self, rows: list[int], written: Tensor) -> None:
        live = written.unflatten(1, (len(self.kept), -1)).transpose(0, 1)
        self._parts.append((live - self.ground.writes[rows]).flatten(2))
