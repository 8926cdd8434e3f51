"""Is the circuit good: faithfulness, its uncertainty over prompts, and what random circuits of its size reach.

    f(C) = (m(C) - m(0)) / (m(M) - m(0))

m(M) is the clean run, m(0) the run with no edge, m(C) the circuit alone; the ratio is of means over prompts, and the
per-prompt ratios' median and quartiles stand beside it. f(full) = 1 and f(empty) = 0 (law 37).
Source: Wang et al. 2022; Hanna et al. 2024; MIB 2025. Cost: 3 + draws circuit runs.
Known failure: f over 1 is possible (a circuit without the parts that hold the model back), so f is no share.

    >>> circuit = lt.circuits.discover(model, prompts, n_edges=150)
    >>> lt.circuits.evaluate(model, lt.prompts.ioi(model, 4, seed=1), circuit)
    CircuitReport(150 of 1,519 edges: faithfulness 0.94 [0.77, 0.99], random -0.01; logit_diff, resample)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from llmtrace.circuits.circuit import Circuit
from llmtrace.circuits.evaluation.faithfulness_ratio import caveats_of, ratio_of_means, require_scale
from llmtrace.circuits.evaluation.random_circuits import random_circuits
from llmtrace.circuits.evaluation.thorough import Details, details_of
from llmtrace.circuits.running.background import Ablation, Background, ablation_name
from llmtrace.circuits.running.run_circuit import run_circuits
from llmtrace.errors import InputError
from llmtrace.interventions import Memory
from llmtrace.metrics import MetricLike
from llmtrace.models import TraceModel, provenance, taken_from
from llmtrace.prompts import PromptSet, metric_of
from llmtrace.results import Result
from llmtrace.statistics import bootstrap_samples, percentile_interval

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class CircuitReport(Result):
    """How well a circuit stands for its model on one prompt set."""

    circuit: Circuit
    alone: Float[Tensor, " batch"]  # m(C)
    model: Float[Tensor, " batch"]  # m(M)
    empty: Float[Tensor, " batch"]  # m(0)
    random: Float[Tensor, "draw batch"]
    metric: str
    ablation: str
    seed: int
    provenance: Mapping[str, Any]
    caveats: tuple[str, ...] = field(default=())
    details: Details | None = None

    @property
    def faithfulness(self) -> float:
        """Ratio of means."""
        return ratio_of_means(self.alone, self.empty, self.model).item()

    @property
    def per_prompt(self) -> Float[Tensor, " batch"]:
        return (self.alone - self.empty) / (self.model - self.empty)

    @property
    def quartiles(self) -> tuple[float, float, float]:
        """Of the per-prompt ratios: lower quartile, median, upper quartile."""
        ratios = self.per_prompt.double()  # of half precision there are no quantiles
        low, middle, high = torch.quantile(ratios, torch.tensor([0.25, 0.5, 0.75]).to(ratios)).tolist()
        return low, middle, high

    @property
    def random_faithfulness(self) -> Float[Tensor, " draw"]:
        """Of random circuits with as many edges."""
        return ratio_of_means(self.random, self.empty, self.model)

    def interval(self, *, level: float = 0.95) -> tuple[float, float]:
        """Bootstrap interval of the faithfulness over prompts."""
        samples = bootstrap_samples(len(self.alone), seed=self.seed)
        alone, empty, model = (t.cpu()[samples] for t in (self.alone, self.empty, self.model))
        low, high = percentile_interval(ratio_of_means(alone, empty, model), level=level)
        return low.item(), high.item()

    def df(self) -> pd.DataFrame:
        """One row per quantity."""
        import pandas as pd

        low, high = self.interval()
        rows = {
            "edges": self.circuit.n_edges,
            "edges of model": self.circuit.graph.n_edges,
            "faithfulness": self.faithfulness,
            "faithfulness low": low,
            "faithfulness high": high,
            "faithfulness median": self.quartiles[1],
            "random mean": self.random_faithfulness.mean().item() if len(self.random) else None,
            "m(C)": self.alone.mean().item(),
            "m(M)": self.model.mean().item(),
            "m(0)": self.empty.mean().item(),
            **({} if self.details is None else self.details.rows()),
        }
        return pd.DataFrame({"quantity": list(rows), "value": list(rows.values())})

    def __repr__(self) -> str:
        low, high = self.interval()
        chance = f", random {self.random_faithfulness.mean().item():.2f}" if len(self.random) else ""
        return (
            f"CircuitReport({self.circuit.n_edges:,} of {self.circuit.graph.n_edges:,} edges: faithfulness "
            f"{self.faithfulness:.2f} [{low:.2f}, {high:.2f}]{chance}; {self.metric}, {self.ablation}"
            f"{''.join(f'; {caveat}' for caveat in self.caveats)})"
        )

    def _repr_html_(self) -> str:
        return f"<p>{self!r}</p>" + str(self.df().to_html(index=False))


def evaluate(
    model: TraceModel,
    prompts: PromptSet,
    circuit: Circuit,
    *,
    metric: MetricLike | None = None,
    ablation: Ablation | Background = "resample",
    draws: int = 10,
    thorough: bool = False,
    seed: int = 0,
    memory: Memory = "auto",
) -> CircuitReport:
    """Run the circuit, the model, nothing, and `draws` random circuits of the same size and degree per layer,
    as many at a time as `memory` allows.

    thorough   add `details`: KL and first token of the output, completeness, minimality, CMD and CPR

    Raises InputError when the model and the empty circuit give the same metric (no ratio), MismatchError for a
    circuit of another model.
    """
    circuit.require_model(model)
    if draws < 0:
        raise InputError(f"Expected 0 or more random circuits, got {draws}; 10 is the default.")
    metric = metric_of(model, prompts, metric)
    graph = circuit.graph
    candidates = [Circuit.full(graph), Circuit.empty(graph), circuit]
    candidates += random_circuits(circuit, draws, seed=seed)
    values = run_circuits(model, prompts, candidates, ablation=ablation, metric=metric, memory=memory)
    whole, nothing, alone = values[:3]
    require_scale(whole, nothing, metric)
    caveats, found_in, here = [], taken_from(circuit.provenance), taken_from(provenance(model).as_dict())
    if found_in[0] not in (None, here[0]):
        caveats.append(f"the circuit was found in other weights ({circuit.provenance.get('model', 'unknown')})")
    if circuit.provenance and found_in[1] != here[1]:
        caveats.append(f"the circuit was found under other hooks ({', '.join(found_in[1]) or 'none'})")
    caveats += caveats_of(whole, nothing, metric)
    return CircuitReport(
        circuit=circuit, alone=alone, model=whole, empty=nothing, random=values[3:], metric=metric.name,
        ablation=ablation_name(ablation), seed=seed, provenance=provenance(model).as_dict(), caveats=tuple(caveats),
        details=details_of(model, prompts, circuit, metric, ablation, seed, memory) if thorough else None,
    )  # fmt: skip
