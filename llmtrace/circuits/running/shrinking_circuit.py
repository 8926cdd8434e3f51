"""A circuit that loses edges of one port after the other, from the logits down: only what they can move is run again.

    (a) everything below the port is still the clean run: nothing there is recomputed;
    (b) above it only nodes that are reached through kept edges can move, the others keep their write;
    (c) removals come as cumulative states: state k has the first k + 1 of the given sources removed, and all states
        run as one batch.

Positions before the first one at which the runs differ stay as they are, and of nodes that matter at the metric's
position alone only that position is run. The numbers are those of whole runs, and so are ACDC's
decisions (law 38), whose steps these are.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from llmtrace.circuits.running.background import Background, Buffer
from llmtrace.metrics import Metric
from llmtrace.models import TraceModel, attend, attention_weights, head_readers, project, run_mlp, through_output


class Incremental:
    """`live[u]` is what u writes now, `mask` the edges that are left. HookedTransformers without post-norm only."""

    def __init__(self, model: TraceModel, ground: Background, live: Buffer, metric: Metric):
        self.model, self.graph, self.ground, self.live, self.metric = model, ground.graph, ground, live, metric
        self.mask: Bool[Tensor, "node port"] = self.graph.real.clone()
        self.length = live.shape[2]
        self.window = self.length - ground.first
        same_end = bool((metric.positions == self.length - 1).all())
        self.at_logits = 1 if same_end else self.window
        self.widths: dict[int, int] = {}  # of settled writers: how many last positions anybody reads
        self._streams: dict[int, Tensor] = {}
        self._projected: dict[int, Tensor] = {}
        self._untouched: tuple[object, Tensor] = (None, live)

    # what a node is needed for ----------------------------------------------------------------------------------------

    def begin(self, column: int) -> bool:
        """Go on to this port, those after it being settled. False: nothing that it does reaches the metric."""
        self._streams, self._projected, self._column = {}, {}, column
        rows = self._feeds(column)
        for row in rows:
            if row not in self.widths:
                self.widths[row] = max(
                    (self._width(at) for at in self.mask[row].nonzero().flatten().tolist()), default=0
                )
        return self._width(column) > 0

    def _feeds(self, column: int) -> list[int]:
        return self.graph.writer_of(self.graph.ports[column])

    def _width(self, column: int) -> int:
        """How many last positions of what a port reads matter: keys and values are looked at from later ones."""
        if column == len(self.graph.ports) - 1:
            return self.at_logits
        width = max(self.widths[row] for row in self._feeds(column))
        return self.window if width and self.graph.ports[column].slot in ("k", "v") else width

    def state(self) -> dict[str, Tensor]:
        """What is left and what it writes, between two ports."""
        return {"mask": self.mask, "live": self.live}

    def load(self, state: dict[str, Tensor], column: int) -> None:
        """Go on below the ports that are settled: `column` is the next one."""
        self.mask, self.live = state["mask"], state["live"].to(self.live)
        for settled in range(len(self.graph.ports) - 1, column, -1):
            self.begin(settled)

    # cumulative states ------------------------------------------------------------------------------------------------

    def removed(self, rows: Sequence[int]) -> Float[Tensor, "state batch"]:
        """The metric once the edges from the first 1, 2, ... of `rows` are removed."""
        column, width = self._column, self._width(self._column)
        gone = (self.live[list(rows)] - self.ground.writes[list(rows)])[:, :, -width:].cumsum(0)
        self._rows, self._new = list(rows), dict[int, Tensor]()
        self._inputs = {column: self._stream(column)[:, -width:] - gone}
        return self._rise(column)

    def accept(self, n: int) -> None:
        """Remove the edges from the first `n` of the rows that were tried last."""
        self.mask[self._rows[:n], self._column] = False
        for column, x in self._inputs.items():
            self._stream(column)[:, -x.shape[2] :] = x[n - 1]
            self._projected.pop(column, None)
        for row, written in self._new.items():
            self.live[row][:, -written.shape[2] :] = written[n - 1]

    def _rise(self, column: int) -> Float[Tensor, "state batch"]:
        """What the new inputs of a port become on their way up to the metric."""
        graph, port = self.graph, self.graph.ports[column]
        last = len(graph.ports) - 1
        if column != last:
            first = port.node.layer  # type: ignore[union-attr]
            if port.slot is None:
                self._run_mlp(first)
            else:
                self._run_heads(first, [row for row in self._feeds(column) if self.widths[row]])
                if not (graph.attn_only or graph.parallel):
                    self._carry_to_mlp(first)
            for layer in range(first + 1, graph.n_layers):
                self._carry_to_heads(layer)
                if not graph.attn_only:
                    self._carry_to_mlp(layer)
            self._carry(last)
        x = self._inputs.get(last)
        if x is None:
            x = self._stream(last)[None, :, -self.at_logits :].expand(len(self._rows), -1, -1, -1)
        here = self.metric.here(x, first=self.length - self.at_logits)
        return self.metric.of_residual(self.model, here)

    def _carry(self, column: int) -> bool:
        """Give a port what kept edges bring from nodes that moved; whether there is any."""
        moved = [row for row in self._new if self.mask[row, column]]
        if not moved:
            return False
        width = self._width(column)
        change = sum(self._new[row][:, :, -width:] - self.live[row][:, -width:] for row in moved)
        self._inputs[column] = self._stream(column)[:, -width:] + change
        return True

    def _carry_to_mlp(self, layer: int) -> None:
        if self.widths.get(self.graph.mlp_row(layer), 0) and self._carry(self.graph.mlp_columns(layer).start):
            self._run_mlp(layer)

    def _carry_to_heads(self, layer: int) -> None:
        reached: set[int] = set()
        alive = [row for row in range(*self.graph.head_rows(layer).indices(len(self.graph.nodes))) if self.widths[row]]
        for column in sorted({column for row in alive for column in self._ports(layer, row)}):
            if self._carry(column):
                reached.update(self._feeds(column))
        if rows := [row for row in alive if row in reached]:
            self._run_heads(layer, rows)

    def _ports(self, layer: int, row: int) -> tuple[int, int, int]:
        """Columns of q, k and v of a head."""
        head = row - self.graph.head_rows(layer).start
        group = head // (self.graph.n_heads // self.graph.n_kv_heads)
        q, k, v = (self.graph.head_columns(layer, slot).start for slot in ("q", "k", "v"))
        return q + head, k + group, v + group

    # one node ---------------------------------------------------------------------------------------------------------

    def _run_mlp(self, layer: int) -> None:
        self._new[self.graph.mlp_row(layer)] = run_mlp(
            self.model, layer, self._inputs[self.graph.mlp_columns(layer).start]
        )

    def _run_heads(self, layer: int, rows: Sequence[int]) -> None:
        by_width: dict[int, list[int]] = {}
        for row in rows:
            by_width.setdefault(self.widths[row], []).append(row)
        first = self.graph.head_rows(layer).start
        for width, some in by_width.items():
            columns = [self._ports(layer, row) for row in some]
            q = torch.stack([self._states("q", layer, c[0])[:, -width:] for c in columns], 2)
            k = torch.stack([self._states("k", layer, c[1]) for c in columns], 2)
            v = torch.stack([self._states("v", layer, c[2]) for c in columns], 2)
            heads = [row - first for row in some]
            z = attend(self.model, layer, heads, q, k, v)
            written = through_output(self.model, layer, heads, z).unflatten(1, (len(self._rows), -1))
            self._new |= dict(zip(some, written, strict=True))

    def _states(self, slot: str, layer: int, column: int) -> Float[Tensor, "row pos d_head"]:
        """q, k or v of a port in every state: as it is, but where the port's input is new."""
        kept = self._now(slot, layer, column)[None].expand(len(self._rows), -1, -1, -1)
        if column not in self._inputs:
            return kept.flatten(0, 1)
        x = self._inputs[column]
        new = self._project(slot, layer, column, x.flatten(0, 1)).unflatten(0, x.shape[:2])
        return torch.cat([kept[:, :, : -x.shape[2]], new], 2).flatten(0, 1)

    def _now(self, slot: str, layer: int, column: int) -> Float[Tensor, "batch pos d_head"]:
        if column not in self._projected:
            self._projected[column] = self._project(slot, layer, column, self._stream(column))
        return self._projected[column]

    def _project(
        self, slot: str, layer: int, column: int, x: Float[Tensor, "row pos d_model"]
    ) -> Float[Tensor, "row pos d_head"]:
        which = column - self.graph.head_columns(layer, slot).start
        reader, norm = head_readers(self.model, layer)[slot], attention_weights(self.model, layer).norm
        return project(reader, norm, [which], x[None])[:, :, 0]

    def _stream(self, column: int) -> Float[Tensor, "batch pos d_model"]:
        """What a port reads now."""
        if column not in self._streams:
            node = self.graph.ports[column].node
            layer = getattr(node, "layer", self.graph.n_layers)
            through_mlp = self.graph.ports[column].slot is None and layer < self.graph.n_layers
            # Ports that are still to come read what they read in the clean run, all those of a layer the same.
            if column <= self._column and self._untouched[0] == (layer, through_mlp):
                return self._streams.setdefault(column, self._untouched[1].clone())
            rows = self.mask[:, column].nonzero().flatten()
            ground = (self.ground.mlp if through_mlp else self.ground.attn)[layer]
            self._streams[column] = ground + (self.live[rows] - self.ground.writes[rows]).sum(0)
            if column <= self._column:
                self._untouched = (layer, through_mlp), self._streams[column].clone()
        return self._streams[column]
