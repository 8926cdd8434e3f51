"""What was found in a file: runs, and the answers that there are for each."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from llmtrace.console.schemas import Run, Schema, Side, Token

Patterns = Mapping[int, Callable[[], Any]]  # layer -> [head query key]
NO_ID = -1  # of a token of which only the text was saved


@dataclass(eq=False)
class StoredRun:
    """`answers`: (view, its parameters) -> the answer; `patterns` are read when they are asked for;
    `row`: of the trace that they are in."""

    about: Run
    patterns: Patterns = field(default_factory=dict)
    row: int = 0
    answers: dict[tuple[str, tuple[tuple[str, str], ...]], Schema] = field(default_factory=dict)

    def put(self, view: str, answer: Schema, **parameters: object) -> None:
        self.answers[view, tuple(sorted((name, str(value)) for name, value in parameters.items()))] = answer

    def of(self, view: str) -> dict[tuple[tuple[str, str], ...], Schema]:
        return {query: answer for (name, query), answer in self.answers.items() if name == view}


@dataclass(eq=False)
class Found:
    """`why`: what it does not give -> the reason."""

    runs: list[StoredRun] = field(default_factory=list)
    why: dict[str, str] = field(default_factory=dict)


def stored_run(
    name: str, python: str, provenance: Mapping[str, Any], *, tokens: Sequence[Token] = (), metric: str = "",
    about: object = "",
) -> StoredRun:  # fmt: skip
    """A run of which nobody kept the answers and their logits."""
    digest = hashlib.sha256(repr((name, about, tokens)).encode()).hexdigest()[:16]
    side = Side(prompt="", tokens=list(tokens), log_probability=[None] * len(tokens), top=[], metric=None, entropy=None)
    return StoredRun(
        Run(
            id=digest, parent=None, name=name, clean=side, against=None, correct=None, wrong=None, metric=metric,
            value=None, before=None, edits=[], python=python, provenance=dict(provenance),
        )
    )  # fmt: skip


def together(runs: Mapping[str, StoredRun]) -> dict[str, StoredRun]:
    """What a file without tokens says of a model (a circuit, effects) is shown beside each run of that model that has
    some; alone, it is a run of its own."""
    found = {id: run for id, run in runs.items() if run.about.clean.tokens}
    with_tokens = [*found.values()]
    for id, run in runs.items():
        if id in found:
            continue
        weights = run.about.provenance.get("weights")
        same = [other for other in with_tokens if weights and other.about.provenance.get("weights") == weights]
        for other in same:
            of_other = {at: answer.model_copy(update={"run": other.about.id}) for at, answer in run.answers.items()}
            other.answers = of_other | other.answers
        if not same:
            found[id] = run
    return found


def texts(labels: Sequence[str], ids: Sequence[int] | None = None) -> list[Token]:
    return [Token(id=NO_ID if ids is None else ids[i], text=str(text)) for i, text in enumerate(labels)]
