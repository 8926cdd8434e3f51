"""The one engine under every intervention: one description, one plan, one runner, one result.

A description is a subclass of `Intervention`: variants of a run (`sweep.py`), or paths in a run held fixed
(`path_patching.py`). It says what its variants need (`Needs`) and what some of them give on some prompts. All else is
here: how many prompts and variants go at once, the kept runs, partial results, the bar, `Effects`.

What makes it fast changes no number:

    restart     from the kept residual stream, at the first changed layer
    skip        positions before the first changed one: there keys and values are those of the kept run; what cannot
                have an effect is not run at all (`affected.py`)
    stack       variants that restart at the same layer, as many as fit the memory
    read        only the logits that the metric reads
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path as File
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from llmtrace.interventions.effects import Effects
from llmtrace.interventions.engine.affected import Reach
from llmtrace.interventions.engine.base_run import Runs, keep_base, keep_sites
from llmtrace.interventions.engine.changes import Change, EdgeChange
from llmtrace.interventions.engine.checkpoint import Partial, partial_results
from llmtrace.interventions.engine.hooks import LiveEdges, apply, hooks_of, keeper, name_of
from llmtrace.interventions.engine.places import token_names
from llmtrace.interventions.engine.shared_passes import Chunk, Shares, Start, share
from llmtrace.metrics import Metric
from llmtrace.models import (
    Architecture,
    ModelState,
    TraceModel,
    describe,
    looks_back_only,
    provenance,
    require_live,
    token_labels,
)
from llmtrace.models.hook_names import numbers_per_position, site_name
from llmtrace.models.memory import Memory, pass_numbers
from llmtrace.nodes import Place, Site
from llmtrace.plan import Declaration, Plan
from llmtrace.progress import track
from llmtrace.prompts import PromptSet
from llmtrace.shapes import Tokens


@dataclass(frozen=True)
class InterventionPlan(Plan):
    """What interventions will cost.

    without_effect   interventions that cannot have one (see `affected.py`): they are not run
    passes           full forward passes over the prompts without unembedding, kept runs included
    """

    interventions: int
    without_effect: int
    passes: float

    @property
    def work(self) -> str:
        idle = f" ({self.without_effect} cannot have an effect and are not run)" if self.without_effect else ""
        return f"{self.interventions} interventions{idle}: {self.passes:.1f} forward passes"


@dataclass(frozen=True, eq=False)
class Outcome:
    """The metric of every variant, per prompt, beside that of the base run and of the other run; and of every variant's
    direct effect alone, where that was asked."""

    before: Float[Tensor, " batch"]
    after: Float[Tensor, "variant batch"]
    other: Float[Tensor, " batch"] | None
    direct: Float[Tensor, "variant batch"] | None

    def mean(self, draws: int) -> Outcome:
        """Over so many draws, one after the other."""
        found = {name: values for name, values in vars(self).items() if values is not None}
        return replace(self, **{name: values.unflatten(-1, (draws, -1)).mean(-2) for name, values in found.items()})


@dataclass(frozen=True, eq=False)
class Needs:
    """What variants need, to be run.

    asked      what decides the numbers of each variant, beside model, prompts and metric
    starts     of those that can have an effect: the variant, its first layer, its first position
    changed    activations that are overwritten on the way
    compared   activations that are kept of the base run
    taken      activations that are kept of the other run
    slots      the positions at which these are kept (None: all)
    layers     the layers whose residual streams are kept, to restart from
    past       whether keys and values are kept too
    passes     full passes over the prompts, beside kept runs and restarts
    held       numbers of one variant on one prompt, before its pass
    block      numbers for each prompt, while variants are held
    beside     numbers of one variant on one prompt, beside its pass
    tables     numbers for all prompts together, beside all else
    averaged   activations of which means are taken first
    """

    asked: Sequence[object]
    starts: Sequence[Start]
    changed: Collection[str]
    compared: Collection[str]
    taken: Collection[str]
    slots: Int[Tensor, "batch slot"] | None
    layers: Collection[int]
    past: bool
    passes: float
    held: int = 0
    block: int = 0
    beside: int = 0
    tables: int = 0
    averaged: Collection[str] = ()


@dataclass(frozen=True, eq=False, kw_only=True)
class Intervention(Declaration[Effects]):
    """Variants on one set of prompts, ready to be planned or run.

    base, other    the tokens of the run that is changed, and of the run that values are taken from
    base_changes   made in the base run itself (noise, for causal tracing)
    nodes          what each variant changes, in the field's names
    draws          the prompts are the same ones so many times, one draw of noise after the other; effects are means
    direct         measure the direct effects too (`direct_effect.py`)
    resume         a file for partial results, taken up where it is there, deleted when all is done
    label          of the progress bar; none where this is a step of something longer
    """

    model: TraceModel
    prompts: PromptSet
    metric: Metric
    base: Tokens
    other: Tokens | None = None
    base_changes: Sequence[Change] = ()
    nodes: tuple[tuple[Place, ...], ...] = ()
    method: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    draws: int = 1
    direct: bool = False
    memory: Memory = "auto"
    resume: str | File | None = None
    label: str = "intervening"

    @property
    @abstractmethod
    def needs(self) -> Needs: ...

    @abstractmethod
    def values(self, chunk: Chunk, rows: slice, kept: Runs) -> Float[Tensor, "some batch"]:
        """The metric of a chunk's variants on some prompts."""

    def direct_values(self, rows: slice, kept: Runs) -> Float[Tensor, "variant batch"]:
        raise AssertionError("no direct effects here")

    @property
    def plan(self) -> InterventionPlan:
        n_layers, width, chunks = self.arch.n_layers, self.reach.width, self.shares.chunks
        work = sum(len(chunk.variants) * (n_layers - chunk.layer) * (width - chunk.first) for chunk in chunks)
        restarts = work / (n_layers * self.base.shape[1])
        return InterventionPlan(
            interventions=len(self.needs.asked),
            without_effect=len(self.needs.asked) - len(self.needs.starts),
            passes=self.draws * (1 + (self.other is not None) + self.needs.passes + restarts),
            bytes=self.shares.bytes,
            prompts_at_once=self.shares.prompts_at_once,
        )

    def run(self) -> Effects:
        found = self.outcome()
        sites = [place for together in self.nodes for place in together if isinstance(place, Site)]
        positions = dict.fromkeys(position for site in sites for position in (*site.at, *site.keys))
        labels = token_labels(self.model, self.prompts.clean) if positions else []
        return Effects(
            nodes=self.nodes,
            before=found.before,
            after=found.after,
            other=found.other,
            method=self.method,
            metric=self.metric.name,
            provenance=provenance(self.model).as_dict(),
            passes=self.plan.passes,
            options={**self.options, "seed": self.prompts.seed},
            direct=found.direct,
            group=self.arch.group,
            tokens=token_names(self.prompts, labels, positions) if positions else {},
        )

    @torch.no_grad()
    def outcome(self) -> Outcome:
        """Run all variants. Raises LimitError where the memory allowed does not hold one prompt."""
        require_live(self.model, self.needs.changed)
        width = torch.promote_types(self.model.W_E.dtype, torch.float32)  # metrics of half precision are float32
        before = torch.empty(len(self.base), dtype=width)
        after = before.new_empty(len(self.needs.asked), len(before))
        other = None if self.other is None else torch.empty_like(before)
        direct = torch.empty_like(after) if self.direct else None
        with partial_results(self.resume, self._about, after) as partial:
            out = Outcome(before, partial.values, other, direct)
            batches = self.prompts.batches(self.shares.prompts_at_once)
            steps, total = self._steps(batches, partial, out), len(batches) * len(self.shares.chunks)
            for _ in track(steps, self.label, total=total) if self.label else steps:
                pass
            return out if self.draws == 1 else out.mean(self.draws)

    def _about(self) -> object:
        """All that decides the numbers."""
        return ModelState.of(self.model), self.metric, self.base, self.other, self.base_changes, self.needs.asked

    def _steps(self, batches: Sequence[slice], partial: Partial, out: Outcome) -> Iterator[None]:
        """One step per batch of prompts and chunk."""
        idle = sorted({*range(len(out.after))} - {variant for variant, *_ in self.needs.starts})
        for rows in batches:
            kept = self._keep(rows)
            out.before[rows] = kept.before
            if out.other is not None:
                out.other[rows] = kept.whole
            if out.direct is not None:
                out.direct[:, rows] = self.direct_values(rows, kept)
            partial.put(idle, rows, kept.before.expand(len(idle), -1))
            for chunk in self.shares.chunks:
                if not partial.has(chunk.variants, rows):
                    partial.put(chunk.variants, rows, self.values(chunk, rows, kept))
                yield

    def _keep(self, rows: slice) -> Runs:
        """The runs of some prompts that variants restart from and take over."""
        metric, width, needs, old = self.metric[rows], self.reach.width, self.needs, dict[str, Tensor]()
        changes = [change.of(rows, width) for change in self.base_changes]
        slots = None if needs.slots is None else needs.slots[rows]
        noise = hooks_of([changes], len(metric)) if changes else []
        hooks = [*noise, *(keeper(name, old, slots) for name in needs.compared)]
        base = keep_base(self.model, self.base[rows, :width], hooks, layers=needs.layers, past=needs.past)
        before = metric.of_residual(self.model, metric.here(base.final)).cpu()
        if self.other is None:
            return Runs(base, old, {}, before, before)
        sites = keep_sites(self.model, self.other[rows, :width], needs.taken, at=slots)
        end = site_name("resid_pre", self.arch.n_layers)
        return Runs(base, old, sites, before, metric.of_residual(self.model, metric.here(sites[end])).cpu())

    def restarted(
        self,
        chunk: Chunk,
        rows: slice,
        kept: Runs,
        nodes: Sequence[Sequence[Change]],
        edges: Sequence[Sequence[EdgeChange]] = (),
    ) -> Float[Tensor, "some batch"]:
        """The metric of variants that restart together: changes of whole activations, and of single edges."""
        metric = self.metric[rows]
        batch, n_layers = len(metric), self.arch.n_layers
        inside = [[change for change in variant if change.site.layer < n_layers] for variant in nodes]
        live = LiveEdges(
            self.model, edges, batch, layer=chunk.layer, first=chunk.first, old=kept.old, other=kept.sites
        )  # fmt: skip
        hooks = [*hooks_of(inside, batch, first=chunk.first, other=kept.sites), *live.hooks]
        stacked = kept.base.restart(self.model, chunk.layer, hooks, first=chunk.first, times=len(nodes))
        final = stacked.unflatten(0, (len(nodes), batch))
        live.add_at_logits(final)
        for stream, variant in zip(final, nodes, strict=True):
            for change in variant:
                if change.site.layer == n_layers:
                    apply(change, stream, kept.sites.get(name_of(change.site)), chunk.first)
        return metric.of_residual(self.model, metric.here(final, first=chunk.first)).cpu()

    # where, and how much fits ----------------------------------------------------------------------------------------

    @cached_property
    def arch(self) -> Architecture:
        return describe(self.model)

    @cached_property
    def reach(self) -> Reach:
        return Reach(self.base, self.other, self.metric.positions, looks_back_only(self.model), bool(self.base_changes))

    @cached_property
    def shares(self) -> Shares:
        """Which prompts and variants go together, and what memory that takes."""
        arch, needs, width, itemsize = self.arch, self.needs, self.reach.width, self.model.W_E.element_size()

        def numbers(names: Iterable[str], positions: int) -> int:
            return positions * sum(numbers_per_position(name, arch, width) for name in names)

        logits = 0 if self.metric.tokens is not None else 3 * arch.d_vocab
        passes = [max(pass_numbers(arch, width - first, width), logits) for first in range(width)]
        restarted = any(layer < arch.n_layers for _, layer, _ in needs.starts)
        variant = [max(needs.held, logits, each * restarted + needs.beside) for each in passes]
        streams = width * arch.d_model * (len(needs.layers) + 1 + (self.other is not None))
        past = width * 2 * arch.n_kv_heads * arch.d_head * (arch.n_layers - min(needs.layers) if needs.past else 0)
        slots = width if needs.slots is None else needs.slots.shape[1]
        kept = needs.block + streams + past + numbers((*needs.taken, *needs.compared), slots)
        averaging = numbers(needs.averaged, width) + passes[0] - kept
        return share(
            needs.starts, len(self.base), kept=itemsize * kept, whole=itemsize * max(passes[0], averaging),
            variant=[itemsize * each for each in variant], tables=itemsize * needs.tables, memory=self.memory,
            device=self.model.W_E.device,
        )  # fmt: skip
