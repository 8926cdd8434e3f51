"""The engine under every intervention: declare variants, plan them, run them.

Each variant is a set of `Change`s made together in a run of its own; the full, unoptimised run is its slow twin. What
makes it fast changes no number:

    restart     from the kept residual stream, at the first changed layer
    skip        positions before the first changed one: there keys and values are those of the kept run; what cannot
                have an effect is not run at all (`reach.py`)
    stack       variants that restart at the same layer, as many as fit the memory
    read        only the logits that the metric reads

Cost: one pass for the kept run, one for the other run, one where a mean is taken, and then, for each variant, its share
of layers and positions. `Plan.passes` says it beforehand, in full passes over the prompts without unembedding.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from llmtrace.interventions.checkpoint import Partial, partial_results
from llmtrace.interventions.chunks import Chunk, chunks_of
from llmtrace.interventions.direct import direct_metrics
from llmtrace.interventions.edges import LiveEdges
from llmtrace.interventions.hooks import apply, hooks_of, name_of
from llmtrace.interventions.kept import Runs, keep_base, keep_sites, keeper
from llmtrace.interventions.means import MeanTable, mean_tables
from llmtrace.interventions.ports import inlets, port_site
from llmtrace.interventions.reach import Reach
from llmtrace.interventions.values import Change, EdgeChange, FromOther, Mean, Variant
from llmtrace.metrics import Metric
from llmtrace.models import (
    Architecture,
    TraceModel,
    can_skip_positions,
    describe,
    is_bridge,
    provenance,
    require_live,
)
from llmtrace.models.budget import Memory, at_once, budget, bytes_per_position, kept_bytes, size, stack_room
from llmtrace.nodes import Site
from llmtrace.progress import track
from llmtrace.prompts import PromptSet
from llmtrace.shapes import Tokens
from llmtrace.signals.sites import numbers_per_position

ENOUGH = 512  # token rows: below that a shorter pass is hardly faster


@dataclass(frozen=True)
class Plan:
    """What a sweep will cost.

    without_effect   interventions that cannot have one (see `reach.py`): they are not run
    passes           full forward passes over the prompts, kept runs included
    bytes            at the peak, beside the weights (estimated)
    """

    interventions: int
    without_effect: int
    passes: float
    bytes: int
    prompts_at_once: int

    def __str__(self) -> str:
        idle = f" ({self.without_effect} cannot have an effect and are not run)" if self.without_effect else ""
        return (
            f"{self.interventions} interventions{idle}: {self.passes:.1f} forward passes, "
            f"{self.prompts_at_once} prompts at once, about {size(self.bytes)} beside the weights"
        )


@dataclass(frozen=True, eq=False)
class Outcome:
    """The metric of every variant, per prompt, beside that of the base run and of the other run; and of every variant's
    direct effect alone, where that was asked."""

    before: Float[Tensor, " batch"]
    after: Float[Tensor, "variant batch"]
    other: Float[Tensor, " batch"] | None
    direct: Float[Tensor, "variant batch"] | None


@dataclass(frozen=True, eq=False)
class Sweep:
    """Variants on one set of prompts, ready to be planned or run.

    base, other    the tokens of the run that is changed, and of the run that `FromOther` takes its values from
    base_changes   made in the base run itself (noise, for causal tracing)
    direct         measure the direct effects too (`direct.py`); every change must be of something that is written
    """

    model: TraceModel
    prompts: PromptSet
    metric: Metric
    variants: Sequence[Variant]
    base: Tokens
    other: Tokens | None = None
    base_changes: Variant = ()
    direct: bool = False
    runs: Runs | None = None  # the kept runs, where somebody has them already
    memory: Memory = "auto"
    label: str = "intervening"  # of the progress bar; none where the sweep is a step of something longer

    @property
    def plan(self) -> Plan:
        """What a run will cost. Runs nothing."""
        n_layers, width, chunks = self._arch.n_layers, self._reach.width, self._chunks
        work = sum(len(c.variants) * (n_layers - c.layer) * (width - c.first) for c in chunks)
        means = {change.new for change in self._writers if isinstance(change.new, Mean)}
        widest = max((len(chunk.variants) * (width - chunk.first) for chunk in chunks), default=width)
        return Plan(
            interventions=len(self.variants),
            without_effect=len(self.variants) - sum(len(chunk.variants) for chunk in chunks),
            passes=(self.runs is None) * (1 + (self.other is not None))
            + len(means)
            + work / (n_layers * self.base.shape[1]),
            bytes=self._prompts_at_once * (self._kept_bytes + widest * self._position_bytes),
            prompts_at_once=self._prompts_at_once,
        )

    @torch.no_grad()
    def run(self, *, resume: str | Path | None = None) -> Outcome:
        """Run all variants. `resume`: a file for partial results, taken up where it is there, deleted when all is done.

        Raises LimitError where the memory allowed does not hold one prompt.
        """
        require_live(self.model, self._changed)
        means = mean_tables(self.model, self.prompts, self._writers, self._prompts_at_once)
        width = torch.promote_types(self.model.W_E.dtype, torch.float32)  # metrics of half precision are float32
        before = torch.empty(len(self.base), dtype=width)
        after = before.new_empty(len(self.variants), len(before))
        out = Outcome(
            before=before,
            after=after,
            other=None if self.other is None else torch.empty_like(before),
            direct=torch.empty_like(after) if self.direct else None,
        )
        with partial_results(resume, self.about, after) as partial:
            batches = self.prompts.batches(self._prompts_at_once)
            steps = self._steps(batches, means, partial, out)
            shown = track(steps, self.label, total=len(batches) * len(self._chunks)) if self.label else steps
            for _ in shown:
                pass
            return replace(out, after=partial.values)

    def _steps(self, batches: Sequence[slice], means: Means, partial: Partial, out: Outcome) -> Iterator[None]:
        """One step per batch of prompts and chunk."""
        idle = sorted({*range(len(self.variants))}.difference(*(chunk.variants for chunk in self._chunks)))
        for rows in batches:
            kept = self._keep(rows)
            out.before[rows] = kept.before
            if out.other is not None:
                out.other[rows] = kept.whole
            if out.direct is not None:
                out.direct[:, rows] = self._direct(rows, kept, means)
            partial.put(idle, rows, kept.before.expand(len(idle), -1))
            for chunk in self._chunks:
                if not partial.has(chunk.variants, rows):
                    partial.put(chunk.variants, rows, self._run(chunk, rows, kept, means))
                yield

    def _keep(self, rows: slice) -> Runs:
        """The runs of some prompts that variants restart from and take over."""
        if self.runs is not None:
            return self.runs
        metric, width = self.metric[rows], self._reach.width
        changes = [change.of(rows, width) for change in self.base_changes if isinstance(change, Change)]
        old: dict[str, Tensor] = {}
        hooks = [*hooks_of([changes], len(metric)), *(keeper(name, old) for name in self._compared)]
        base = keep_base(self.model, self.base[rows, :width], hooks)
        before = metric.of_residual(self.model, metric.here(base.resid[-1])).cpu()
        if self.other is None:
            return Runs(base, old, {}, before, before)
        sites = keep_sites(self.model, self.other[rows, :width], self._taken)
        return Runs(base, old, sites, before, metric.of_residual(self.model, metric.here(sites[self._end])).cpu())

    def _direct(self, rows: slice, kept: Runs, means: Means) -> Float[Tensor, "variant batch"]:
        variants = [[self._on(c, rows, means) for c in variant if isinstance(c, Change)] for variant in self._variants]
        return direct_metrics(self.model, self.metric[rows], variants, kept.old, kept.base.resid[-1], kept.sites)

    def _run(self, chunk: Chunk, rows: slice, kept: Runs, means: Means) -> Float[Tensor, "some batch"]:
        """The metric of a chunk's variants on some prompts."""
        metric, batch = self.metric[rows], _length(rows, self.base)
        nodes = [[self._on(c, rows, means) for c in self._variants[i] if isinstance(c, Change)] for i in chunk.variants]
        edges = [
            [self._edge(c, rows, means) for c in self._variants[i] if isinstance(c, EdgeChange)] for i in chunk.variants
        ]
        inside = [[change for change in variant if change.site.layer < self._arch.n_layers] for variant in nodes]
        live = LiveEdges(
            self.model, edges, batch, layer=chunk.layer, first=chunk.first, old=kept.old, other=kept.sites
        )  # fmt: skip
        hooks = [*hooks_of(inside, batch, first=chunk.first, other=kept.sites), *live.hooks]
        stacked = kept.base.restart(self.model, chunk.layer, hooks, first=chunk.first, times=len(nodes))
        final = stacked.unflatten(0, (len(nodes), batch))
        live.add_at_logits(final)
        for stream, variant in zip(final, nodes, strict=True):
            for change in variant:
                if change.site.layer == self._arch.n_layers:
                    apply(change, stream, kept.sites.get(self._end), chunk.first)
        values = metric.of_residual(self.model, metric.here(final, first=chunk.first)).cpu()
        touched = torch.stack([self._reach.touched(self._variants[i])[rows] for i in chunk.variants])
        return values.where(touched, kept.before)

    def _on(self, change: Change, rows: slice, means: Means) -> Change:
        """A change on some prompts, at those of its places where it can have an effect."""
        where = None if change.where is None else self._reach.places(change)
        cut = replace(change, where=where).of(rows, self._reach.width)
        if isinstance(change.new, Mean):
            return replace(cut, new=means[name_of(change.site), change.new].value(change, rows, self._reach.width))
        return cut

    def _edge(self, change: EdgeChange, rows: slice, means: Means) -> EdgeChange:
        return replace(change, writer=self._on(change.writer, rows, means))

    # what is run -----------------------------------------------------------------------------------------------------

    @cached_property
    def _arch(self) -> Architecture:
        return describe(self.model)

    @cached_property
    def _reach(self) -> Reach:
        return Reach(self.base, self.other, self.metric.positions, self._arch.causal, bool(self.base_changes))

    @cached_property
    def _variants(self) -> list[list[Change | EdgeChange]]:
        """What leaves a layer enters the next one: no layer needs to be run for it."""
        return [[_entering(change) for change in variant] for variant in self.variants]

    @cached_property
    def _writers(self) -> list[Change]:
        return [c.writer if isinstance(c, EdgeChange) else c for variant in self._variants for c in variant]

    def _site(self, change: Change | EdgeChange) -> Site:
        """The activation that is overwritten."""
        return port_site(change.port, self._arch.n_layers) if isinstance(change, EdgeChange) else change.site

    @cached_property
    def _chunks(self) -> tuple[Chunk, ...]:
        whole_layers, all_positions = is_bridge(self.model), not can_skip_positions(self.model)
        starts = [
            (
                index,
                0 if whole_layers else min(self._site(change).layer for change in variant),
                0 if all_positions else self._reach.first(variant),
            )
            for index, variant in enumerate(self._variants)
            if self._reach.touched(variant).any()
        ]
        kept = self._prompts_at_once * self._kept_bytes
        room = stack_room(self._room, kept, self.memory, self.model.W_E.device)
        tokens = [self._prompts_at_once * (self._reach.width - first) for first in range(self._reach.width)]
        stack = [max(1, room // max(1, n * self._position_bytes)) for n in tokens]
        return chunks_of(starts, stack, [ENOUGH // n for n in tokens])

    @cached_property
    def _taken(self) -> tuple[str, ...]:
        """Activations that are taken from the other run."""
        return tuple(dict.fromkeys(name_of(c.site) for c in self._writers if isinstance(c.new, FromOther)))

    @cached_property
    def _changed(self) -> tuple[str, ...]:
        """Activations that are overwritten on the way."""
        names: dict[str, None] = {}
        for change in (change for variant in self._variants for change in variant):
            if self._site(change).layer == self._arch.n_layers:
                continue
            if isinstance(change, EdgeChange):
                names |= dict.fromkeys(inlet.name for inlet in inlets(self.model, change.port))
            else:
                names[name_of(change.site)] = None
        return tuple(names)

    @cached_property
    def _compared(self) -> tuple[str, ...]:
        """Activations of the base run that changes are measured against."""
        if self.direct:
            return tuple(dict.fromkeys(name_of(change.site) for change in self._writers))
        edges = (c for variant in self._variants for c in variant if isinstance(c, EdgeChange))
        return tuple(dict.fromkeys(name_of(edge.writer.site) for edge in edges))

    @cached_property
    def _end(self) -> str:
        """The name of the final residual stream."""
        return name_of(Site("resid_pre", self._arch.n_layers))

    @property
    def about(self) -> tuple[object, ...]:
        """What is run on what: partial results belong to it."""
        parts = self.metric, self.variants, self.base, self.other, self.base_changes, self.prompts.groups
        return provenance(self.model).weights, *parts

    # how much fits ---------------------------------------------------------------------------------------------------

    @cached_property
    def _room(self) -> int:
        return budget(self.memory, self.model.W_E.device)

    @cached_property
    def _position_bytes(self) -> int:
        itemsize = self.model.W_E.element_size()
        logits = 0 if self.metric.tokens is not None else 2 * self._arch.d_vocab * itemsize // self._reach.width
        return bytes_per_position(self._arch, self._reach.width, itemsize) + logits

    @cached_property
    def _kept_bytes(self) -> int:
        """Of one prompt's two kept runs."""
        width, itemsize = self._reach.width, self.model.W_E.element_size()
        taken = sum(numbers_per_position(name, self._arch, width) for name in (*self._taken, *self._compared))
        return kept_bytes(self._arch, width, itemsize) + width * itemsize * taken

    @cached_property
    def _prompts_at_once(self) -> int:
        if self.runs is not None:
            return len(self.base)
        each = self._kept_bytes + self._reach.width * self._position_bytes
        return at_once(self._room, each, len(self.base), "one prompt", asked=self.memory)


Means = Mapping[tuple[str, Mean], MeanTable]


def _entering(change: Change | EdgeChange) -> Change | EdgeChange:
    if isinstance(change, EdgeChange) or change.site.kind != "resid_post":
        return change
    return replace(change, site=replace(change.site, kind="resid_pre", place=change.site.layer + 1))


def _length(rows: slice, tokens: Tokens) -> int:
    return len(range(*rows.indices(len(tokens))))
