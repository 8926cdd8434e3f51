"""Every noun goes to a file and comes back as it was; what a file cannot hold, or should not, is a sentence."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nouns import NOUNS, effects, prompt_set
from safetensors import safe_open
from safetensors.torch import save_file

import llmtrace as lt
from llmtrace.errors import FileFormatError, InputError, NotFoundError
from llmtrace.results import Result

OWN_FORMAT = ("Trace", "Circuit", "FlowGraph")


def same(one: Any, other: Any, at: str = "") -> None:
    """Equal in type and value, NaN equal to NaN, all the way down."""
    if isinstance(one, torch.Tensor):
        assert one.dtype == other.dtype and torch.equal(one.nan_to_num(7e7), other.nan_to_num(7e7)), at
    elif isinstance(one, np.ndarray):
        assert one.dtype == other.dtype and np.array_equal(one, other), at
    elif is_dataclass(one):
        assert type(one) is type(other), at
        for field in fields(one):
            same(getattr(one, field.name), getattr(other, field.name), f"{at}.{field.name}")
    elif isinstance(one, Mapping):
        assert list(one) == list(other), at
        for key in one:
            same(one[key], other[key], f"{at}.{key}")
    elif isinstance(one, tuple | list):
        assert type(one) is type(other) and len(one) == len(other), at
        for i, (left, right) in enumerate(zip(one, other, strict=True)):
            same(left, right, f"{at}.{i}")
    else:
        assert type(one) is type(other) and (one == other or one != one), at


@pytest.mark.parametrize("name", NOUNS)
def test_every_noun_is_a_table_in_a_notebook(name: str) -> None:
    noun = NOUNS[name](lt)
    assert isinstance(noun, Result) and len(noun.df()) > 0
    shown = noun._repr_html_()
    assert "<table" in shown or name == "Trace"
    assert "<script" not in shown and "<b>bold" not in shown


@pytest.mark.parametrize("name", [name for name in NOUNS if name not in OWN_FORMAT])
def test_every_noun_comes_back_from_its_file(name: str, tmp_path: Path) -> None:
    noun = NOUNS[name](lt)
    found = lt.load_result(noun.save(tmp_path / "noun"))
    same(noun, found)
    assert found.df().equals(noun.df())


def test_what_was_measured_comes_back(tmp_path: Path) -> None:
    model = lt.load("tiny-english")
    p = lt.prompts.ioi(model, 3)
    for found in (
        p,
        lt.path_patch(model, p, senders=["3.2", "m3"]),
        lt.circuits.eap(model, p),
        lt.evaluate(model, p, lt.discover(model, p, n_edges=20), draws=2),
        lt.influence.alti(model, p),
        lt.influence.direct_logit_attribution(model, p),
        lt.influence.head_behaviour(model, draws=2),
    ):
        same(found, lt.load_result(found.save(tmp_path / "it")))


def test_prompts_from_a_file_are_the_prompts_of_what_was_measured(tmp_path: Path) -> None:
    model = lt.load("tiny-english")
    p = lt.prompts.ioi(model, 3)
    again = lt.load_result(p.save(tmp_path / "prompts"))
    assert torch.equal(lt.path_patch(model, again).after, lt.path_patch(model, p).after)


@dataclass(frozen=True)
class Mine(Result):
    value: int = 1


def test_what_no_file_can_hold_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    found = effects(lt)
    with pytest.raises(InputError, match=r"at Effects\.options\.mine, got function; keep it out"):
        replace(found, options={"mine": lambda x: x}).save(tmp_path / "it")
    with pytest.raises(InputError, match="got Mine"):
        Mine().save(tmp_path / "it")
    assert not list(tmp_path.iterdir())


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="a result at 'nowhere', found none"):
        lt.load_result(tmp_path / "nowhere")
    (tmp_path / "text").write_text("no tensors")
    with pytest.raises(FileFormatError, match="wrote, got 'text'"):
        lt.load_result(tmp_path / "text")
    save_file({"x": torch.ones(1)}, tmp_path / "other")
    with pytest.raises(FileFormatError, match=r"Expected a llmtrace\.result file"):
        lt.load_result(tmp_path / "other")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"class": "pathlib:Path", "fields": {}}, "Expected a class of this package, got 'pathlib:Path'"),
        ({"class": "llmtrace.files:read_json", "fields": {}}, "Expected a class of this package"),
        ({"class": "llmtrace.nodes:Head", "fields": {"layer": 1, "head": 2}}, "Expected a result in 'it', got Head"),
        ({"class": "llmtrace.nodes:Head", "fields": {"depth": 1}}, "is damaged"),
        ({"tensor": "gone"}, "is damaged"),
        ([1, 2], "Expected a result in 'it', got list"),
    ],
)
def test_what_a_file_names_is_one_of_our_results_or_refused(content: Any, sentence: str, tmp_path: Path) -> None:
    prompt_set(lt).save(tmp_path / "it")
    with safe_open(tmp_path / "it", framework="pt") as file:
        about = dict(file.metadata())
    save_file({"x": torch.ones(1)}, tmp_path / "it", metadata=about | {"content": json.dumps(content)})
    with pytest.raises(FileFormatError, match=sentence):
        lt.load_result(tmp_path / "it")
    save_file({"x": torch.ones(1)}, tmp_path / "it", metadata=about | {"schema_version": "99"})
    with pytest.raises(FileFormatError, match="99"):
        lt.load_result(tmp_path / "it")
