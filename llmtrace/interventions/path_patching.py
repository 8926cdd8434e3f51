"""Path patching: what if a receiver heard from a sender what it would say in the other run, by the paths between?

Sender and receiver are any nodes and ports: heads, MLPs and the input send; q, k and v of heads, MLPs and the logits
receive. Three conventions say what is held on the way and what happens behind the receivers:

    "heads_frozen"   every head is held in the base run, MLPs react; then the receivers' activations are put into a run
                     in which everything else reacts (Wang et al. 2022)
    "all_frozen"     heads and MLPs are held: only the residual stream carries the change; then as above
    "edges"          the receivers read the sender as it is in the other run, in one run in which all else is live, what
                     they read of each other included (edge patching, as in ACDC)

For one receiver "all_frozen" and "edges" are the same. With the logits as receiver nothing is behind it, and it is a
closed form at the metric's position alone: `resid_final + D` (`held.py`).

Several hops are a chain, `a5.h5 -> a8.h6<v> -> a9.h9<q> -> logits`: each hop carries on only what the ports of the last
one changed. One step back from the heads that matter: `receivers=effects.ports("q", 3)`.

Source: Wang et al. 2022, section 3.1; Goldowsky-Dill et al. 2023. Cost: two forward passes; the MLPs between senders
and receivers on the changed positions; then each sender its share of a pass from the receivers on. Sign: noising (the
other run is the corrupted one): negative change = the path carried the metric.
Known failure: what a path carries may be backed up by another one, which ablation shows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path as File
from typing import Any, Literal, TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor

from llmtrace.errors import InputError
from llmtrace.interventions.checkpoint import Partial, partial_results
from llmtrace.interventions.declared import Declared
from llmtrace.interventions.effects import Effects
from llmtrace.interventions.engine import Plan, Sweep
from llmtrace.interventions.held import HeldRun, Write
from llmtrace.interventions.kept import Runs
from llmtrace.interventions.patching import Direction, base_and_other
from llmtrace.interventions.places import mask_of, site_of
from llmtrace.interventions.ports import port_site
from llmtrace.interventions.reach import Reach
from llmtrace.interventions.values import Change, EdgeChange, FromOther, Value
from llmtrace.metrics import Metric, MetricLike
from llmtrace.models import Architecture, TraceModel, describe, provenance, require_additive
from llmtrace.models.budget import Memory, at_once, budget, bytes_per_position, kept_bytes, stack_room
from llmtrace.nodes import Embed, Head, KvHead, Logits, Mlp, Node, Path, Place, Port, Position, parse_path, parse_port
from llmtrace.progress import track
from llmtrace.prompts import PromptSet, metric_of
from llmtrace.shapes import PositionMask

Convention = Literal["heads_frozen", "all_frozen", "edges"]
CONVENTIONS = ("heads_frozen", "all_frozen", "edges")
Sender: TypeAlias = "Head | Mlp | Embed"
LOGITS = Port(Logits())


def path_patch(
    model: TraceModel,
    prompts: PromptSet,
    *,
    senders: Sequence[Sender] | None = None,
    receivers: Sequence[Port | str] = ("logits",),
    convention: Convention = "heads_frozen",
    positions: Sequence[Position] | None = None,
    direction: Direction = "noising",
    metric: MetricLike | None = None,
    memory: Memory = "auto",
    resume: str | File | None = None,
) -> Effects:
    """The effect of each sender on all `receivers` together, per prompt.

    senders     heads, MLPs, `Embed()` (default: every head that some receiver comes after)
    receivers   ports, as values or text: "a9.h9<q>", "a0.kv1<k>", "m3", "logits"
    positions   where the senders are patched, names or indices (default: everywhere)
    direction   "noising" (the clean run hears corrupted senders) or "denoising"
    memory      bytes, or "auto"
    resume      a file for partial results, taken up where it is there

    Raises InputError for a sender that cannot send, a port the model does not have, or runs that do not differ,
    UnsupportedError on models whose writes do not add up (post-norm).
    """
    return plan_path_patch(
        model, prompts, senders=senders, receivers=receivers, convention=convention, positions=positions,
        direction=direction, metric=metric, memory=memory,
    ).run(resume)  # fmt: skip


def patch_paths(
    model: TraceModel,
    prompts: PromptSet,
    paths: Sequence[Path | str],
    *,
    convention: Literal["heads_frozen", "all_frozen"] = "heads_frozen",
    positions: Sequence[Position] | None = None,
    direction: Direction = "noising",
    metric: MetricLike | None = None,
    memory: Memory = "auto",
    resume: str | File | None = None,
) -> Effects:
    """The effect of each path: of the senders through its ports, hop by hop.

    paths       such as "a5.h5 -> a8.h6<v> -> a9.h9<q> -> logits"; a step may be a set, "a7.h3 + a7.h9"
    positions   where the senders are patched (default: everywhere); behind them a change goes where attention takes it

    What the last ports read is put into a run in which everything else reacts, unless they are the logits.
    Raises what `path_patch` raises, and InputError for a hop that leads backwards.
    """
    return plan_patch_paths(
        model, prompts, paths, convention=convention, positions=positions, direction=direction, metric=metric,
        memory=memory,
    ).run(resume)  # fmt: skip


def plan_path_patch(
    model: TraceModel,
    prompts: PromptSet,
    *,
    senders: Sequence[Sender] | None = None,
    receivers: Sequence[Port | str] = ("logits",),
    convention: Convention = "heads_frozen",
    positions: Sequence[Position] | None = None,
    direction: Direction = "noising",
    metric: MetricLike | None = None,
    memory: Memory = "auto",
) -> PathPatching | Declared:
    """The same, to be looked at before it is run: `.plan` says passes and memory, `.run()` gives the effects."""
    arch = _checked(model, convention, CONVENTIONS)
    ports = _ports(receivers, arch)
    if senders is None:
        chosen: tuple[Sender, ...] = tuple(h for h in arch.heads if any(arch.reads(port, h) for port in ports))
        if not chosen:
            raise InputError(f"Expected receivers that some head comes before, got {receivers!r}; name senders.")
    else:
        chosen = arch.require_all(senders, (Head, Mlp, Embed), "as senders")
    options = {"receivers": " + ".join(map(str, ports)), **_options(convention, positions, direction)}
    bound = metric_of(model, prompts, metric)
    prompts.require_corruption("Path patching")
    nodes: tuple[tuple[Place, ...], ...] = tuple((sender,) for sender in chosen)
    if convention == "edges":
        base, other = base_and_other(prompts, direction)
        where = mask_of(prompts, positions or ())
        variants = [
            [EdgeChange(port, Change(site_of(u, arch), FromOther(), where)) for port in ports if arch.reads(port, u)]
            for u in chosen
        ]
        sweep = Sweep(model, prompts, bound, variants, base, other, memory=memory, label="patching edges")
        return Declared(sweep, nodes, "path_patch", options)
    if LOGITS in ports and len(ports) > 1:
        raise InputError(
            "Expected the logits alone as receiver, got other ports beside them; what the logits read would override "
            "all else: use convention='edges', or patch twice."
        )
    paths = tuple(Path((sender,), (ports,)) for sender in chosen)
    return PathPatching(
        model, prompts, bound, paths, nodes, convention, positions, direction, memory, "path_patch", options
    )


def plan_patch_paths(
    model: TraceModel,
    prompts: PromptSet,
    paths: Sequence[Path | str],
    *,
    convention: Literal["heads_frozen", "all_frozen"] = "heads_frozen",
    positions: Sequence[Position] | None = None,
    direction: Direction = "noising",
    metric: MetricLike | None = None,
    memory: Memory = "auto",
) -> PathPatching:
    """The same, to be looked at before it is run: `.plan` says passes and memory, `.run()` gives the effects."""
    arch = _checked(model, convention, CONVENTIONS[:2])
    if isinstance(paths, str | Path) or not paths:
        raise InputError(f"Expected a list of paths, got {paths!r}; write ['a5.h5 -> a8.h6<v> -> logits'].")
    read = tuple(_require_path(parse_path(path) if isinstance(path, str) else path, arch) for path in paths)
    bound = metric_of(model, prompts, metric)
    prompts.require_corruption("Path patching")
    options, nodes = _options(convention, positions, direction), tuple((path,) for path in read)
    return PathPatching(
        model, prompts, bound, read, nodes, convention, positions, direction, memory, "patch_paths", options
    )


@dataclass(frozen=True, eq=False)
class PathPatching:
    """Paths that are declared and not yet patched."""

    model: TraceModel
    prompts: PromptSet
    metric: Metric
    paths: tuple[Path, ...]
    nodes: tuple[tuple[Place, ...], ...]
    convention: str
    positions: Sequence[Position] | None
    direction: Direction
    memory: Memory
    method: str
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def plan(self) -> Plan:
        """Passes and memory, without running anything. MLPs on the way are counted at their share of a pass."""
        arch, length = describe(self.model), self.prompts.clean.shape[1]
        idle = self._where.any(1).sum() == 0
        slots = self._slots.shape[1]
        work = 0.0
        for path in () if idle else self.paths:
            if self.convention == "heads_frozen" and not arch.attn_only:
                work += _mlp_share(arch) * slots * (_last_layer(path, arch) - _first_layer(path))
            work += sum(slots for step in path.steps[:-1] for _ in {port.node for port in step})  # a layer for a hop
            if (ports := _last_ports(path)) and LOGITS not in ports:
                first = min(port_site(port, arch.n_layers).layer for port in ports)
                work += (arch.n_layers - first) * (self._reach.width - int(self._slots.min()))
        return Plan(
            interventions=len(self.paths),
            without_effect=len(self.paths) if idle else 0,
            passes=2 + work / (arch.n_layers * length),
            bytes=self._prompts_at_once * (self._kept_bytes + self._paths_at_once * self._path_bytes),
            prompts_at_once=self._prompts_at_once,
        )

    @torch.no_grad()
    def run(self, resume: str | File | None = None) -> Effects:
        """The effects. `resume`: a file for partial results, taken up where it is there, deleted when all is done."""
        width = torch.promote_types(self.model.W_E.dtype, torch.float32)
        before, other = (torch.empty(len(self.prompts), dtype=width) for _ in range(2))
        after = before.new_empty(len(self.paths), len(before))
        about = (
            provenance(self.model).weights, self.metric, self.paths, self.prompts.clean, self.prompts.corrupted,
            self.convention, self.direction, self._where,
        )  # fmt: skip
        with partial_results(resume, about, after) as partial:
            batches = self.prompts.batches(self._prompts_at_once)
            chunks = -(-len(self.paths) // self._paths_at_once)
            for _ in track(self._steps(batches, partial, before, other), "patching paths", total=len(batches) * chunks):
                pass
        return Effects(
            nodes=self.nodes,
            before=before,
            after=partial.values,
            other=other,
            method=self.method,
            metric=self.metric.name,
            provenance=provenance(self.model).as_dict(),
            passes=self.plan.passes,
            options={**self.options, "seed": self.prompts.seed},
            group=describe(self.model).group,
        )

    def _steps(self, batches: Sequence[slice], partial: Partial, before: Tensor, other: Tensor) -> Iterator[None]:
        base_tokens, other_tokens = base_and_other(self.prompts, self.direction)
        reacting, width = self.convention == "heads_frozen", self._reach.width
        end = port_site(LOGITS, describe(self.model).n_layers)
        for rows in batches:
            metric = self.metric[rows]
            tokens = base_tokens[rows, :width], other_tokens[rows, :width]
            held = HeldRun.of(self.model, *tokens, self._slots[rows], self._where[rows], reacting=reacting)
            before[rows], other[rows] = (
                metric.of_residual(self.model, metric.here(final)).cpu()
                for final in (held.base.resid[-1], held.other[f"blocks.{end.layer}.hook_resid_pre"])
            )
            for start in range(0, len(self.paths), self._paths_at_once):
                some = list(range(start, min(start + self._paths_at_once, len(self.paths))))
                if not partial.has(some, rows):
                    values = self._values(held, rows, [self.paths[i] for i in some], before[rows], other[rows])
                    partial.put(some, rows, values.where(self._where[rows].any(1), before[rows]))
                yield

    def _values(
        self, held: HeldRun, rows: slice, paths: Sequence[Path], before: Tensor, other: Tensor
    ) -> Float[Tensor, "path batch"]:
        """The metric after each path, on some prompts."""
        differences = held.differences({node for path in paths for node in path.senders})
        writes = [self._through(held, path, {node: differences[node] for node in path.senders}) for path in paths]
        ports = {port for path in paths for port in _last_ports(path)}
        arrived = held.arrivals(writes, {held.point(port) for port in ports}) if ports else {}
        values = before.expand(len(paths), -1).clone()
        ends = [index for index, path in enumerate(paths) if LOGITS in _last_ports(path)]
        if ends:
            final = held.read(LOGITS, arrived[held.point(LOGITS)][ends])
            values[ends] = self._read_final(held, rows, final)
        inside = [index for index, path in enumerate(paths) if _last_ports(path) and LOGITS not in _last_ports(path)]
        if inside:
            read = {port: held.read(port, arrived[held.point(port)]) for port in ports - {LOGITS}}
            variants = [
                [self._change(held, port, read[port][i], rows) for port in _last_ports(paths[i])] for i in inside
            ]
            runs = Runs(held.base, {}, held.other, before, other)
            prompts = self._prompts_of(rows)
            base, away = base_and_other(prompts, self.direction)
            sweep = Sweep(
                self.model, prompts, self.metric[rows], variants, base, away, runs=runs, memory=self.memory,
                label="",
            )  # fmt: skip
            values[inside] = sweep.run().after
        return values

    def _through(self, held: HeldRun, path: Path, writes: Mapping[Node, Write]) -> Mapping[Node, Write]:
        """What the last senders of a path write differently: one hop after the other."""
        for step in path.steps[:-1]:
            arrived = held.arrivals([writes], {held.point(port) for port in step})
            writes = held.passed_on({port: held.read(port, arrived[held.point(port)])[0] for port in step})
        return writes

    def _read_final(self, held: HeldRun, rows: slice, final: Float[Tensor, "path batch slot d_model"]) -> Tensor:
        metric = self.metric[rows]
        slot = (held.slots == metric.positions.to(held.slots)[:, None]).long().argmax(1)
        here = final[:, torch.arange(len(slot), device=final.device), slot]
        return metric.of_residual(self.model, here).cpu()

    def _change(self, held: HeldRun, port: Port, value: Float[Tensor, "batch slot d"], rows: slice) -> Change:
        batch, width = len(value), self._reach.width
        full = value.new_zeros(batch, width, value.shape[-1])
        full.scatter_(1, held.slots[..., None].expand_as(value).to(value.device), value)
        where = torch.zeros(batch, width, dtype=torch.bool)
        where.scatter_(1, held.slots.cpu(), torch.ones_like(held.slots.cpu(), dtype=torch.bool))
        return Change(port_site(port, describe(self.model).n_layers), Value(full), where)

    def _prompts_of(self, rows: slice) -> PromptSet:
        """Some prompts, as wide as they all are."""
        some = self.prompts[rows]
        return replace(some, clean=self.prompts.clean[rows], corrupted=self.prompts.corrupted[rows])

    # where and how much -----------------------------------------------------------------------------------------------

    @cached_property
    def _reach(self) -> Reach:
        base, other = base_and_other(self.prompts, self.direction)
        return Reach(base, other, self.metric.positions, describe(self.model).causal)

    @cached_property
    def _where(self) -> PositionMask:
        """Where senders are patched and can differ."""
        asked = Change(site_of(Embed(), describe(self.model)), FromOther(), mask_of(self.prompts, self.positions or ()))
        where = self._reach.places(asked)
        if self._straight:  # the logits read one position
            return where & (torch.arange(where.shape[1]) == self.metric.positions[:, None])
        return where

    @property
    def _straight(self) -> bool:
        return all(len(path.steps) == 1 and LOGITS in path.steps[0] for path in self.paths)

    @cached_property
    def _slots(self) -> Int[Tensor, "batch slot"]:
        """Where changes are followed: at the metric's position, the patched ones, or behind a hop all later ones."""
        if self._straight:
            return self.metric.positions[:, None]
        counts = self._where.sum(1)
        one_hop = all(len(path.steps) == 1 for path in self.paths)
        if one_hop and int(counts.min()) == int(counts.max()) > 0:
            return self._where.nonzero()[:, 1].view(len(counts), -1)
        somewhere = self._where.any(0).nonzero()
        first = int(somewhere[0]) if len(somewhere) else self._reach.width - 1
        return torch.arange(first, self._reach.width).expand(len(counts), -1)

    @cached_property
    def _kept_bytes(self) -> int:
        """Of one prompt's two runs."""
        arch, itemsize, width = describe(self.model), self.model.W_E.element_size(), self._reach.width
        sites = 2 * arch.n_heads * arch.d_head + 3 * arch.d_model
        return kept_bytes(arch, width, itemsize) + itemsize * width * arch.n_layers * sites

    @cached_property
    def _path_bytes(self) -> int:
        """Of one path on one prompt."""
        arch, itemsize = describe(self.model), self.model.W_E.element_size()
        return self._slots.shape[1] * (bytes_per_position(arch, 0, itemsize) + 2 * itemsize * arch.d_model)

    @cached_property
    def _room(self) -> int:
        return budget(self.memory, self.model.W_E.device)

    @cached_property
    def _prompts_at_once(self) -> int:
        each = self._kept_bytes + self._path_bytes
        return at_once(self._room, each, len(self.prompts), "one prompt", asked=self.memory)

    @cached_property
    def _paths_at_once(self) -> int:
        kept = self._prompts_at_once * self._kept_bytes
        room = stack_room(self._room, kept, self.memory, self.model.W_E.device)
        return max(1, min(len(self.paths), room // (self._prompts_at_once * self._path_bytes)))


def _checked(model: TraceModel, convention: str, known: Sequence[str]) -> Architecture:
    if convention not in known:
        raise InputError(f"Expected convention to be one of {', '.join(known)}, got {convention!r}; choose one.")
    arch = describe(model)
    require_additive(model, "Path patching")
    return arch


def _ports(receivers: Sequence[Port | str], arch: Architecture) -> tuple[Port, ...]:
    if isinstance(receivers, str | Port) or not isinstance(receivers, Sequence):
        raise InputError(f"Expected a list of receivers, got {receivers!r} alone; put it in a list: ['a9.h9<q>'].")
    ports = tuple(dict.fromkeys(parse_port(port) if isinstance(port, str) else port for port in receivers))
    for port in ports:
        arch.require_port(port)
    return ports


def _require_path(path: Path, arch: Architecture) -> Path:
    """Refuse places that the model does not have, and hops that lead backwards or end before the end."""
    arch.require_all(path.senders, (Head, Mlp, Embed), "as the senders of a path")
    senders: list[Node] = list(path.senders)
    for index, step in enumerate(path.steps):
        for port in step:
            arch.require_port(port)
            if not any(arch.reads(port, node) for node in senders):
                raise InputError(f"Expected a path that leads forwards, got {path}: nothing before {port} reaches it.")
        if any(isinstance(port.node, Logits) for port in step) and (index + 1 < len(path.steps) or len(step) > 1):
            raise InputError(f"Expected the logits alone and at the end of a path, got {path}.")
        senders = [node for port in step for node in _nodes_of(port, arch)]
    return path


def _nodes_of(port: Port, arch: Architecture) -> list[Node]:
    """The nodes that a port feeds."""
    match port.node:
        case KvHead(layer, head):
            return [Head(layer, index) for index in range(head * arch.group, (head + 1) * arch.group)]
        case Logits():
            return []
    return [port.node]


def _options(convention: str, positions: Sequence[Position] | None, direction: str) -> dict[str, Any]:
    at = {"positions": "+".join(map(str, positions))} if positions else {}
    return {"convention": convention, "direction": direction, **at}


def _last_ports(path: Path) -> tuple[Port, ...]:
    return path.steps[-1]


def _first_layer(path: Path) -> int:
    return min(getattr(node, "layer", 0) for node in path.senders)


def _last_layer(path: Path, arch: Architecture) -> int:
    return max((port_site(port, arch.n_layers).layer for port in _last_ports(path)), default=0)


def _mlp_share(arch: Architecture) -> float:
    """Of a layer's multiplications."""
    mlp = (3 if arch.gated else 2) * arch.d_mlp
    return mlp / (mlp + 2 * (arch.n_heads + arch.n_kv_heads) * arch.d_head)
