"""Heads, MLPs and neurons taken out of a run: ablation of any set of them, everything downstream free to react.

    resample | zero | mean   as `interventions.ablate`

Cost: as `ablate`, a restarted pass for each set. Known failure: backup heads hide what is missing, and a set may do
what no member does alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from llmtrace.errors import require_one_of
from llmtrace.interventions import ablate
from llmtrace.interventions.engine.changes import Change
from llmtrace.interventions.engine.sweep import Sweep
from llmtrace.metrics import Metric
from llmtrace.models import TraceModel
from llmtrace.models.memory import Memory
from llmtrace.nodes import Node
from llmtrace.prompts import PromptSet
from llmtrace.validation.checks.removal import Removal, require_two
from llmtrace.validation.rows import node_ablations


class NodeRemoval(Removal):
    """The same nodes in every prompt."""

    def __init__(
        self,
        model: TraceModel,
        prompts: PromptSet,
        metric: Metric,
        nodes: Sequence[Node],
        *,
        ablation: str = "resample",
        memory: Memory = "auto",
    ) -> None:
        require_one_of("ablation of nodes", node_ablations(), ablation)
        self.ablation, self.nodes = ablation, tuple(nodes)
        self.there = torch.ones(len(prompts), len(nodes), dtype=torch.bool)
        require_two(self.there, "heads, MLPs or neurons")
        self.names = (tuple(node.label for node in nodes),) * len(prompts)
        declared = ablate.declare(model, prompts, self.nodes, ablation=ablation, metric=metric, memory=memory)
        assert isinstance(declared, Sweep)
        self._sweep = replace(declared, direct=False, label="removing")

    @property
    def method(self) -> str:
        return f"{self.ablation} ablation"

    def without(self, sets: Bool[Tensor, "variant batch unit"]) -> Float[Tensor, "variant batch"]:
        """A change of a set holds in those prompts whose set has the node. An empty set is the base run."""
        changes = [change for (change,) in self._sweep.variants]
        width = self._sweep.base.shape[1]
        variants = []
        for of_variant in sets:
            members = of_variant.any(0).nonzero()[:, 0].tolist()
            where = {unit: of_variant[:, unit, None].expand(-1, width) for unit in members}
            variants.append([_within(changes[unit], where[unit]) for unit in members])
        some = [index for index, variant in enumerate(variants) if variant] or [0]
        sweep = replace(self._sweep, variants=[variants[index] for index in some if variants[index]])
        if not sweep.variants:  # nothing but the base run is asked: any one change is run beside it
            sweep = replace(sweep, variants=self._sweep.variants[:1])
        outcome = sweep.outcome()
        self.passes += sweep.plan.passes
        values = outcome.before.expand(len(sets), -1).clone()
        for index, after in zip(some, outcome.after, strict=True):
            if variants[index]:
                values[index] = after
        return values


def _within(change: Any, where: Bool[Tensor, "batch pos"]) -> Change:
    assert isinstance(change, Change), "nodes are whole"
    return replace(change, where=where if change.where is None else where & change.where)
