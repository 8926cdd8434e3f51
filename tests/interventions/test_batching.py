"""What fits into memory at once changes no number."""

from __future__ import annotations

from inspect import signature

import pytest
import torch
from room import for_passes, to_run, to_score

from llmtrace import influence
from llmtrace.circuits import Circuit, Graph, eap, evaluate, run_circuits, select
from llmtrace.errors import InputError, LimitError
from llmtrace.models import describe, load
from llmtrace.prompts import ioi


@pytest.fixture(scope="module")
def model():
    return load("tiny-english", dtype="float64")


@pytest.fixture(scope="module")
def prompts(model):
    return ioi(model, 56, seed=0)[::5]  # templates of different lengths: chunks lose padding that the whole set has


def test_edge_scores_do_not_depend_on_the_batch_size(model, prompts):
    whole = eap(model, prompts).per_prompt
    assert torch.allclose(eap(model, prompts, memory=to_score(model, prompts, 5)).per_prompt, whole, atol=1e-10)
    assert whole.abs().max() > 0.1


BATCHED = [name for name, row in influence.METHODS.items() if "memory" in signature(row.function).parameters]


@pytest.mark.parametrize("name", BATCHED)
def test_influence_does_not_depend_on_the_memory(model, prompts, name):
    method = influence.METHODS[name]
    layers = describe(model).n_layers if "gradient" in method.needs else 1
    room = layers * for_passes(model, 5, prompts.clean.shape[1])
    assert torch.allclose(method(model, prompts, memory=room).values, method(model, prompts).values, atol=1e-9)


@pytest.mark.parametrize("ablation", ["resample", "zero", "mean"])
def test_circuits_do_not_depend_on_the_batch_size(model, prompts, ablation):
    graph = Graph.of(model)
    circuits = [select(eap(model, prompts), 100), Circuit.empty(graph), Circuit.full(graph)]
    whole = run_circuits(model, prompts, circuits, ablation=ablation)
    assert whole.shape == (3, len(prompts)) and not torch.allclose(whole[0], whole[2], atol=0.1)
    split = run_circuits(model, prompts, circuits, ablation=ablation, memory=to_run(model, prompts, 5, ablation))
    assert torch.allclose(split, whole, atol=1e-10)


def test_evaluation_does_not_depend_on_the_batch_size(model, prompts):
    circuit, rooms = select(eap(model, prompts), 150), ("auto", to_run(model, prompts, 4, "resample"))
    whole, split = (evaluate(model, prompts, circuit, draws=2, memory=room) for room in rooms)
    assert torch.allclose(whole.random, split.random, atol=1e-10)
    assert split.faithfulness == pytest.approx(whole.faithfulness, abs=1e-10)
    assert evaluate(model, prompts, circuit, draws=0).random_faithfulness.shape == (0,)


def test_a_memory_that_cannot_be_kept_is_refused(model, prompts):
    with pytest.raises(InputError, match="bytes"):
        eap(model, prompts, memory=0)
    circuit = Circuit.full(Graph.of(model))
    for call in (
        lambda room: eap(model, prompts, memory=room),
        lambda room: evaluate(model, prompts, circuit, memory=room),
    ):
        with pytest.raises(LimitError, match="one prompt, which takes"):
            call("10kB")
