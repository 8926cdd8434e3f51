"""Batch sizes bound the memory and change no number."""

from __future__ import annotations

from inspect import signature

import pytest
import torch

from llmtrace import influence
from llmtrace.circuits import Circuit, Graph, eap, evaluate, run_circuits, select
from llmtrace.errors import InputError
from llmtrace.models import load
from llmtrace.prompts import ioi


@pytest.fixture(scope="module")
def model():
    return load("tiny-english", dtype="float64")


@pytest.fixture(scope="module")
def prompts(model):
    return ioi(model, 56, seed=0)[::5]  # templates of different lengths: chunks lose padding that the whole set has


def test_edge_scores_do_not_depend_on_the_batch_size(model, prompts):
    whole = eap(model, prompts).per_prompt
    assert torch.allclose(eap(model, prompts, batch_size=5).per_prompt, whole, atol=1e-10)
    assert whole.abs().max() > 0.1


BATCHED = [name for name, row in influence.METHODS.items() if "batch_size" in signature(row.function).parameters]


@pytest.mark.parametrize("name", BATCHED)
def test_influence_does_not_depend_on_the_batch_size(model, prompts, name):
    method = influence.METHODS[name]
    assert torch.allclose(method(model, prompts, batch_size=5).values, method(model, prompts).values, atol=1e-9)


@pytest.mark.parametrize("ablation", ["resample", "zero", "mean"])
def test_circuits_do_not_depend_on_the_batch_size(model, prompts, ablation):
    graph = Graph.of(model)
    circuits = [select(eap(model, prompts), 100), Circuit.empty(graph), Circuit.full(graph)]
    whole = run_circuits(model, circuits, prompts, ablation=ablation)
    assert whole.shape == (3, len(prompts)) and not torch.allclose(whole[0], whole[2], atol=0.1)
    assert torch.allclose(run_circuits(model, circuits, prompts, ablation=ablation, batch_size=5), whole, atol=1e-10)


def test_evaluation_does_not_depend_on_the_batch_size(model, prompts):
    circuit = select(eap(model, prompts), 150)
    whole, split = (evaluate(model, circuit, prompts, n_random=2, batch_size=size) for size in (None, 4))
    assert torch.allclose(whole.random, split.random, atol=1e-10)
    assert split.faithfulness == pytest.approx(whole.faithfulness, abs=1e-10)
    assert evaluate(model, circuit, prompts, n_random=0).random_faithfulness.shape == (0,)


def test_a_batch_size_that_means_nothing_is_refused(model, prompts):
    with pytest.raises(InputError, match="at least 1"):
        eap(model, prompts, batch_size=0)
