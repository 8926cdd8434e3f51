"""Variants of a run: each is a set of `Change`s made together in a run of its own; a full run is its slow twin.

Cost: one pass for the kept run, one for the other run, one where a mean is taken, and then, for each variant, its share
of layers and positions. `lt.plan` says it beforehand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from llmtrace.interventions.engine.base_run import Runs
from llmtrace.interventions.engine.changes import Add, Change, EdgeChange, FromOther, Mean, Value, Variant
from llmtrace.interventions.engine.direct_effect import direct_metrics
from llmtrace.interventions.engine.hooks import name_of, part_numbers
from llmtrace.interventions.engine.intervention import Intervention, Needs, Outcome
from llmtrace.interventions.engine.means import MeanTable, mean_tables
from llmtrace.interventions.engine.ports import inlets, port_site
from llmtrace.interventions.engine.shared_passes import Chunk, Start
from llmtrace.models import can_skip_positions, is_bridge
from llmtrace.models.hook_names import numbers_per_position


@dataclass(frozen=True, eq=False, kw_only=True)
class Sweep(Intervention):
    """`direct`: every change must be of something that is written."""

    variants: Sequence[Variant]

    @torch.no_grad()
    def outcome(self) -> Outcome:
        assert self._means is not None  # taken before anything else is kept
        return super().outcome()

    def values(self, chunk: Chunk, rows: slice, kept: Runs) -> Float[Tensor, "some batch"]:
        chosen = [self._variants[i] for i in chunk.variants]
        nodes = [[self._on(change, rows) for change in variant if isinstance(change, Change)] for variant in chosen]
        edges = [
            [
                replace(change, writer=self._on(change.writer, rows))
                for change in variant
                if isinstance(change, EdgeChange)
            ]
            for variant in chosen
        ]
        touched = torch.stack([self.reach.touched(variant)[rows] for variant in chosen])
        return self.restarted(chunk, rows, kept, nodes, edges).where(touched, kept.before)

    def direct_values(self, rows: slice, kept: Runs) -> Float[Tensor, "variant batch"]:
        variants = [[self._on(c, rows) for c in variant if isinstance(c, Change)] for variant in self._variants]
        return direct_metrics(self.model, self.metric[rows], variants, kept.old, kept.base.final, kept.sites)

    def _on(self, change: Change, rows: slice) -> Change:
        """A change on some prompts, at those of its places where it can have an effect."""
        where = None if change.where is None else self.reach.places(change)
        cut = replace(change, where=where).of(rows, self.reach.width)
        if isinstance(change.new, Mean):
            mean = self._means[name_of(change.site), change.new]
            return replace(cut, new=mean.value(change, rows, self.reach.width))
        return cut

    # what is run -----------------------------------------------------------------------------------------------------

    @cached_property
    def needs(self) -> Needs:
        n_layers, bridge, skip = self.arch.n_layers, is_bridge(self.model), can_skip_positions(self.model)
        starts: list[Start] = []
        changed: dict[str, None] = {}
        compared: dict[str, None] = {}
        for index, variant in enumerate(self._variants):
            sites = [port_site(c.port, n_layers) if isinstance(c, EdgeChange) else c.site for c in variant]
            for change, site in zip(variant, sites, strict=True):
                if isinstance(change, EdgeChange):
                    compared[name_of(change.writer.site)] = None
                if site.layer == n_layers:
                    continue
                inside = inlets(self.model, change.port) if isinstance(change, EdgeChange) else ()
                changed |= dict.fromkeys(inlet.name for inlet in inside) or {name_of(site): None}
            if self.reach.touched(variant).any():
                first = self.reach.first(variant) if skip else 0
                starts.append((index, 0 if bridge else min(site.layer for site in sites), first))
        if self.direct:
            compared |= {name_of(change.site): None for change in self._writers}
        return Needs(
            asked=[(variant, self.prompts.groups) for variant in self.variants],
            starts=starts,
            changed=changed,
            compared=compared,
            taken=dict.fromkeys(name_of(c.site) for c in self._writers if isinstance(c.new, FromOther)),
            slots=None,
            layers={layer for _, layer, _ in starts} - {n_layers},
            past=any(first and layer < n_layers for _, layer, first in starts),
            passes=float(len({change.new for change in self._writers if isinstance(change.new, Mean)})),
            beside=max(map(self._given, self._variants), default=0),
            tables=self._table_numbers,
            averaged={name_of(change.site) for change in self._writers if isinstance(change.new, Mean)},
        )

    def _given(self, variant: Sequence[Change | EdgeChange]) -> int:
        """Numbers of the new values that a variant is given, for one prompt."""
        changes = [change.writer if isinstance(change, EdgeChange) else change for change in variant]
        values = [change.site for change in changes if isinstance(change.new, Mean | Value)]
        return self.reach.width * sum(part_numbers(site, self.arch, self.reach.width) for site in values)

    @property
    def _table_numbers(self) -> int:
        """Of means and of noise."""
        means = {(name_of(c.site), c.new): c.new for c in self._writers if isinstance(c.new, Mean)}
        tables = sum(
            numbers_per_position(name, self.arch, 0)
            * (len(mean.reference_for(self.prompts).group_names) if mean.over == "group" else 1)
            * (1 if mean.over == "global" else mean.reference_for(self.prompts).clean.shape[1])
            for (name, _), mean in means.items()
        )
        noise = sum(change.new.vector.numel() for change in self.base_changes if isinstance(change.new, Add))
        return tables + 2 * noise  # in float64

    @cached_property
    def _variants(self) -> list[list[Change | EdgeChange]]:
        """What leaves a layer enters the next one: no layer needs to be run for it."""
        return [[_entering(change) for change in variant] for variant in self.variants]

    @cached_property
    def _writers(self) -> list[Change]:
        return [c.writer if isinstance(c, EdgeChange) else c for variant in self._variants for c in variant]

    @cached_property
    def _means(self) -> Mapping[tuple[str, Mean], MeanTable]:
        return mean_tables(self.model, self.prompts, self._writers, self.shares.prompts_at_once)


def _entering(change: Change | EdgeChange) -> Change | EdgeChange:
    if isinstance(change, EdgeChange) or change.site.kind != "resid_post":
        return change
    return replace(change, site=replace(change.site, kind="resid_pre", place=change.site.layer + 1))
