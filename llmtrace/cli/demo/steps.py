"""The steps of the demo, each a call of the package; what they found, in one value."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from llmtrace.circuits import Circuit, CircuitReport, eap, evaluate, select
from llmtrace.cli.output.documents import DemoRow
from llmtrace.cli.output.run import Run
from llmtrace.cli.output.screen import Stages
from llmtrace.influence import NodeScores, direct_logit_attribution
from llmtrace.interventions import Effects, ablate, path_patch
from llmtrace.models import Architecture, TraceModel, describe, logits, token_labels
from llmtrace.prompts import PromptSet
from llmtrace.signals import Trace, capture
from llmtrace.validation import Validation, correlate

SIZES = (50, 100, 150, 200, 300, 400)
ENOUGH = 0.9  # the smallest circuit that is this faithful on the prompts that chose it
MATTERS = 0.05  # of the clean metric: what a score or a test must move to count
SHOWN_TOKENS = 4


@dataclass(frozen=True, eq=False)
class Findings:
    model: TraceModel
    prompts: PromptSet
    held_out: PromptSet
    prediction: list[tuple[str, float]]  # tokens after the first prompt, most probable first
    trace: Trace
    scores: NodeScores
    paths: Effects
    ablation: Effects
    sizes: list[tuple[int, float]]  # edges, faithfulness on the prompts that chose them
    report: CircuitReport  # on held-out prompts

    enough = ENOUGH

    @property
    def arch(self) -> Architecture:
        return describe(self.model)

    @property
    def circuit(self) -> Circuit:
        return self.report.circuit

    @property
    def metric(self) -> str:
        return self.scores.metric

    @property
    def clean(self) -> float:
        return self.ablation.before.mean().item()

    @property
    def threshold(self) -> float:
        return MATTERS * abs(self.clean)

    @property
    def right(self) -> int:
        """On how many prompts the right name beats the wrong one."""
        return int((self.ablation.before > 0).sum())

    @cached_property
    def validations(self) -> dict[str, Validation]:
        """The score held against each test, over heads."""
        seed = self.prompts.seed or 0
        tests = {"path_patching": self.paths, "mean_ablation": self.ablation}
        return {name: correlate(self.scores, effects, seed=seed) for name, effects in tests.items()}

    @cached_property
    def rows(self) -> list[DemoRow]:
        """Every head, highest score first (by magnitude). Numbers are changes: what a test takes away is negative."""
        removed = self.validations["mean_ablation"]
        patched, verdicts = self.paths.mean().tolist(), removed.verdicts(self.threshold)
        rows = [
            DemoRow(
                head=str(head), direct_attribution=removed.score[i].item(), path_patching=patched[i],
                mean_ablation=-removed.loss[i].item(), mean_ablation_low=-removed.high[i].item(),
                mean_ablation_high=-removed.low[i].item(), verdict=self._with_route(verdicts[i], patched[i]),
            )
            for i, head in enumerate(removed.nodes)
        ]  # fmt: skip
        return sorted(rows, key=lambda row: -abs(row.direct_attribution))

    def _with_route(self, verdict: str, patched: float) -> str:
        """What the score missed goes through MLPs when patching the path finds it, else through heads."""
        route = "MLPs" if abs(patched) >= self.threshold else "heads"
        return f"missed: via {route}" if verdict == "missed" else verdict

    @property
    def rank_correlation(self) -> dict[str, float]:
        """Spearman, over heads, of the score with what each test takes away (+1: the same order)."""
        return {name: validation.rank_correlation for name, validation in self.validations.items()}

    @cached_property
    def summary(self) -> dict[str, Any]:
        low, high = self.report.interval()
        return {
            "prediction": [{"token": token, "probability": p} for token, p in self.prediction],
            "clean": self.clean,
            "right": self.right,
            "rank_correlation": self.rank_correlation,
            "sizes_tried": [{"edges": edges, "faithfulness": value} for edges, value in self.sizes],
            "edges": self.circuit.n_edges,
            "edges_of_model": self.circuit.graph.n_edges,
            "held_out": {"n": len(self.held_out), "seed": self.held_out.seed},
            "faithfulness": self.report.faithfulness,
            "low": low,
            "high": high,
            "random": self.report.random_faithfulness.tolist(),
        }


def find(run: Run) -> Findings:
    """Eight stages; about 15 s on two cores, half of it the import of TransformerLens."""
    stages = Stages(8)
    seed = run.asked.seed
    with stages.stage("loading tiny-english"):
        model = run.load(spin=False)
        prompts = run.prompts(model)
        other = run.asked.make_with(model, run.source, seed=seed + 1)
        held_out = other[[i for i, text in enumerate(other.texts) if text not in prompts.texts]]
    with stages.stage("predicting"):
        prediction = _prediction(model, prompts)
    with stages.stage("capturing attention"):
        trace = capture(model, prompts, what="pattern")
    with stages.stage("scoring heads: direct logit attribution"):
        scores = direct_logit_attribution(model, prompts)
    with stages.stage("testing: path patching"):
        paths = path_patch(model, prompts)
    with stages.stage("testing: mean ablation"):
        ablation = ablate(model, prompts, describe(model).heads, ablation="mean")
    with stages.stage("discovering the circuit"):
        edges = eap(model, prompts)
        sizes: list[tuple[int, float]] = []
        for size in SIZES:
            circuit = select(edges, size)
            sizes.append((circuit.n_edges, evaluate(model, prompts, circuit, draws=0).faithfulness))
            if sizes[-1][1] >= ENOUGH:
                break
    with stages.stage("evaluating it on held-out prompts"):
        report = evaluate(model, held_out, circuit, seed=seed)
    return Findings(model, prompts, held_out, prediction, trace, scores, paths, ablation, sizes, report)


def _prediction(model: TraceModel, prompts: PromptSet) -> list[tuple[str, float]]:
    with torch.no_grad():
        after = logits(model, prompts.clean[:1])[0, prompts.positions["END"][0]].softmax(-1)
    best = after.topk(SHOWN_TOKENS)
    return list(zip(token_labels(model, best.indices[None])[0], best.values.tolist(), strict=True))
