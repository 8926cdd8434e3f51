"""Path patching: what if a receiver heard from a sender what it would say in the other run, by the paths between?

Sender and receiver are any nodes and ports: heads, MLPs and the input send; q, k and v of heads, MLPs and the logits
receive. Three conventions say what is held on the way and what happens behind the receivers:

    "heads_frozen"   every head is held in the base run, MLPs react; then the receivers' activations are put into a run
                     in which everything else reacts (Wang et al. 2022)
    "all_frozen"     heads and MLPs are held: only the residual stream carries the change; then as above
    "edges"          the receivers read the sender as it is in the other run, in one run in which all else is live, what
                     they read of each other included (edge patching, as in ACDC)

For one receiver "all_frozen" and "edges" are the same. With the logits as receiver nothing is behind it, and it is a
closed form at the metric's position alone: `resid_final + D` (`engine/held_run.py`).

Several hops are a chain, `a5.h5 -> a8.h6<v> -> a9.h9<q> -> logits`: each hop carries on only what the ports of the last
one changed. One step back from the heads that matter: `receivers=effects.ports("q", 3)`.

Source: Wang et al. 2022, section 3.1; Goldowsky-Dill et al. 2023. Cost: two forward passes; the MLPs between senders
and receivers on the changed positions; then each sender its share of a pass from the receivers on. Sign: noising (the
other run is the corrupted one): negative change = the path carried the metric.
Known failure: what a path carries may be backed up by another one, which ablation shows.

    >>> lt.interventions.path_patch(model, prompts)
    Effects(path_patch (heads frozen, noising) on logit_diff: 32 interventions, 4 prompts, before 8.72; 3.2 -6.23,
      3.5 -5.59, 3.7 -2.15)
    >>> lt.interventions.path_patch(model, prompts, receivers=["a3.h2<k>"])
    Effects(path_patch (heads frozen, noising) on logit_diff: 24 interventions, 4 prompts, before 8.72; 2.2 -6.36,
      2.6 -0.0131, 1.6 -0.0105)
    >>> lt.interventions.patch_chains(model, prompts, ["a2.h2 -> m2 -> a3.h2<k> -> logits"])
    Effects(patch_chains (heads frozen, noising) on logit_diff: 1 interventions, 4 prompts, before 8.72; 2.2 -> MLP 2
      -> 3.2<k> -> logits -6.36)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path as File
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from llmtrace.errors import InputError, require_one_of
from llmtrace.interventions.effects import Effects
from llmtrace.interventions.engine.base_run import Runs
from llmtrace.interventions.engine.changes import Change, EdgeChange, FromOther
from llmtrace.interventions.engine.held_run import HeldRun, Write
from llmtrace.interventions.engine.hooks import name_of, part_numbers
from llmtrace.interventions.engine.intervention import Intervention, Needs
from llmtrace.interventions.engine.places import mask_of, site_of
from llmtrace.interventions.engine.ports import port_site
from llmtrace.interventions.engine.shared_passes import Chunk
from llmtrace.interventions.engine.sweep import Sweep
from llmtrace.interventions.patching import Direction, base_and_other
from llmtrace.metrics import MetricLike
from llmtrace.models import Architecture, TraceModel, can_skip_positions, describe, is_bridge, require_additive
from llmtrace.models.memory import Memory
from llmtrace.nodes import (
    Embed,
    Head,
    Logits,
    Mlp,
    Node,
    NodeLike,
    Path,
    Place,
    Port,
    Position,
    Site,
    parse_path,
    parse_port,
)
from llmtrace.plan import Declaration, declares
from llmtrace.prompts import PromptSet, metric_of
from llmtrace.prompts.choice import Choice
from llmtrace.shapes import PositionMask

Convention = Literal["heads_frozen", "all_frozen", "edges"]
CONVENTIONS = ("heads_frozen", "all_frozen", "edges")
Sender = Head | Mlp | Embed
LOGITS = Port(Logits())


@declares
def path_patch(
    model: TraceModel,
    prompts: PromptSet,
    *,
    senders: Sequence[NodeLike] | None = None,
    receivers: Sequence[Port | str] = ("logits",),
    convention: Convention = "heads_frozen",
    positions: Choice | None = None,
    direction: Direction = "noising",
    metric: MetricLike | None = None,
    memory: Memory = "auto",
    resume: str | File | None = None,
) -> Declaration[Effects]:
    """The effect of each sender on all `receivers` together, per prompt.

    senders     heads, MLPs, the input: Head(9, 6), "9.6", (9, 6), "m3", "input" (default: every head that some receiver
                comes after)
    receivers   ports, as values or text: "a9.h9<q>", "a0.kv1<k>", "m3", "logits"
    positions   where the senders are patched, names or indices (default: everywhere)
    direction   "noising" (the clean run hears corrupted senders) or "denoising"
    memory      bytes, or "auto"
    resume      a file for partial results, taken up where it is there

    Raises InputError for a sender that cannot send or that no receiver comes after, a port the model does not have, or
    runs that do not differ, UnsupportedError on models whose writes do not add up (post-norm).
    """
    arch = _checked(convention, CONVENTIONS, model)
    ports = _ports(receivers, arch)
    _require_readers(model, ports, convention)
    if senders is None:
        chosen: tuple[Sender, ...] = tuple(h for h in arch.heads if any(arch.reads(port, h) for port in ports))
        if not chosen:
            raise InputError(f"Expected receivers that some head comes before, got {receivers!r}; name senders.")
    else:
        chosen = arch.require_all(senders, (Head, Mlp, Embed), "as senders")
        _require_heard(chosen, ports, arch)
    bound, at = metric_of(model, prompts, metric), () if positions is None else prompts.chosen(positions)
    options = {"receivers": " + ".join(map(str, ports)), **_options(convention, at, direction)}
    prompts.require_corruption("Path patching")
    nodes: tuple[tuple[Place, ...], ...] = tuple((sender,) for sender in chosen)
    base, other = base_and_other(prompts, direction)
    if convention == "edges":
        where = mask_of(prompts, at)
        variants = [
            [EdgeChange(port, Change(site_of(u, arch), FromOther(), where)) for port in ports if arch.reads(port, u)]
            for u in chosen
        ]
        return Sweep(
            model=model, prompts=prompts, metric=bound, base=base, other=other, variants=variants, nodes=nodes,
            method="path_patch", options=options, memory=memory, resume=resume, label="patching edges",
        )  # fmt: skip
    if LOGITS in ports and len(ports) > 1:
        raise InputError(
            "Expected the logits alone as receiver, got other ports beside them; what the logits read would override "
            "all else: use convention='edges', or patch twice."
        )
    paths = tuple(Path((sender,), (ports,)) for sender in chosen)
    return PathPatching(
        model=model, prompts=prompts, metric=bound, base=base, other=other, paths=paths, nodes=nodes,
        reacting=convention == "heads_frozen" and not arch.attn_only, positions=at, method="path_patch",
        options=options, memory=memory, resume=resume, label="patching paths",
    )  # fmt: skip


@declares
def patch_chains(
    model: TraceModel,
    prompts: PromptSet,
    paths: Sequence[Path | str],
    *,
    convention: Literal["heads_frozen", "all_frozen"] = "heads_frozen",
    positions: Choice | None = None,
    direction: Direction = "noising",
    metric: MetricLike | None = None,
    memory: Memory = "auto",
    resume: str | File | None = None,
) -> Declaration[Effects]:
    """The effect of each path: of the senders through its ports, hop by hop.

    paths       such as "a5.h5 -> a8.h6<v> -> a9.h9<q> -> logits"; a step may be a set, "a7.h3 + a7.h9"
    positions   where the senders are patched (default: everywhere); behind them a change goes where attention takes it

    What the last ports read is put into a run in which everything else reacts, unless they are the logits.
    Raises what `path_patch` raises, and InputError for a hop that leads backwards.
    """
    arch = _checked(convention, CONVENTIONS[:2], model)
    if isinstance(paths, str | Path) or not paths:
        raise InputError(f"Expected a list of paths, got {paths!r}; write ['a5.h5 -> a8.h6<v> -> logits'].")
    read = tuple(_require_path(parse_path(path) if isinstance(path, str) else path, arch) for path in paths)
    _require_readers(model, [port for path in read for step in path.steps for port in step], convention)
    bound, at = metric_of(model, prompts, metric), () if positions is None else prompts.chosen(positions)
    prompts.require_corruption("Path patching")
    options, nodes = _options(convention, at, direction), tuple((path,) for path in read)
    base, other = base_and_other(prompts, direction)
    return PathPatching(
        model=model, prompts=prompts, metric=bound, base=base, other=other, paths=read, nodes=nodes,
        reacting=convention == "heads_frozen" and not arch.attn_only, positions=at, method="patch_chains",
        options=options, memory=memory, resume=resume, label="patching paths",
    )  # fmt: skip


@dataclass(frozen=True, eq=False, kw_only=True)
class PathPatching(Intervention):
    """Paths in the base run held fixed (`engine/held_run.py`); what their last ports read is then put into a run.

    reacting    whether MLPs on the way react
    positions   where the senders are patched (none: everywhere)
    """

    paths: tuple[Path, ...]
    reacting: bool
    positions: Sequence[Position] = ()

    def values(self, chunk: Chunk, rows: slice, kept: Runs) -> Float[Tensor, "path batch"]:
        where, slots = (of_all[rows] for of_all in self._followed)
        held = HeldRun(self.model, kept, slots, where, self.reacting)
        paths = [self.paths[i] for i in chunk.variants]
        read = self._read(held, paths)
        if LOGITS in read:
            metric = self.metric[rows]
            slot = (held.slots == metric.positions.to(held.slots)[:, None]).long().argmax(1)
            here = read[LOGITS][:, torch.arange(len(slot)), slot]
            values = metric.of_residual(self.model, here).cpu()
        else:
            changes = [[held.change(port, read[port][i]) for port in path.steps[-1]] for i, path in enumerate(paths)]
            del read  # values stand in the changes
            values = self.restarted(chunk, rows, kept, changes)
        return values.where(where.any(1), kept.before)

    def _read(self, held: HeldRun, paths: Sequence[Path]) -> dict[Port, Float[Tensor, "path batch slot d"]]:
        """What the last ports of paths make of what arrives there."""
        differences = held.differences({node for path in paths for node in path.senders})
        writes = [self._through(held, path, {node: differences[node] for node in path.senders}) for path in paths]
        ports = {port for path in paths for port in path.steps[-1]}
        arrived = held.arrivals(writes, {self._stream(port) for port in ports})
        return {port: held.read(port, arrived) for port in ports}

    def _through(self, held: HeldRun, path: Path, writes: Mapping[Node, Write]) -> Mapping[Node, Write]:
        """What the last senders of a path write differently: one hop after the other."""
        for step in path.steps[:-1]:
            arrived = held.arrivals([writes], {self._stream(port) for port in step})
            writes = held.passed_on({port: held.read(port, arrived)[0] for port in step})
        return writes

    def _stream(self, port: Port) -> Site:
        return port.stream(self.arch.n_layers, parallel=self.arch.parallel)

    # what is run -----------------------------------------------------------------------------------------------------

    @cached_property
    def needs(self) -> Needs:
        where, slots = self._followed
        arch, n_layers, paths = self.arch, self.arch.n_layers, self.paths if where.any() else ()
        first = int(slots.min()) if can_skip_positions(self.model) else 0
        starts = [(index, self._start(path), first) for index, path in enumerate(paths) if path.steps[-1]]
        hops = {port for path in paths for step in path.steps[:-1] for port in step}
        ports = hops.union(*(path.steps[-1] for path in paths))
        sent = {name_of(site_of(node, arch)) for path in paths for node in path.senders}
        passed = {name_of(site_of(node, arch)) for port in hops for node in port.node.feeds(arch.group)}
        reading = {point for port in ports if (point := self._stream(port)).layer < n_layers}
        since = min((max(0, node.depth or 0) for path in paths for node in path.senders), default=n_layers)
        until = max((self._stream(port).layer for port in ports), default=0)
        mlps = [Port(Mlp(layer)) for layer in range(since, until)] if self.reacting else []
        around = [site for mlp in mlps for site in (self._stream(mlp), port_site(mlp, n_layers))]
        layers = {layer for _, layer, _ in starts if layer < n_layers} | {
            p.node.depth or 0 for p in hops if p.node.slots
        }
        return Needs(
            asked=[(path, self.reacting, where) for path in self.paths],
            starts=starts,
            changed={name_of(port_site(p, n_layers)) for p in ports if p.node.slots or (p not in hops and p != LOGITS)},
            compared=sent | passed | {name_of(site) for site in (*reading, *around)},
            taken=sent,
            slots=slots,
            layers=layers - {n_layers},
            past=first > 0 and bool(layers - {n_layers}),
            passes=sum(map(self._held_layers, paths)) * slots.shape[1] / (n_layers * self.base.shape[1]),
            held=5 * slots.shape[1] * arch.d_model,
            block=self.reach.width * (5 * arch.d_model + 4 * arch.d_mlp),
            beside=max((self._given(path) for path in paths), default=0),
        )

    def _given(self, path: Path) -> int:
        """Numbers of the new values of the last ports, for one prompt."""
        sites = [port_site(port, self.arch.n_layers) for port in path.steps[-1] if port != LOGITS]
        return self.reach.width * sum(part_numbers(site, self.arch, self.reach.width) for site in sites)

    def _start(self, path: Path) -> int:
        """The layer from which a path's last ports are put into a run."""
        layer = min(port_site(port, self.arch.n_layers).layer for port in path.steps[-1])
        return 0 if is_bridge(self.model) and LOGITS not in path.steps[-1] else layer

    def _held_layers(self, path: Path) -> float:
        """Layers that are computed in the held run: an MLP counts as its share of one, a hop's heads as a whole one."""
        hops = sum(len({port.node for port in step}) for step in path.steps[:-1])
        if not self.reacting:
            return float(hops)
        last = max((port_site(port, self.arch.n_layers).layer for port in path.steps[-1]), default=0)
        return hops + _mlp_share(self.arch) * (last - min(max(0, node.depth or 0) for node in path.senders))

    @cached_property
    def _followed(self) -> tuple[PositionMask, Int[Tensor, "batch slot"]]:
        """Where senders are patched and can differ; and the positions at which their changes are followed: the metric's
        own, the patched ones, or behind a hop all later ones."""
        asked = mask_of(self.prompts, self.positions)
        where = self.reach.differs if asked is None else self.reach.differs & asked[:, : self.reach.width]
        one_hop = all(len(path.steps) == 1 for path in self.paths)
        if one_hop and all(LOGITS in path.steps[0] for path in self.paths):  # the logits read one position
            read = self.metric.positions[:, None]
            return where & (torch.arange(where.shape[1]) == read), read
        counts = where.sum(1)
        if one_hop and int(counts.min()) == int(counts.max()) > 0:
            return where, where.nonzero()[:, 1].view(len(counts), -1)
        first = int(where.any(0).long().argmax()) if where.any() else self.reach.width - 1
        return where, torch.arange(first, self.reach.width).expand(len(counts), -1)


def _require_readers(model: TraceModel, ports: Sequence[Port], convention: str) -> None:
    """MLPs that are frozen and no receivers are not read through: a mixture of experts may stand there."""
    frozen = convention == "all_frozen" and not any(isinstance(port.node, Mlp) for port in ports)
    require_additive(model, "Path patching", reads=("attention",) if frozen else ("attention", "mlp"))


def _checked(convention: str, known: Sequence[str], model: TraceModel) -> Architecture:
    require_one_of("convention", known, convention)
    return describe(model)


def _ports(receivers: Sequence[Port | str], arch: Architecture) -> tuple[Port, ...]:
    ports = tuple(dict.fromkeys(parse_port(port) if isinstance(port, str) else port for port in receivers))
    if not ports:
        raise InputError("Expected a list of receivers, got none; leave it out for the logits.")
    for port in ports:
        arch.require_port(port)
    return ports


def _require_heard(senders: Sequence[Sender], ports: Sequence[Port], arch: Architecture) -> None:
    """Refuse senders behind every receiver: what comes back would be rounding."""
    if unheard := [sender for sender in senders if not any(arch.reads(port, sender) for port in ports)]:
        read = f"{ports[0]} reads" if len(ports) == 1 else f"{', '.join(map(str, ports[:3]))} read"
        raise InputError(
            f"Expected senders that some receiver comes after, got {unheard[0]}: no path leads from it to what "
            f"{read}; name receivers of later layers, or 'logits'."
        )


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
        senders = [node for port in step for node in port.node.feeds(arch.group)]
    return path


def _options(convention: str, at: Sequence[Position], direction: str) -> dict[str, Any]:
    return {"convention": convention, "direction": direction, **({"positions": "+".join(map(str, at))} if at else {})}


def _mlp_share(arch: Architecture) -> float:
    """Of a layer's multiplications."""
    mlp = (3 if arch.gated else 2) * arch.d_mlp
    return mlp / (mlp + 2 * (arch.n_heads + arch.n_kv_heads) * arch.d_head)
