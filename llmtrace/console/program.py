"""What a person did, as Python that gives the same numbers: "Copy as Python". Imports no torch.

A program loads the model, makes the prompts, puts the edits on, and ends with its value in `result`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llmtrace.console.schemas import Ablate, Edit, KnockOut, Patch, Steer

NAMES = {"ablate": "Ablate", "patch": "PatchIn", "knock_out": "KnockOut", "steer": "Steer"}


@dataclass(frozen=True)
class Answer:
    """An answer token; `word`: as it is written, where that gives the token back."""

    id: int
    word: str | None


@dataclass(frozen=True)
class Program:
    """`load`: how the model is had, as code."""

    load: str
    prompt: str
    against: str | None
    correct: Answer
    wrong: Answer
    edits: tuple[Edit, ...] = ()

    def of(self, *lines: str) -> str:
        """The program whose last lines, under the edits, are these."""
        edits = f"with edited(model, prompts, [{', '.join(written(edit, self.against) for edit in self.edits)}]):"
        body = [edits, *(f"    {line}" if line else "" for line in lines)] if self.edits else [*lines]
        return "\n".join([*self._imports, "", f"model = {self.load}", *self._prompts, *body, ""])

    @property
    def _imports(self) -> list[str]:
        used = sorted({NAMES[edit.kind] for edit in self.edits})
        return [
            *([] if self._by_words else ["from dataclasses import replace", ""]),
            "import llmtrace as lt",
            *([f"from llmtrace.interventions import {', '.join([*used, 'edited'])}"] if used else []),
        ]

    @property
    def _by_words(self) -> bool:
        return self.against is not None and None not in (self.correct.word, self.wrong.word)

    @property
    def _prompts(self) -> list[str]:
        ids = f"correct=(({self.correct.id},),), wrong=(({self.wrong.id},),)"
        if self.against is None:
            return [f"prompts = replace(lt.from_texts(model, {self.prompt!r}), {ids})"]
        if self._by_words:
            four = ", ".join(map(repr, (self.prompt, self.against, self.correct.word, self.wrong.word)))
            return [f"prompts = lt.from_pairs(model, [({four})])"]
        other = f"lt.from_texts(model, {self.against!r})"
        return [
            f"other = {other}",
            f"prompts = replace(lt.from_texts(model, {self.prompt!r}), corrupted=other.clean, {ids})",
        ]


def written(edit: Edit, against: str | None) -> str:
    """An edit as the library's own value; a mean is that over all positions of the other prompt, or of this one."""
    match edit:
        case Ablate(node=node, how=how):
            side = "clean" if against is None else "corrupted"
            mean = [] if how != "mean" else ["over='global'", f"reference={side!r}"]
            return _call("Ablate", [repr(node), repr(how), *_at(edit.positions), *mean])
        case Patch(node=node):
            return _call("PatchIn", [repr(node), *_at(edit.positions)])
        case KnockOut():
            given = {"head": edit.head, "query": edit.query, "key": edit.key}
            named = [f"{name}={value}" for name, value in given.items() if value is not None]
            return _call("KnockOut", [str(edit.layer), *named])
        case Steer():
            return _call("Steer", [str(edit.layer), repr(edit.coefficient)])


def _at(positions: list[int] | None) -> list[str]:
    return [] if positions is None else [f"positions={positions!r}"]


def _call(name: str, arguments: Sequence[str]) -> str:
    return f"{name}({', '.join(arguments)})"
