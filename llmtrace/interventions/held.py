"""The base run held fixed, and what a change of some writes becomes on its way through it.

D is the difference that the senders make to the residual stream. Attention is held, so D passes it unchanged, and every
position is on its own; an MLP is held too ("all_frozen"), or reacts ("heads_frozen", Wang et al. 2022):

    sender u joins after its block    D += a_u(other) - a_u(base)
    MLP of layer l, when it reacts    D += mlp(x_l + D) - mlp(x_l),        x_l: what it reads in the base run
    a port reads                      x + D

Cost: the MLPs between the first sender and the last port, on the chosen positions only; no attention at all.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

import torch
from jaxtyping import Float, Int
from torch import Tensor

from llmtrace.interventions.kept import BaseRun, keep_base, keep_sites, keeper
from llmtrace.interventions.ports import read_port
from llmtrace.models import Architecture, TraceModel, describe, run_mlp, through_output
from llmtrace.nodes import Embed, Head, KvHead, Logits, Mlp, Node, Port
from llmtrace.shapes import PositionMask, Tokens
from llmtrace.signals.capture import select_positions
from llmtrace.signals.sites import site_name

Write = Float[Tensor, "batch slot d_model"]
Point = tuple[int, str]  # (layer, "attn" or "mlp"); the logits read at (n_layers, "attn"), where a next layer would


@dataclass(frozen=True, eq=False)
class HeldRun:
    """`slots[prompt]`: the positions at which D is followed. `where` says at which of them senders are changed."""

    model: TraceModel
    base: BaseRun
    sites: Mapping[str, Tensor]
    other: Mapping[str, Tensor]
    slots: Int[Tensor, "batch slot"]
    where: PositionMask
    reacting: bool

    @classmethod
    def of(
        cls, model: TraceModel, base: Tokens, other: Tokens, slots: Int[Tensor, "batch slot"], where: PositionMask,
        *, reacting: bool,
    ) -> HeldRun:  # fmt: skip
        """Two forward passes without unembedding."""
        arch, sites = describe(model), dict[str, Tensor]()
        kinds = ("z",) if arch.attn_only else ("z", "mlp_out") if arch.parallel else ("z", "mlp_out", "resid_mid")
        names = [site_name(kind, layer) for kind in kinds for layer in range(arch.n_layers)]
        written = [name for name in names if "resid_mid" not in name]
        run = keep_base(model, base, [keeper(name, sites) for name in names])
        taken = keep_sites(model, other, [site_name("resid_pre", 0), *written])
        return cls(model, run, sites, taken, slots, where, reacting and not arch.attn_only)

    @cached_property
    def arch(self) -> Architecture:
        return describe(self.model)

    def at(self, value: Float[Tensor, "batch pos *rest"]) -> Float[Tensor, "batch slot *rest"]:
        return select_positions(value, self.slots, 1)

    # what senders change ----------------------------------------------------------------------------------------------

    def differences(self, nodes: Collection[Node]) -> dict[Node, Write]:
        """a_u(other) - a_u(base) of each node, 0 where senders are left alone."""
        found: dict[Node, Write] = {}
        heads: dict[int, list[int]] = {}
        for node in nodes:
            if isinstance(node, Head):
                heads.setdefault(node.layer, []).append(node.head)
            elif isinstance(node, Mlp):
                name = site_name("mlp_out", node.layer)
                found[node] = self._masked(self.other[name] - self.sites[name])
            else:
                found[node] = self._masked(self.other[site_name("resid_pre", 0)] - self.base.resid[0])
        for layer, some in heads.items():
            name = site_name("z", layer)
            moved = self._masked((self.other[name] - self.sites[name])[:, :, some].flatten(2)).unflatten(
                2, (len(some), -1)
            )
            found |= self._written(layer, some, moved)
        return found

    def _masked(self, value: Float[Tensor, "batch pos d"]) -> Float[Tensor, "batch slot d"]:
        return self.at(value * self.where[..., None].to(value))

    def _written(
        self, layer: int, heads: Sequence[int], moved: Float[Tensor, "batch slot some d_head"]
    ) -> dict[Node, Write]:
        writes = through_output(self.model, layer, heads, moved)
        return {Head(layer, head): write for head, write in zip(heads, writes, strict=True)}

    # what becomes of it -----------------------------------------------------------------------------------------------

    def arrivals(
        self, senders: Sequence[Mapping[Node, Write]], points: Collection[Point]
    ) -> dict[Point, Float[Tensor, "sender batch slot d_model"]]:
        """D of each set of senders where ports read; 0 for senders that come later."""
        wanted, found = set(points), dict[Point, Tensor]()
        last = max(layer for layer, _ in wanted)
        order: list[int] = []  # which set each row of `carried` belongs to
        carried = self.base.resid[0].new_empty(0, *self.slots.shape, self.arch.d_model)

        def join(nodes: Collection[Node]) -> None:
            nonlocal carried
            for row, index in enumerate(order):
                for node in senders[index].keys() & nodes:
                    carried[row] += senders[index][node]
            fresh = [i for i, writes in enumerate(senders) if i not in inside and writes.keys() & nodes]
            if fresh:
                new = [torch.stack([senders[i][node] for node in senders[i].keys() & nodes]).sum(0) for i in fresh]
                carried = torch.cat([carried, torch.stack(new)])
                order.extend(fresh)
                inside.update(fresh)

        def arrive(point: Point) -> None:
            if point in wanted:
                everyone = carried.new_zeros(len(senders), *carried.shape[1:])
                everyone[order] = carried
                found[point] = everyone

        inside: set[int] = set()
        join({Embed()})
        for layer in range(last + 1):
            arrive((layer, "attn"))
            if layer == self.arch.n_layers or found.keys() == wanted:
                break
            heads = {Head(layer, head) for head in range(self.arch.n_heads)}
            if not self.arch.parallel:
                join(heads)
            arrive((layer, "mlp"))
            reacted = self._reaction(layer, carried) if self.reacting and len(carried) else None
            if reacted is not None:
                carried = carried + reacted
            if self.arch.parallel:
                join(heads)
            join({Mlp(layer)})
        return found

    def _reaction(self, layer: int, carried: Float[Tensor, "sender batch slot d_model"]) -> Tensor:
        name = site_name("mlp_out", layer)
        return run_mlp(self.model, layer, self._mlp_reads(layer) + carried) - self.at(self.sites[name])

    def _mlp_reads(self, layer: int) -> Write:
        stream = self.base.resid[layer] if self.arch.parallel else self.sites[site_name("resid_mid", layer)]
        return self.at(stream)

    # what ports make of it -------------------------------------------------------------------------------------------

    def point(self, port: Port) -> Point:
        match port.node:
            case Logits():
                return self.arch.n_layers, "attn"
            case Mlp(layer):
                return layer, "mlp"
            case _:
                return port.node.layer, "attn"

    def read(
        self, port: Port, arrived: Float[Tensor, "sender batch slot d_model"]
    ) -> Float[Tensor, "sender batch slot d"]:
        """The activation of a port that reads x + D."""
        layer, part = self.point(port)
        stream = self._mlp_reads(layer) if part == "mlp" else self.at(self.base.resid[layer])
        return read_port(self.model, port, stream + arrived)

    def passed_on(self, read: Mapping[Port, Float[Tensor, "batch slot d"]]) -> dict[Node, Write]:
        """What the nodes of some ports write differently when these ports read as given, all else as in the base run.

        Cost: one layer for each layer of heads among them.
        """
        found: dict[Node, Write] = {}
        by_layer: dict[int, dict[Port, Tensor]] = {}
        for port, value in read.items():
            if isinstance(port.node, Mlp):
                found[port.node] = value - self.at(self.sites[site_name("mlp_out", port.node.layer)])
            elif isinstance(port.node, Head | KvHead):
                by_layer.setdefault(port.node.layer, {})[port] = value
        for layer, values in by_layer.items():
            kept: dict[str, Tensor] = {}
            z = site_name("z", layer)
            first = int(self.slots.min()) if self.base.past is not None else 0
            hooks = [(site_name(port.slot or "", layer), self._put(port, v, first)) for port, v in values.items()]
            self.base.restart(self.model, layer, [*hooks, keeper(z, kept)], first=first, until=layer + 1)
            heads = sorted(set(chain.from_iterable(map(self._heads_of, values))))
            moved = kept[z][:, :, heads] - self.sites[z][:, first:, heads]
            at_slots = select_positions(moved, self.slots - first, 1)
            found |= self._written(layer, heads, at_slots)
        return found

    def _put(self, port: Port, value: Float[Tensor, "batch slot d"], first: int) -> Callable[[Tensor], Tensor]:
        assert isinstance(port.node, Head | KvHead)
        head = port.node.head

        def put(activation: Tensor) -> Tensor:
            changed = activation.clone()
            changed[:, :, head].scatter_(1, (self.slots - first)[..., None].expand_as(value).to(value.device), value)
            return changed

        return put

    def _heads_of(self, port: Port) -> tuple[int, ...]:
        """The query heads that a port feeds."""
        match port.node:
            case KvHead(_, head):
                return tuple(range(head * self.arch.group, (head + 1) * self.arch.group))
            case Head(_, head):
                return (head,)
        return ()
