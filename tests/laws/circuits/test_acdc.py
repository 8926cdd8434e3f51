"""Law 38, and the slow twin of ACDC: one edge at a time, one whole run each."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import ALL, ATTN_ONLY, GEMMA2, GPTJ, LLAMA, POST_NORM, Tiny, one_of_each, over, prompts

import llmtrace as lt
from llmtrace import circuits
from llmtrace.circuits import EdgeScores, Graph
from llmtrace.circuits.running.circuit_pass import circuit_residuals
from llmtrace.errors import InputError, MismatchError
from llmtrace.interventions.engine import checkpoint
from llmtrace.models import embedding
from llmtrace.prompts import PromptSet

acdc = importlib.import_module("llmtrace.circuits.discovery.acdc")  # the name of the module is that of its function

WAYS = [(family, "hooked") for family in (LLAMA, GPTJ, ATTN_ONLY, GEMMA2)] + [(LLAMA, "bridge"), (GEMMA2, "bridge")]
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


def reads_in_a_way_of_its_own(tiny: Tiny) -> bool:
    """Kinds of attention are laws of `run_circuit`, of which the loop consists: here, each way to read the stream."""
    return (tiny.family, tiny.backend) in WAYS and one_of_each(tiny)


@over(reads_in_a_way_of_its_own, among=[*ALL, *POST_NORM])
@pytest.mark.usefixtures("as_users_run")  # the loop runs whole circuits thousands of times
def test_decisions_are_those_of_the_sequential_loop(tiny: Tiny) -> None:
    """Edge for edge; no accepted step moved the metric by tau. Every way under one ablation, and one under all of
    them, on prompts of two lengths and of one; at the least threshold (means) every edge with an effect stays."""
    thorough = (tiny.family, tiny.backend) == (LLAMA, "hooked")
    for ablation, tau in TRIES if thorough else TRIES[:1]:
        for padded in (True, False) if thorough and ablation == "resample" else (True,):
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
        with pytest.raises(InputError, match=r"threshold tau above 0|Expected tau as a number, got nan"):
            circuits.acdc(ALL[0].model, prompts(), tau=tau)


@over(among=[tiny for tiny in ALL if (tiny.family, tiny.processed) == (LLAMA, True)])
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


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_walked_and_told(dtype: torch.dtype) -> None:
    """Scores are as exact as the metric, which half precision widens; of its report there are quartiles."""
    model = lt.load("or-gate", dtype=dtype)
    p = lt.from_pairs(model, [("1 1 =", "0 0 =", "1", "0"), ("1 0 =", "0 0 =", "1", "0")])
    found = circuits.acdc(model, p, tau=0.01)
    assert found.per_prompt.dtype == torch.float32
    report = lt.evaluate(model, p, circuits.select(found, threshold=0.01), draws=1)
    assert report.df().notna().any(axis=None)
