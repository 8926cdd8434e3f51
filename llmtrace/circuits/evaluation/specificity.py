"""Is it the circuit of this task: remove task A's circuit from the model, and measure task B.

    specificity of A over B = change of B's metric without A's circuit, as a share of what removing everything changes

1 for its own task, and 0 for the others, says that the circuit is A's and nobody else's. Cost: three circuit runs per
task. Known failure: parts that every task needs (the input's first layers) are in every circuit.

    >>> tasks = {"ioi": prompts, "greater_than": lt.prompts.greater_than(model, 4)}
    >>> circuits = {name: lt.circuits.discover(model, p, n_edges=100) for name, p in tasks.items()}
    >>> lt.circuits.specificity(model, tasks, circuits)
    Specificity(2 circuits x 2 tasks; own task: ioi 1.00, greater_than 1.00)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from llmtrace.circuits.circuit import Circuit
from llmtrace.circuits.evaluation.faithfulness_ratio import ratio_of_means, require_scale
from llmtrace.circuits.running.background import Ablation
from llmtrace.circuits.running.run_circuit import run_circuits
from llmtrace.errors import InputError, MismatchError
from llmtrace.models import TraceModel
from llmtrace.prompts import PromptSet, metric_of

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class Specificity:
    """`loss[a, b]`: the share of task b's behaviour that goes with task a's circuit."""

    circuits: tuple[str, ...]
    tasks: tuple[str, ...]
    loss: Float[Tensor, "circuit task"]

    def df(self) -> pd.DataFrame:
        """A row per circuit, a column per task."""
        import pandas as pd

        return pd.DataFrame(self.loss.tolist(), index=list(self.circuits), columns=list(self.tasks))

    def __repr__(self) -> str:
        shared = [name for name in self.circuits if name in self.tasks]
        own = ", ".join(f"{name} {self.loss[self.circuits.index(name), self.tasks.index(name)]:.2f}" for name in shared)
        return f"Specificity({len(self.circuits)} circuits x {len(self.tasks)} tasks; own task: {own or 'none'})"


def specificity(
    model: TraceModel,
    tasks: Mapping[str, PromptSet],
    circuits: Mapping[str, Circuit],
    *,
    ablation: Ablation = "resample",
) -> Specificity:
    """Remove each circuit's edges, measure each task by its own metric."""
    if not circuits or not tasks:
        raise InputError("Expected circuits and tasks by name, got none; write {'ioi': circuit}, {'ioi': prompts}.")
    graphs = {circuit.graph for circuit in circuits.values()}
    if len(graphs) > 1:
        raise MismatchError("Expected circuits of one graph; compare like with like.")
    full = Circuit.full(graphs.pop())
    runs = [full, Circuit.empty(full.graph), *(full - circuit for circuit in circuits.values())]
    columns = []
    for prompts in tasks.values():
        metric = metric_of(model, prompts, None)
        values = run_circuits(model, prompts, runs, ablation=ablation, metric=metric)
        require_scale(values[0], values[1], metric)
        columns.append(1 - ratio_of_means(values[2:], values[1], values[0]))
    return Specificity(tuple(circuits), tuple(tasks), torch.stack(columns, 1))
