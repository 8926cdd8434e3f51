"""One pass of circuits over some prompts, from the embedding to the final residual stream.

Port v reads   x_v = (what it reads when nothing is live) + sum over its kept edges u of (live_u - ablated_u)

and only nodes with a kept edge in and a path to the logits are run; the others write what they write when nothing is
live. Heads and MLPs are TransformerLens' own modules (`models/components.py`); no forward pass is written anew.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from llmtrace.circuits.ground import Background, Buffer
from llmtrace.models import TraceModel, head_results, heads_received, kv_heads, run_mlp

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
        self.used = union.any(1)
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
        last = [len(graph.ports) - 1]
        return self._reads(self.ground.attn[-1], last, len(graph.nodes))[0].unflatten(0, (len(self.kept), -1))

    def _heads(self, layer: int, heads: list[int]) -> None:
        graph, sources = self.graph, self.graph.before(layer)

        def reads(slot: str, which: list[int]) -> Tensor:
            first = graph.head_columns(layer, slot).start
            return self._reads(self.ground.attn[layer], [first + head for head in which], sources)

        groups = kv_heads(self.model, heads)
        results = head_results(self.model, layer, heads, reads("q", heads), reads("k", groups), reads("v", groups))
        first = graph.head_rows(layer).start
        self._wrote([first + head for head in heads], heads_received(self.model, layer, results))

    def _mlp(self, layer: int) -> None:
        graph = self.graph
        x = self._reads(self.ground.mlp[layer], [graph.mlp_column(layer)], graph.mlp_sources(layer))
        self._wrote([graph.mlp_row(layer)], run_mlp(self.model, layer, x))

    def _reads(self, stream: Tensor, columns: list[int], sources: int) -> Float[Tensor, "port row pos d_model"]:
        """What each port of `columns` reads, circuits stacked on the prompts."""
        rows = self.used[:sources].nonzero().flatten()
        delta, kept = self.delta[:, :sources], self.kept[:, :sources, columns]
        if len(rows) < sources / 2:
            delta, kept = delta[:, rows], kept[:, rows]
        ground = stream.flatten().expand(len(kept), len(columns), -1)
        x = torch.baddbmm(ground, kept.mT, delta).unflatten(2, self.shape)
        return x.transpose(0, 1).flatten(1, 2)

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

    def _reads(self, stream: Tensor, columns: list[int], sources: int) -> Tensor:
        delta = torch.cat(self._parts, 1)[:, :sources]
        swap = torch.einsum("cnp,cnx->cpx", self.kept[:, :sources, columns], delta)
        return (stream.flatten() + swap).unflatten(2, self.shape).transpose(0, 1).flatten(1, 2)

    def _wrote(self, rows: list[int], written: Tensor) -> None:
        live = written.unflatten(1, (len(self.kept), -1)).transpose(0, 1)
        self._parts.append((live - self.ground.writes[rows]).flatten(2))
