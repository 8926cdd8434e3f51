"""Is the circuit good: faithfulness, its uncertainty over prompts, and what random circuits of its size reach.

    f(C) = (m(C) - m(0)) / (m(M) - m(0))

m(M) is the clean run, m(0) the run with no edge, m(C) the circuit alone; the ratio is of means over prompts, and the
per-prompt ratios' median and quartiles stand beside it. f(full) = 1 and f(empty) = 0 (law 37).
Source: Wang et al. 2022; Hanna et al. 2024; MIB 2025. Cost: 3 + n_random circuit runs.
Known failure: f over 1 is possible (a circuit without the parts that hold the model back), so f is no share.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from llmtrace.circuits.circuit import Circuit
from llmtrace.circuits.graph import Graph
from llmtrace.circuits.ground import Ablation, Background, ablation_name
from llmtrace.circuits.running import run_circuits
from llmtrace.errors import InputError
from llmtrace.metrics import MetricLike
from llmtrace.models import TraceModel, provenance
from llmtrace.prompts import PromptSet, metric_of
from llmtrace.statistics import bootstrap_samples, percentile_interval

if TYPE_CHECKING:
    import pandas as pd


NEAR_ZERO = 0.02  # of the mean gap: a prompt's own ratio means nothing below it


@dataclass(frozen=True, eq=False)
class CircuitReport:
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

    @property
    def faithfulness(self) -> float:
        """Ratio of means."""
        return _ratio(self.alone, self.empty, self.model).item()

    @property
    def per_prompt(self) -> Float[Tensor, " batch"]:
        return (self.alone - self.empty) / (self.model - self.empty)

    @property
    def quartiles(self) -> tuple[float, float, float]:
        """Of the per-prompt ratios: lower quartile, median, upper quartile."""
        low, middle, high = torch.quantile(
            self.per_prompt, torch.tensor([0.25, 0.5, 0.75]).to(self.per_prompt)
        ).tolist()
        return low, middle, high

    @property
    def random_faithfulness(self) -> Float[Tensor, " draw"]:
        """Of random circuits with as many edges."""
        return _ratio(self.random, self.empty, self.model)

    def interval(self, *, level: float = 0.95) -> tuple[float, float]:
        """Bootstrap interval of the faithfulness over prompts."""
        samples = bootstrap_samples(len(self.alone), seed=self.seed)
        alone, empty, model = (t.cpu()[samples] for t in (self.alone, self.empty, self.model))
        low, high = percentile_interval(_ratio(alone, empty, model), level=level)
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
    circuit: Circuit,
    prompts: PromptSet,
    *,
    metric: MetricLike | None = None,
    ablation: Ablation | Background = "resample",
    n_random: int = 10,
    seed: int = 0,
    batch_size: int | None = None,
) -> CircuitReport:
    """Run the circuit, the model, nothing, and `n_random` random circuits of the same size, `batch_size` prompts at a
    time (default: all).

    Raises InputError when the model and the empty circuit give the same metric (no ratio), MismatchError for a
    circuit of another model.
    """
    circuit.require_model(model)
    if n_random < 0:
        raise InputError(f"Expected 0 or more random circuits, got {n_random}; 10 is the default.")
    metric = metric_of(model, prompts, metric)
    graph = circuit.graph
    candidates = [Circuit.full(graph), Circuit.empty(graph), circuit]
    candidates += random_circuits(graph, circuit.n_edges, n_random, seed)
    values = run_circuits(model, candidates, prompts, ablation=ablation, metric=metric, batch_size=batch_size)
    whole, nothing, alone = values[:3]
    gap = whole - nothing
    if gap.mean().abs() <= 1e-6 * max(1e-12, whole.abs().mean().item()):
        raise InputError(
            f"The model and the empty circuit give the same {metric.name}, so faithfulness has no scale; "
            "choose another corruption or another metric."
        )
    caveats, found_in = [], circuit.provenance.get("weights")
    if found_in not in (None, provenance(model).weights):
        caveats.append(f"the circuit was found in other weights ({circuit.provenance.get('model', 'unknown')})")
    better = gap if metric.higher_is_better else -gap
    if better.mean() < 0:
        caveats.append("in the mean the empty circuit is better than the model: the ratio is inverted")
    if (inverted := int((better < 0).sum())) > 0:
        caveats.append(f"on {inverted} of {len(prompts)} prompts the empty circuit is better than the model")
    if (flat := int((gap.abs() < NEAR_ZERO * gap.abs().mean()).sum())) > 0:
        caveats.append(f"on {flat} of {len(prompts)} prompts model and empty circuit nearly agree: no ratio there")
    return CircuitReport(
        circuit=circuit, alone=alone, model=whole, empty=nothing, random=values[3:], metric=metric.name,
        ablation=ablation_name(ablation), seed=seed, provenance=provenance(model).as_dict(), caveats=tuple(caveats),
    )  # fmt: skip


def random_circuits(graph: Graph, n_edges: int, draws: int, seed: int) -> list[Circuit]:
    """Circuits of `n_edges` edges drawn without replacement from all edges."""
    generator = torch.Generator().manual_seed(seed)
    where = graph.real.flatten().nonzero().flatten()
    found = []
    for _ in range(draws):
        mask = torch.zeros(graph.real.numel(), dtype=torch.bool)
        mask[where[torch.randperm(len(where), generator=generator)[:n_edges]]] = True
        found.append(Circuit(graph, mask.view_as(graph.real)))
    return found


def _ratio(alone: Tensor, empty: Tensor, model: Tensor) -> Tensor:
    return (alone.mean(-1) - empty.mean(-1)) / (model.mean(-1) - empty.mean(-1))
