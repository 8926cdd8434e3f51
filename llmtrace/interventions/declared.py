"""`Declared`: interventions that are said and not yet made. What they will cost can be read, then they are run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmtrace.interventions.effects import Effects
from llmtrace.interventions.engine import Outcome, Plan, Sweep
from llmtrace.interventions.places import token_names
from llmtrace.models import describe, provenance, token_labels
from llmtrace.nodes import Place, Site


@dataclass(frozen=True, eq=False)
class Declared:
    """`nodes[i]` says in the field's names what `sweep.variants[i]` changes."""

    sweep: Sweep
    nodes: tuple[tuple[Place, ...], ...]
    method: str
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def plan(self) -> Plan:
        """Passes and memory, without running anything."""
        return self.sweep.plan

    def run(self, resume: str | Path | None = None) -> Effects:
        """The effects. `resume`: a file for partial results, taken up where it is there, deleted when all is done."""
        return self.effects(self.sweep.run(resume=resume))

    def effects(self, outcome: Outcome) -> Effects:
        """An outcome of the sweep, with the names of what was changed."""
        sweep = self.sweep
        sites = [place for together in self.nodes for place in together if isinstance(place, Site)]
        positions = dict.fromkeys(position for site in sites for position in (*site.at, *site.keys))
        return Effects(
            nodes=self.nodes,
            before=outcome.before,
            after=outcome.after,
            other=outcome.other,
            method=self.method,
            metric=sweep.metric.name,
            provenance=provenance(sweep.model).as_dict(),
            passes=self.plan.passes,
            options={**self.options, "seed": sweep.prompts.seed},
            direct=outcome.direct,
            group=describe(sweep.model).group,
            tokens=token_names(sweep.prompts, token_labels(sweep.model, sweep.prompts.clean), positions),
        )
