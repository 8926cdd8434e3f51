"""Law 38, and the slow twin of ACDC: one edge at a time, one whole run each."""

from __future__ import annotations

import pytest
import torch
from tiny import ALL, POST_NORM, WIDE, Tiny, one_of_each, over, prompts

from llmtrace import circuits
from llmtrace.circuits import Circuit, EdgeScores, Graph, run_circuit
from llmtrace.errors import InputError
from llmtrace.prompts import PromptSet

TRIES = (("resample", 0.02), ("zero", 0.1), ("mean", 1e-6))


def one_by_one(tiny: Tiny, p: PromptSet, tau: float, ablation: str) -> tuple[torch.Tensor, list[float]]:
    """The sequential loop of Conmy et al.: (the edges that are kept, how far each accepted step moved the metric)."""
    graph, ground = Graph.of(tiny.model), circuits.background(tiny.model, p, ablation)

    def value(mask: torch.Tensor) -> float:
        return float(run_circuit(tiny.model, Circuit(graph, mask), p, ablation=ground).mean())

    mask, accepted = graph.real.clone(), list[float]()
    current = value(mask)
    for column in reversed(range(len(graph.ports))):
        for row in reversed(graph.real[:, column].nonzero().flatten().tolist()):
            less = mask.clone()
            less[row, column] = False
            if abs((new := value(less)) - current) < tau:
                accepted.append(abs(new - current))
                mask, current = less, new
    return mask, accepted


@over(one_of_each, among=[*ALL, *WIDE, *POST_NORM])
@pytest.mark.parametrize(("ablation", "tau"), TRIES, ids=[f"{a}-{t}" for a, t in TRIES])
def test_decisions_are_those_of_the_sequential_loop(tiny: Tiny, ablation: str, tau: float) -> None:
    """Edge for edge, prompts of two lengths and of one; and no accepted step moved the metric by tau."""
    for padded in (True, False):
        p = prompts(padded=padded)
        mask, accepted = one_by_one(tiny, p, tau, ablation)
        scores = circuits.acdc(tiny.model, p, tau=tau, ablation=ablation)
        assert torch.equal(kept(scores, tau), mask)
        assert 0 < mask.sum() < len(mask.flatten()) and max(accepted) < tau
        if tiny.backend == "bridge":
            break


def kept(scores: EdgeScores, tau: float) -> torch.Tensor:
    return (scores.values.abs() >= tau) & scores.graph.real


def test_nothing_is_worth_an_infinite_threshold() -> None:
    """Law 38: tau = inf keeps none; a threshold that is none is refused."""
    assert not kept(circuits.acdc(ALL[0].model, prompts(), tau=float("inf")), float("inf")).any()
    for tau in (0, -1, "much"):
        with pytest.raises(InputError, match="threshold tau above 0"):
            circuits.acdc(ALL[0].model, prompts(), tau=tau)  # type: ignore[arg-type]
