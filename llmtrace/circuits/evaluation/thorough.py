"""What a thorough evaluation adds to faithfulness: the whole output, completeness, minimality, the curve over sizes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from llmtrace.circuits.circuit import Circuit
from llmtrace.circuits.edge_scores import EdgeScores
from llmtrace.circuits.evaluation.completeness import Completeness, Minimality, completeness, minimality
from llmtrace.circuits.evaluation.faithfulness_curve import FaithfulnessCurve, faithfulness_curve
from llmtrace.circuits.running.background import Ablation, Background
from llmtrace.circuits.running.run_circuit import background_if_it_fits, run_circuits
from llmtrace.interventions import Memory
from llmtrace.metrics import Metric, custom, kl
from llmtrace.models import TraceModel, final_residual, unembed
from llmtrace.prompts import PromptSet


@dataclass(frozen=True, eq=False)
class Details:
    """kl: KL(model || circuit) in nats at the answer position. agrees: 1 where both have the same first token.

    `curve` is there when the circuit carries the scores that chose it.
    """

    kl: Float[Tensor, " batch"]
    agrees: Float[Tensor, " batch"]
    completeness: Completeness
    minimality: Minimality
    curve: FaithfulnessCurve | None

    def rows(self) -> dict[str, float | None]:
        """Quantities by name, for tables."""
        curve = self.curve
        return {
            "KL": self.kl.mean().item(),
            "same first token": self.agrees.mean().item(),
            "largest completeness gap": self.completeness.gaps.max().item(),
            "least needed node": self.minimality.loss.mean(1).abs().min().item() if self.minimality.nodes else None,
            "CMD": None if curve is None else curve.cmd,
            "CPR": None if curve is None else curve.cpr,
        }


def details_of(
    model: TraceModel,
    prompts: PromptSet,
    circuit: Circuit,
    metric: Metric,
    ablation: Ablation | Background,
    seed: int,
    memory: Memory,
) -> Details:
    """Cost: about three circuit runs per node of the circuit and ten sizes of the curve, small circuits cheap."""
    ablation, memory = background_if_it_fits(model, circuit.graph, prompts, ablation, memory)
    with torch.no_grad():
        rows = unembed(model, metric.here(final_residual(model, prompts.clean)))
    first = custom("first token", _agrees, metric.positions, context=(rows.argmax(-1),))
    kls, agrees = (
        run_circuits(model, prompts, [circuit], ablation=ablation, metric=by, memory=memory)[0]
        for by in (kl(metric.positions, rows), first)
    )
    return Details(
        kl=kls,
        agrees=agrees,
        completeness=completeness(model, prompts, circuit, metric=metric, ablation=ablation, seed=seed, memory=memory),
        minimality=minimality(model, prompts, circuit, metric=metric, ablation=ablation, memory=memory),
        curve=_curve(model, prompts, circuit, metric, ablation, seed, memory),
    )


def _agrees(rows: Float[Tensor, "*lead d_vocab"], top: Tensor) -> Tensor:
    return (rows.argmax(-1) == top).to(rows)


def _curve(
    model: TraceModel,
    prompts: PromptSet,
    circuit: Circuit,
    metric: Metric,
    ablation: Ablation | Background,
    seed: int,
    memory: Memory,
) -> FaithfulnessCurve | None:
    if circuit.scores is None:
        return None
    method = str(circuit.options.get("method", "its scores"))
    scores = EdgeScores(circuit.graph, circuit.scores[None], method, metric.name, circuit.provenance, "")
    return faithfulness_curve(model, prompts, scores, metric=metric, ablation=ablation, seed=seed, memory=memory)
