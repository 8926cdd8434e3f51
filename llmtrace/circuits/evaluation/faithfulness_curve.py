"""Faithfulness over the size of a circuit, and the two areas that sum it up.

    CMD = area of |1 - f|     CPR = area of f      over the fraction of edges, by trapezoids, linear in the fraction

CMD (0 is best) leads: CPR rewards circuits that overshoot. Source: MIB (Mueller et al. 2025), at their ten sizes.
Cost: one circuit run per size, small ones cheap.

    >>> scores = lt.circuits.eap_ig(model, prompts)
    >>> lt.circuits.faithfulness_curve(model, prompts, scores, shares=(0.05, 0.1, 0.5))
    FaithfulnessCurve(eap_ig on logit_diff, resample: CMD 0.012 [0.004, 0.070], CPR 0.438 [0.398, 0.513])
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from llmtrace.circuits.circuit import Circuit
from llmtrace.circuits.edge_scores import EdgeScores
from llmtrace.circuits.evaluation.faithfulness_ratio import ratio_of_means, require_scale
from llmtrace.circuits.running.background import Ablation, Background, ablation_name
from llmtrace.circuits.running.run_circuit import run_circuits
from llmtrace.circuits.selection.select import select
from llmtrace.errors import InputError
from llmtrace.interventions import Memory
from llmtrace.metrics import MetricLike
from llmtrace.models import TraceModel
from llmtrace.prompts import PromptSet, metric_of
from llmtrace.results import Result
from llmtrace.statistics import bootstrap_samples, percentile_interval

if TYPE_CHECKING:
    import pandas as pd

SHARES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)  # of the edges, as in the MIB benchmark


@dataclass(frozen=True, eq=False)
class FaithfulnessCurve(Result):
    """`alone[size]` is the metric of the circuit of that size, per prompt."""

    circuits: tuple[Circuit, ...]
    shares: tuple[float, ...]
    alone: Float[Tensor, "size batch"]
    model: Float[Tensor, " batch"]
    empty: Float[Tensor, " batch"]
    method: str
    metric: str
    ablation: str
    seed: int

    @property
    def faithfulness(self) -> Float[Tensor, " size"]:
        return ratio_of_means(self.alone, self.empty, self.model)

    @property
    def cmd(self) -> float:
        """Area between the curve and 1; 0 is best."""
        return float(_area(self.shares, (1 - self.faithfulness).abs()))

    @property
    def cpr(self) -> float:
        """Area under the curve; over 1 where circuits overshoot."""
        return float(_area(self.shares, self.faithfulness))

    def interval(self, of: str = "cmd", *, level: float = 0.95, draws: int = 1000) -> tuple[float, float]:
        """Bootstrap interval over prompts of "cmd" or "cpr"."""
        if of not in ("cmd", "cpr"):
            raise InputError(f"Expected 'cmd' or 'cpr', got {of!r}; choose one.")
        samples = bootstrap_samples(len(self.model), draws=draws, seed=self.seed)
        alone, empty, model = (t.cpu().double()[..., samples] for t in (self.alone, self.empty, self.model))
        f = ratio_of_means(alone, empty, model)  # size draw
        low, high = percentile_interval(_area(self.shares, (1 - f).abs() if of == "cmd" else f), level=level)
        return low.item(), high.item()

    def df(self) -> pd.DataFrame:
        """One row per size."""
        import pandas as pd

        return pd.DataFrame(
            {
                "share": self.shares,
                "edges": [circuit.n_edges for circuit in self.circuits],
                "faithfulness": self.faithfulness.tolist(),
            }
        )

    def __repr__(self) -> str:
        words = []
        for name, value in (("CMD", self.cmd), ("CPR", self.cpr)):
            low, high = self.interval(name.lower())
            words.append(f"{name} {value:.3f} [{low:.3f}, {high:.3f}]")
        return f"FaithfulnessCurve({self.method} on {self.metric}, {self.ablation}: {', '.join(words)})"


def faithfulness_curve(
    model: TraceModel,
    prompts: PromptSet,
    scores: EdgeScores,
    *,
    metric: MetricLike | None = None,
    ablation: Ablation | Background = "resample",
    selection: str = "top",
    shares: Sequence[float] = SHARES,
    seed: int = 0,
    memory: Memory = "auto",
) -> FaithfulnessCurve:
    """Circuits of growing size, each run alone. Take prompts that did not choose the edges where you can.

    Raises InputError for shares outside (0, 1] or out of order, or where model and empty circuit give the same metric.
    """
    if not shares or list(shares) != sorted(set(shares)) or not 0 < shares[0] <= shares[-1] <= 1:
        raise InputError(f"Expected growing shares of the edges above 0 and up to 1, got {list(shares)}.")
    bound, graph = metric_of(model, prompts, metric), scores.graph
    sizes = [max(1, round(share * graph.n_edges)) for share in shares]
    circuits = [select(scores, size, selection=selection, prune=False) for size in sizes]
    everything = [Circuit.full(graph), Circuit.empty(graph), *circuits]
    values = run_circuits(model, prompts, everything, ablation=ablation, metric=bound, memory=memory)
    require_scale(values[0], values[1], bound)
    return FaithfulnessCurve(
        circuits=tuple(circuits), shares=tuple(shares), alone=values[2:], model=values[0], empty=values[1],
        method=scores.method, metric=bound.name, ablation=ablation_name(ablation), seed=seed,
    )  # fmt: skip


def _area(shares: Sequence[float], heights: Float[Tensor, "size *draw"]) -> Float[Tensor, "*draw"]:
    return torch.trapezoid(heights.double().movedim(0, -1), torch.tensor(shares, dtype=torch.float64))
