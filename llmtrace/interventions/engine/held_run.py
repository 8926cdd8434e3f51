"""The base run held fixed, and what a change of some writes becomes on its way through it.

D is the difference that the senders make to the residual stream. Attention is held, so D passes it unchanged, and every
position is on its own; an MLP is held too ("all_frozen"), or reacts ("heads_frozen", Wang et al. 2022):

    sender u joins after its block    D += a_u(other) - a_u(base)
    MLP of layer l, when it reacts    D += mlp(x_l + D) - mlp(x_l),        x_l: what it reads in the base run
    a port reads                      x + D

Cost: the MLPs between the first sender and the last port, on the chosen positions only; no attention at all.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from llmtrace.interventions.engine.base_run import Runs
from llmtrace.interventions.engine.changes import Change, Value
from llmtrace.interventions.engine.hooks import hooks_of, keeper, name_of
from llmtrace.interventions.engine.ports import port_site, read_port
from llmtrace.models import Architecture, TraceModel, describe, run_mlp, through_output
from llmtrace.models.hook_names import site_name
from llmtrace.nodes import Head, KvHead, Mlp, Node, Port, Site
from llmtrace.shapes import PositionMask
from llmtrace.signals.capture import select_positions

Write = Float[Tensor, "batch slot d_model"]


@dataclass(frozen=True, eq=False)
class HeldRun:
    """`slots[prompt]`: the positions at which D is followed, and at which `runs` keep what nodes write and read.
    `where`: the positions at which senders are changed."""

    model: TraceModel
    runs: Runs
    slots: Int[Tensor, "batch slot"]
    where: PositionMask
    reacting: bool

    def differences(self, nodes: Iterable[Node]) -> dict[Node, Write]:
        """a_u(other) - a_u(base) of each node, 0 where senders are left alone."""
        changed = select_positions(self.where, self.slots, 1)[..., None]
        found: dict[Node, Write] = {}
        heads: dict[int, list[int]] = {}
        for node in nodes:
            if isinstance(node, Head):
                heads.setdefault(node.layer, []).append(node.head)
            else:
                name = site_name("mlp_out", node.layer) if isinstance(node, Mlp) else site_name("resid_pre", 0)
                moved = self.runs.sites[name] - self.runs.old[name]
                found[node] = moved * changed.to(moved)
        for layer, some in heads.items():
            z = site_name("z", layer)
            moved = self.runs.sites[z][:, :, some] - self.runs.old[z][:, :, some]
            found |= self._written(layer, some, moved * changed[..., None].to(moved))
        return found

    def _written(
        self, layer: int, heads: Sequence[int], moved: Float[Tensor, "batch slot some d_head"]
    ) -> dict[Node, Write]:
        writes = through_output(self.model, layer, heads, moved)
        return {Head(layer, head): write for head, write in zip(heads, writes, strict=True)}

    def arrivals(
        self, senders: Sequence[Mapping[Node, Write]], points: Collection[Site]
    ) -> dict[Site, Float[Tensor, "sender batch slot d_model"]]:
        """D of each set of senders in the residual streams at `points`; 0 for senders that come later."""
        arch, found = describe(self.model), dict[Site, Tensor]()
        joining: dict[int, list[tuple[int, Write]]] = {}  # step -> (which set, what it writes)
        for index, writes in enumerate(senders):
            for node, write in writes.items():
                joining.setdefault(_step(node, arch), []).append((index, write))
        order = list(dict.fromkeys(index for step in sorted(joining) for index, _ in joining[step]))
        carried = self.runs.base.final.new_zeros(len(senders), *self.slots.shape, arch.d_model)
        inside = 0  # sets that have joined: the first rows
        for step in range(-1, 2 * max(point.layer for point in points) + 2):
            layer, after = divmod(step, 2)
            point = Site("resid_mid" if after else "resid_pre", layer)
            if point in points:
                found[point] = carried[[order.index(index) for index in range(len(senders))]]
            if len(found) == len(points):
                break
            if step > 0 and after and self.reacting and inside:
                reads = self.runs.old[site_name("resid_pre" if arch.parallel else "resid_mid", layer)]
                out = self.runs.old[site_name("mlp_out", layer)]
                for some in self._blocks(carried[:inside]):
                    some += run_mlp(self.model, layer, reads + some) - out
            for index, write in joining.get(step, ()):
                carried[order.index(index)] += write
                inside = max(inside, order.index(index) + 1)
        return found

    # what ports make of it -------------------------------------------------------------------------------------------

    def read(
        self, port: Port, arrived: Mapping[Site, Float[Tensor, "sender batch slot d_model"]]
    ) -> Float[Tensor, "sender batch slot d"]:
        """The activation of a port that reads x + D."""
        arch = describe(self.model)
        point = port.stream(arch.n_layers, parallel=arch.parallel)
        if point.layer == arch.n_layers:
            return select_positions(self.runs.base.final, self.slots, 1) + arrived[point]
        old = self.runs.old[name_of(point)]
        return torch.cat([read_port(self.model, port, old + some) for some in self._blocks(arrived[point])])

    def _blocks(self, rows: Float[Tensor, "sender batch slot d"]) -> tuple[Tensor, ...]:
        """What goes through an MLP at once: as many rows as a pass of the prompts has. Blocks of one size use the same
        memory again from layer to layer."""
        return rows.split(max(1, self.where.numel() // self.slots.numel()))

    def change(self, port: Port, value: Float[Tensor, "batch slot d"]) -> Change:
        """The activation of a port becomes what it makes of x + D."""
        batch, width = self.where.shape
        slots = self.slots.to(value.device)
        full = value.new_zeros(batch, width, value.shape[-1]).scatter_(1, slots[..., None].expand_as(value), value)
        where = torch.zeros_like(self.where).scatter_(1, self.slots, True)
        return Change(port_site(port, describe(self.model).n_layers), Value(full), where)

    def passed_on(self, read: Mapping[Port, Float[Tensor, "batch slot d"]]) -> dict[Node, Write]:
        """What the nodes of some ports write differently when these ports read as given, all else as in the base run.

        Cost: one layer for each layer of heads among them.
        """
        found: dict[Node, Write] = {}
        by_layer: dict[int, dict[Port, Tensor]] = {}
        for port, value in read.items():
            if isinstance(port.node, Mlp):
                found[port.node] = value - self.runs.old[site_name("mlp_out", port.node.layer)]
            elif isinstance(port.node, Head | KvHead):
                by_layer.setdefault(port.node.layer, {})[port] = value
        first = int(self.slots.min()) if self.runs.base.past is not None else 0
        for layer, values in by_layer.items():
            kept: dict[str, Tensor] = {}
            z = site_name("z", layer)
            changes = [self.change(port, value) for port, value in values.items()]
            hooks = [*hooks_of([changes], len(self.slots), first=first), keeper(z, kept, self.slots - first)]
            self.runs.base.restart(self.model, layer, hooks, first=first, until=layer + 1)
            fed = {node for port in values for node in port.node.feeds(describe(self.model).group)}
            heads = sorted(node.head for node in fed if isinstance(node, Head))
            found |= self._written(layer, heads, kept[z][:, :, heads] - self.runs.old[z][:, :, heads])
        return found


def _step(node: Node, arch: Architecture) -> int:
    """After which stream a node joins: resid_pre of layer l is 2 l, what its MLP reads 2 l + 1; -1: before all."""
    if isinstance(node, Head):
        return 2 * node.layer + arch.parallel
    return 2 * node.layer + 1 if isinstance(node, Mlp) else -1
