"""Every row of every table tells what its function is: its options, their defaults, the words that they may be."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any, get_args

import pytest
import torch

from llmtrace import circuits, influence, interventions, models, prompts
from llmtrace.errors import InputError, NotFoundError
from llmtrace.interventions import patching
from llmtrace.methods import Method

# Keywords that no row tells: what is no word or number, and what only a notebook has a use for.
UNTOLD: dict[str, set[str]] = {
    "discovery method": {"graph", "n_edges", "warm_start", "prompts_per_step", "seed"},
    "intervention": {"value", "seed", "places"},
    "prompt maker": {"seed", "templates", "names", "prepend_bos", "length", "name"},
}
TABLES = (
    influence.METHODS, interventions.METHODS, circuits.METHODS, circuits.SELECTIONS, circuits.FORMATS, prompts.MAKERS,
)  # fmt: skip
ROWS = {f"{table.kind} {name}": (row, UNTOLD.get(table.kind, set())) for table in TABLES for name, row in table.items()}


def keywords(function: Callable[..., Any]) -> dict[str, Any]:
    return {p.name: p.default for p in inspect.signature(function).parameters.values() if p.kind is p.KEYWORD_ONLY}


@pytest.mark.parametrize(("row", "untold"), ROWS.values(), ids=ROWS)
def test_a_row_tells_the_options_of_its_function(row: Method, untold: set[str]) -> None:
    """So the command line has all of them, with the defaults that hold."""
    takes = keywords(row.function)
    every = {p.name: p.default for p in inspect.signature(row.function).parameters.values()}
    assert takes.keys() - untold <= {*row.option_names()} <= every.keys()
    for option in row.options:
        default = every[option.name]
        if default is inspect.Parameter.empty:
            assert not option.default
        elif default is None:  # told in words
            assert option.default
        else:
            default = ",".join(default) if isinstance(default, tuple) else default
            told = option.name if default is True else f"no_{option.name}" if default is False else str(default)
            assert option.default == told


def test_readers_of_formats_are_told_too() -> None:
    for row in circuits.FORMATS.values():
        takes = {} if row.read is None else keywords(row.require_read())
        assert {option.name for option in row.reads} == takes.keys() - {"graph"}, row.name


# What a function cannot do without, beside a model and prompts.
GIVEN: dict[str, dict[str, Any]] = {
    "acdc": {"tau": 1.0}, "edge_pruning": {"n_edges": 3}, "patch": {"places": ["z.1"]},
    "patch_sweep": {"what": "z"}, "patch_chains": {"paths": ["a1.h0 -> logits"]},
    "causal_trace": {"subject": ["S2"]}, "project_out": {"directions": torch.ones(64)},
}  # fmt: skip
SPOKEN = [table for table in TABLES if table not in (circuits.SELECTIONS, circuits.FORMATS)]


@pytest.mark.usefixtures("as_users_run")  # else a Literal is refused before our sentence is
@pytest.mark.parametrize("table", SPOKEN, ids=lambda table: table.kind)
def test_the_words_of_an_option_are_those_that_its_function_knows(table: Any) -> None:
    model = models.load("tiny-english")
    for row in table.values():
        for option in row.options:
            asked = 2 if table is prompts.MAKERS else prompts.ioi(model, 2)
            if option.one_of:
                with pytest.raises((InputError, NotFoundError)) as refused:
                    row(model, asked, **GIVEN.get(row.name, {}) | {option.name: "halves"})
                told = str(refused.value).partition("got 'halves'")[0]
                assert {*re.findall(r"\w+", told)} >= {*option.one_of} or option.name == "by", row.name
    assert get_args(patching.By) == interventions.METHODS["patch_sweep"].words("by")  # each kind has some of them


def test_what_a_row_gives_is_what_its_function_returns() -> None:
    kinds = {"tokens": "TokenInfluence", "nodes": "NodeScores", "sources": "SourceScores", "stages": "LensScores",
             "edges": "EdgeScores", "prompts": "PromptSet", "effects": "Effects"}  # fmt: skip
    for table in SPOKEN:
        for name, row in table.items():
            assert kinds[row.gives] in str(inspect.signature(row.function).return_annotation), name
