"""What a researcher must know before running a method stands with it: source, cost, sign, known failure, an example.

In the examples `model` is tiny-english and `prompts` are four of its indirect objects: `lt.prompts.ioi(model, 4)`.
"""

from __future__ import annotations

import doctest
import importlib
import inspect
import math
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import llmtrace as lt
from llmtrace.methods import Method, sentence_after

PACKAGE = Path(lt.__file__).parent
TABLES = {
    "influence": lt.influence.METHODS,
    "detectors": lt.influence.DETECTORS,
    "interventions": lt.interventions.METHODS,
    "circuits": lt.circuits.METHODS,
    "metrics": lt.metrics.METRICS,
}
ROWS = [pytest.param(row, id=f"{table}-{name}") for table, rows in TABLES.items() for name, row in rows.items()]
NO_PAPER = {"raw_attention", "current_token", "probability", "log_probability"}
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


@pytest.mark.parametrize("row", ROWS)
def test_a_row_says_what_must_be_known(row: Method) -> None:
    facts = row.facts()
    assert [fact for fact in ("summary", "cost", "sign", "failure") if not facts[fact]] == []
    assert facts["source"] or row.name in NO_PAPER


def modules_of_methods() -> Iterator[str]:
    """Where the public functions of influence, interventions and discovery are that run a model or read its weights."""
    found = {str(row.facts()["where"]).partition(":")[0] for rows in TABLES.values() for row in rows.values()}
    for room in (lt.influence, lt.interventions):
        for name in dir(room):
            function = getattr(room, name)
            if not inspect.isclass(function) and callable(function) and "engine" not in function.__module__:
                found |= {function.__module__} if "model" in inspect.signature(function).parameters else set()
    yield from sorted(found)


def modules_with_examples() -> Iterator[str]:
    for path in sorted(PACKAGE.rglob("*.py")):
        if re.search(r"^ *>>> ", path.read_text(encoding="utf-8"), re.MULTILINE):
            yield ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


@pytest.mark.parametrize("name", list(modules_of_methods()))
def test_a_method_says_what_must_be_known_and_shows_itself(name: str) -> None:
    text = module_of(name).__doc__ or ""
    for word in ("Source", "Cost", "Sign", "Known failure"):
        assert sentence_after(word, text) or (word == "Source" and name.endswith(("raw_attention", "probabilities")))
    assert name in modules_with_examples()


class Nearly(doctest.OutputChecker):
    """Text as it is, however its lines are broken; numbers within two percent: machines round differently."""

    def check_output(self, want: str, got: str, optionflags: int) -> bool:
        texts = [NUMBER.sub("#", " ".join(text.split())) for text in (want, got)]
        numbers = zip(NUMBER.findall(want), NUMBER.findall(got), strict=False)
        return texts[0] == texts[1] and all(
            math.isclose(float(a), float(b), rel_tol=0.02, abs_tol=0.01) for a, b in numbers
        )


@cache
def world() -> dict[str, Any]:
    model = lt.load("tiny-english")
    return {"lt": lt, "model": model, "prompts": lt.prompts.ioi(model, 4)}


@pytest.mark.parametrize("name", list(modules_with_examples()))
def test_an_example_gives_what_it_says(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # some write a file
    examples = doctest.DocTestFinder(recurse=False).find(module_of(name), globs=world())
    said: list[str] = []
    runner = doctest.DocTestRunner(Nearly(), verbose=False)
    for example in examples:
        runner.run(example, out=said.append)
    assert runner.tries and not runner.failures, "".join(said)


def module_of(name: str) -> ModuleType:
    return importlib.import_module(name)
