"""The learned mask: its run at the corners of the cube, its slope, and what it finds."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import ALL, POST_NORM, WIDE, Tiny, close, one_of_each, over, prompts

from llmtrace import circuits, models
from llmtrace.circuits import Graph
from llmtrace.circuits.running.circuit_pass import circuit_residuals, soft_residual
from llmtrace.errors import InputError, MismatchError

pruning = importlib.import_module("llmtrace.circuits.discovery.edge_pruning")


@over(one_of_each, among=[*ALL, *WIDE, *POST_NORM])
def test_gates_that_are_0_or_1_are_a_circuit(tiny: Tiny) -> None:
    p, graph = prompts(padded=True), Graph.of(tiny.model)
    mask = graph.real & (torch.rand(graph.real.shape, generator=torch.Generator().manual_seed(1)) < 0.5)
    for ablation in ("resample", "zero"):
        ground, inputs = circuits.background(tiny.model, p, ablation), models.embedding(tiny.model, p.clean)
        soft = soft_residual(tiny.model, mask.double(), inputs, ground)
        close(soft, circuit_residuals(tiny.model, mask[None], inputs, ground)[0], tiny.atol)


@over(one_of_each)
def test_the_slope_of_open_gates_is_minus_eap(tiny: Tiny) -> None:
    """Law 30 once more: closing a gate puts the corrupted write in."""
    p, graph = prompts(padded=True), Graph.of(tiny.model)
    metric = p.metric("logit_diff")
    gates = graph.real.double().requires_grad_(True)
    final = soft_residual(tiny.model, gates, models.embedding(tiny.model, p.clean), circuits.background(tiny.model, p))
    with torch.enable_grad():
        (slope,) = torch.autograd.grad(metric.of_residual(tiny.model, metric.here(final)).sum(), gates)
    close(-slope * graph.real, circuits.eap(tiny.model, p).per_prompt.sum(0), 100 * tiny.atol)


def test_learned_gates_beat_chance_and_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A circuit of half the edges that is nearer to the model than random ones; resumed, the same gates bit for bit."""
    tiny, p = ALL[0], prompts()
    options: dict[str, Any] = {"n_edges": 60, "steps": 40, "learning_rate": 0.4}
    scores = circuits.edge_pruning(tiny.model, p, **options)
    assert scores.per_prompt.min() >= 0 and scores.per_prompt.max() <= 1
    circuit = circuits.select(scores, 60, selection="top", prune=False)
    kl = p.metric("kl", reference=models.logits(tiny.model, p.clean))
    others = circuits.random_circuits(circuit, 20, matched=False)
    values = circuits.run_circuits(tiny.model, p, [circuit, *others], metric=kl).mean(1)
    assert values[0] < values[1:].quantile(0.1)

    file, descend = tmp_path / "gates", pruning._Gates.descend

    def stops(gates: Any, distance: torch.Tensor) -> None:
        if gates.step == 25:
            raise KeyboardInterrupt
        descend(gates, distance)

    monkeypatch.setattr(pruning._Gates, "descend", stops)
    with pytest.raises(KeyboardInterrupt):
        circuits.edge_pruning(tiny.model, p, **options, resume=file)
    monkeypatch.setattr(pruning._Gates, "descend", descend)
    again = circuits.edge_pruning(tiny.model, p, **options, resume=file)
    close(again.per_prompt, scores.per_prompt, 1e-12)
    assert not file.exists()


def test_a_warm_start_begins_at_other_scores() -> None:
    tiny, p = ALL[0], prompts()
    scores = circuits.eap(tiny.model, p)
    warm = circuits.edge_pruning(tiny.model, p, n_edges=10, steps=1, warm_start=scores, metric="logit_diff")
    best = circuits.select(scores, 20, selection="top", prune=False).mask
    assert warm.values[best].min() > warm.values[scores.graph.real & ~best].max()
    assert warm.metric == "squared change of logit_diff"
    small = next(t for t in ALL if t.family.attn_only)
    with pytest.raises(MismatchError, match="to start from"):
        circuits.edge_pruning(small.model, p, n_edges=10, steps=1, warm_start=scores)
    with pytest.raises(InputError, match="one step or more"):
        circuits.edge_pruning(tiny.model, p, n_edges=10, steps=0)
