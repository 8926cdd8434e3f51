"""The words of public functions: each stands in the glossary, means one thing, and old words are gone."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from test_package import PACKAGES

import llmtrace

PAGE = Path(__file__).parent.parent / "tutorials/manual/glossary.md"
# Each of these once stood beside the word that is left: ablation, memory, positions or places, draws.
GONE = {"mode", "batch_size", "targets", "target", "at", "samples", "n_random"}
EVERYWHERE = ("everywhere", "")


def functions() -> Iterator[tuple[str, Callable[..., Any]]]:
    """Every public function of every room, by its path; rows of tables are among them."""
    for room in PACKAGES:
        for name in dir(getattr(llmtrace, room)):
            found = getattr(getattr(llmtrace, room), name)
            if callable(found) and not isinstance(found, type | ModuleType):
                yield f"{room}.{name}", found


def words_of(function: Callable[..., Any]) -> list[str]:
    try:
        return list(inspect.signature(function).parameters)
    except ValueError:  # an alias of types
        return []


@cache
def entries(*, of_things: bool = False) -> list[tuple[tuple[str, ...], str, str]]:
    """(words, meaning, where) of every row; words that are explained together stand in one row."""
    things, _, words = PAGE.read_text(encoding="utf-8").partition("## What is run")
    rows = [line.strip("|").split(" | ") for line in (things if of_things else words).splitlines() if line[:2] == "| "]
    return [
        (tuple(words.strip().split(", ")), meaning, where.strip())
        for words, meaning, where in rows
        if words.strip() != "word"
    ]


def test_every_word_of_a_public_function_is_explained() -> None:
    known = set().union(*(words for words, _, _ in entries()))
    missing = {word: where for where, function in functions() for word in words_of(function) if word not in known}
    assert missing == {}


def test_no_word_that_is_gone_comes_back() -> None:
    assert [(where, word) for where, function in functions() for word in words_of(function) if word in GONE] == []


@pytest.mark.parametrize("entry", [*entries(), *entries(of_things=True)], ids=lambda entry: entry[0][0])
def test_a_word_is_explained_and_is_where_it_is_said_to_be(entry: tuple[tuple[str, ...], str, str]) -> None:
    words, meaning, where = entry
    named = [found_at(name) for name in re.findall(r"`([\w.]+)`", where)]
    assert meaning.strip() and (named or where in EVERYWHERE)
    if entry not in entries(of_things=True):
        assert all(set(words) & set(words_of(function)) for function in named)


def found_at(name: str) -> Any:
    found: Any = llmtrace
    for part in name.split("."):
        found = getattr(found, part)
    return found
