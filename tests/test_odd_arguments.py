"""Odd values end in a result or in a sentence; what is meant is taken, whatever library its numbers come from.

`odd_arguments.py` tries all of them; here is a seeded sample.
"""

from __future__ import annotations

import inspect
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from odd_arguments import World, functions, outcome, sample

import llmtrace as lt
from llmtrace.arguments import Unfit, checked, reading_of
from llmtrace.errors import InputError, LLMTraceError

pytestmark = pytest.mark.usefixtures("as_users_run")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("made"))


def test_an_odd_value_ends_in_a_result_or_a_sentence(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # some of them name a file
    raw = {str(call): repr(error) for call in sample(900, seed=5) if (error := outcome(call, world))}
    assert raw == {}


@pytest.mark.parametrize("path", dict(functions()))
def test_a_public_function_reads_its_arguments_and_stays_what_it_was(path: str) -> None:
    found = dict(functions())[path]
    if path.startswith(("nodes.", "plots.plot")):  # text is all they take; a noun says which figure
        return
    inner = inspect.unwrap(found)
    assert hasattr(found, "reads_arguments") and found.__doc__ == inner.__doc__
    assert list(inspect.signature(found).parameters) == list(inspect.signature(inner).parameters)
    assert pickle.loads(pickle.dumps(found)) is found and checked(found) is found


def test_what_is_meant_is_taken(world: World) -> None:
    model, p, full = (world.values[name] for name in ("model", "prompts", "circuit"))
    drawn = [lt.circuits.random_circuits(full, n, seed=n - 1) for n in (2, np.int64(2), torch.tensor(2))]
    assert all(torch.equal(a.mask, b.mask) for some in drawn for a, b in zip(some, drawn[0], strict=True))
    vector = torch.arange(8.0)
    steered = [
        lt.steer(model, p, written, places="resid_post.0", coefficient=scale).after
        for written, scale in ((vector, 2.0), (vector.tolist(), 2), (vector.numpy(), np.float32(2)), (range(8), 2))
    ]
    assert all(torch.equal(one, steered[0]) for one in steered)
    zero = lt.ablate(model, p, ["0.0"], ablation="zero").after
    assert torch.equal(lt.ablate(model, p, ["0.0"], ablation="value", value=0).after, zero)
    assert torch.equal(lt.ablate(model, p, ["0.0"], ablation="value", value=[0.0] * 4).after, zero)
    for sender in ("0.1", "a0.h1", "L0H1", (0, 1), lt.Head(0, 1)):
        assert lt.path_patch(model, p, senders=[sender]).nodes == ((lt.Head(0, 1),),)


REFUSED: dict[str, tuple[Any, str]] = {
    "a flag as text": (
        lambda w: lt.load("or-gate", fold_ln="False"),
        "Expected fold_ln as True or False, got 'False'; True is the default.",
    ),
    "a check as text": (lambda w: lt.load("or-gate", check="no"), "Expected check as True or False, got 'no'"),
    "together as text": (
        lambda w: lt.ablate(w["model"], w["prompts"], together="False"),
        "Expected together as True or False, got 'False'; False is the default.",
    ),
    "a flag for a file": (
        lambda w: lt.ablate(w["model"], w["prompts"], resume=True),
        "Expected resume as text or a path, got True; give that, or leave it out.",
    ),
    "no device": (lambda w: lt.load("or-gate", device=None), "got None; 'auto' is the default."),
    "swapped": (lambda w: lt.evaluate(w["model"], w["circuit"], w["prompts"]), "in each other's place: swap them."),
    "a text for prompts": (
        lambda w: lt.patch_sweep(w["model"], "text"),
        "Expected prompts as a PromptSet, got 'text'; make one with ioi(model) or from_pairs(model, pairs).",
    ),
    "complex": (
        lambda w: lt.steer(w["model"], w["prompts"], torch.ones(8), places="resid_post.0", coefficient=1j),
        "Expected coefficient as a number, got 1j; 1.0 is the default.",
    ),
    "no receivers": (lambda w: lt.path_patch(w["model"], w["prompts"], receivers=[]), "Expected a list of receivers"),
    "misspelt": (
        lambda w: lt.path_patch(w["model"], w["prompts"], sender=[]),
        "got 'sender'; leave it out. Did you mean 'senders'?",
    ),
    "too few": (lambda w: lt.ablate(w["model"]), "Expected prompts for ablate, got none; write ablate(model, prompts"),
    "too many": (
        lambda w: lt.path_patch(w["model"], w["prompts"], ["0.0"]),
        "Expected at most 2 arguments of path_patch without their names, got 3; give senders, receivers,",
    ),
    "twice": (lambda w: lt.describe(w["model"], model=w["model"]), "Expected model of describe once, got it twice"),
    "an option of a method": (
        lambda w: lt.discover(w["model"], w["prompts"], n_edges=3, steps="x"),
        "Expected steps as a whole number, got 'x'; 5 is the default.",
    ),
    "a long name": (
        lambda w: lt.ablate(w["model"], w["prompts"], resume="a" * 5000),
        "Expected resume as text or a path, got text of 5,000 characters; give that, or leave it out.",
    ),
    "a metric that takes the position": (
        lambda w: lt.ablate(w["model"], w["prompts"], metric=lambda logits: logits[:, -1, 3]),
        "[*lead batch d_vocab] = [2, 204], and on them it fails (IndexError: too many indices",
    ),
    "two windows": (
        lambda w: lt.knock_out(w["model"], w["prompts"], "END", 1, layers=[1], window=2),
        "Expected window= or layers=, got both (window=2); leave one out.",
    ),
    "a mean of zero": (
        lambda w: lt.ablate(w["model"], w["prompts"], ablation="zero", over="global"),
        "Expected over= and reference= with a mean, got ablation='zero'; leave them out.",
    ),
    "a context of nobody": (lambda w: lt.load("tiny-english", n_ctx=10**9), "Expected n_ctx up to 64, the model's"),
    "a tokenizer of nobody": (lambda w: lt.load("or-gate", n_ctx=2), "Expected n_ctx= and tokenizer= of trained"),
    "a coefficient of nothing": (
        lambda w: lt.interventions.generate(w["model"], "When Mary", coefficient=2.0),
        "Expected coefficient= with a vector, got 2.0 without one; leave it out.",
    ),
    "a sample of tokens": (
        lambda w: lt.validate(w["model"], w["prompts"], "rollout", sample=5),
        "Expected sample= with scores of nodes, got 5 with scores of tokens; leave it out.",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_meant_is_one_sentence(name: str, world: World) -> None:
    call, sentence = REFUSED[name]
    with pytest.raises(LLMTraceError) as error:
        call(world.values)
    assert sentence in str(error.value) and "\n" not in str(error.value), str(error.value)


def test_a_plan_reads_its_arguments_too(world: World) -> None:
    with pytest.raises(InputError, match="Expected together as True or False"):
        lt.plan(lt.ablate, world.values["model"], world.values["prompts"], together=1)


def test_only_the_outermost_call_is_read() -> None:
    """What functions of the package give each other is theirs, and costs nothing; after an error all are read again."""
    seen: list[object] = []

    def inner(k: int) -> None:
        seen.append(k)

    def outer(k: int, fail: bool = False) -> None:
        read("x")  # type: ignore[arg-type]
        if fail:
            raise ValueError

    read, call = checked(inner), checked(outer)
    call(1)
    assert seen == ["x"]
    with pytest.raises(ValueError):
        call(1, fail=True)
    with pytest.raises(InputError, match="Expected k as a whole number, got 'x'"):
        read("x")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("annotation", "taken", "refused"),
    [
        (int, [3, np.int64(3), np.array(3), torch.tensor(3)], [True, 3.0, "3", np.array([3]), None]),
        (float, [1, 0.5, np.float32(0.5), float("inf")], [True, float("nan"), 1j, "1", None]),
        (bool, [True, np.True_], [1, 0, "False", None]),
        (list[int], [[1], np.array([1]), (1,)], [1, "1", [1.5], [[1]], {1: 2}]),
        (tuple[int, int], [(1, 2), [1, 2]], [(1,), (1, 2, 3), "12"]),
        (list[int] | tuple[int, int], [[1, 2], (1, 2)], [(1,)]),
        (dict[str, int], [{"a": 1}], [[("a", 1)], {1: 1}, {"a": "b"}]),
    ],
    ids=str,
)  # fmt: skip
def test_an_annotation_reads(annotation: Any, taken: list[Any], refused: list[Any]) -> None:
    reading = reading_of(annotation)
    assert reading is not None
    for value in taken:
        plain = reading.read(value)
        assert not isinstance(plain, np.ndarray | np.generic | torch.Tensor)
    for value in refused:
        with pytest.raises(Unfit):
            reading.read(value)
