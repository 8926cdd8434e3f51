"""Law 38, and the slow twin of ACDC: one edge at a time, one whole run each."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import ALL, ATTN_ONLY, GPTJ, HOOKED_EXISTS, LLAMA, POST_NORM, WIDE, Tiny, hooked, one_of_each, over, prompts

from llmtrace import circuits
from llmtrace.circuits import EdgeScores, Graph
from llmtrace.circuits.live import circuit_residuals
from llmtrace.errors import InputError, MismatchError
from llmtrace.interventions import checkpoint
from llmtrace.models import embedding
from llmtrace.prompts import PromptSet

acdc = importlib.import_module("llmtrace.circuits.discovery.acdc")  # the name of the module is that of its function

TRIES = (("resample", 0.02), ("zero", 0.1), ("mean", 1e-6))


def one_by_one(tiny: Tiny, p: PromptSet, tau: float, ablation: str) -> tuple[torch.Tensor, list[float]]:
    """The sequential loop of Conmy et al.: (the edges that are kept, how far each accepted step moved the metric)."""
    graph, ground = Graph.of(tiny.model), circuits.background(tiny.model, p, ablation)
    inputs, metric = embedding(tiny.model, p.clean), p.metric("logit_diff")

    def value(mask: torch.Tensor) -> float:
        final = circuit_residuals(tiny.model, mask[None], inputs, ground)[0]
        return float(metric.of_residual(tiny.model, metric.here(final)).mean())

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
@pytest.mark.usefixtures("as_users_run")  # the loop runs whole circuits thousands of times
def test_decisions_are_those_of_the_sequential_loop(tiny: Tiny) -> None:
    """Edge for edge, under every ablation, prompts of two lengths and of one; no accepted step moved the metric by tau.
    At the least threshold (mean ablation) every edge with an effect stays.
    A bridge and a post-norm model run whole circuits: one ablation says that the loop is right. Prompts of one length,
    and means, are tried on one model of each way to read the residual stream."""
    parts_run_apart, every = hooked(tiny) and not tiny.family.post_norm, tiny.family in (LLAMA, GPTJ, ATTN_ONLY)
    for ablation, tau in TRIES[: 3 if every else 2] if parts_run_apart else TRIES[:1]:
        for padded in (True, False) if parts_run_apart and every and ablation == "resample" else (True,):
            p = prompts(padded=padded)
            mask, accepted = one_by_one(tiny, p, tau, ablation)
            scores = circuits.acdc(tiny.model, p, tau=tau, ablation=ablation)
            assert torch.equal(kept(scores, tau), mask)
            assert mask.any() and (ablation == "mean" or accepted) and max(accepted, default=0.0) < tau


def kept(scores: EdgeScores, tau: float) -> torch.Tensor:
    return (scores.values.abs() >= tau) & scores.graph.real


def test_nothing_is_worth_an_infinite_threshold() -> None:
    """Law 38: tau = inf keeps none; a threshold that is none is refused."""
    assert not kept(circuits.acdc(ALL[0].model, prompts(), tau=float("inf")), float("inf")).any()
    for tau in (0.0, -1.0, float("nan")):
        with pytest.raises(InputError, match="threshold tau above 0"):
            circuits.acdc(ALL[0].model, prompts(), tau=tau)


def goes_on_by_itself(tiny: Tiny) -> bool:
    """A bridge runs whole circuits, whose state is the mask alone: where there is something else, that is enough."""
    return hooked(tiny) or not HOOKED_EXISTS


@over(one_of_each, goes_on_by_itself)
@pytest.mark.usefixtures("as_users_run")
def test_a_run_that_was_stopped_goes_on_with_the_same_result(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bit for bit, from the last port that was settled; another run's file is refused; the file is gone at the end."""
    p, file = prompts(padded=True), tmp_path / "acdc.safetensors"
    whole = circuits.acdc(tiny.model, p, tau=0.02)
    monkeypatch.setattr(checkpoint, "SECONDS", 0.0)
    settle, seen = acdc._Walk.settle, list[int]()

    def stops(walk: Any, engine: object, column: int, *rest: object) -> None:
        seen.append(column)
        if len(seen) == 9:
            raise KeyboardInterrupt
        settle(walk, engine, column, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(acdc._Walk, "settle", stops)
    with pytest.raises(KeyboardInterrupt):
        circuits.acdc(tiny.model, p, tau=0.02, resume=file)
    assert file.exists()
    with pytest.raises(MismatchError, match="another discovery"):
        circuits.acdc(tiny.model, p, tau=0.03, resume=file)
    again = circuits.acdc(tiny.model, p, tau=0.02, resume=file)
    assert torch.equal(again.per_prompt, whole.per_prompt) and again.passes == whole.passes
    assert seen[9] == seen[8] and not file.exists()
