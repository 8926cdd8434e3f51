"""Options that rows declare, as typer's: what a method takes is said once, in its row, and refused by its row.

A group of options has a field for all of them, and the command line has one option for each:

    @dataclass(frozen=True, kw_only=True)
    class ScoreOptions(Typed):
        said: Said = field(default_factory=dict, metadata=from_rows(METHODS.values()))

`said` is what was typed, by name; what was not is not there.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from inspect import Parameter
from pathlib import Path
from typing import Annotated, Any

import typer

from llmtrace.cli.options.shared import choice, nodes, numbers, one_of, places
from llmtrace.errors import InputError
from llmtrace.methods import Kind, Method, Option

ROWS = "rows"  # of a field's metadata: the parameters that stand in its place
Said = Mapping[str, Any]
TYPES: dict[Kind, tuple[type, str]] = {
    "whole": (int, "N"), "number": (float, "X"), "flag": (bool, ""), "word": (str, "WORD"), "size": (str, "SIZE"),
    "layers": (str, "LAYERS"), "nodes": (str, "NODES"), "places": (str, "PLACES"), "file": (Path, "FILE"),
}  # fmt: skip
READ: dict[Kind, Callable[[str, Any], Any]] = {"layers": numbers, "nodes": nodes, "places": places}


def from_rows(rows: Iterable[Method], *, but: Collection[str] = ()) -> dict[str, Any]:
    """For a field that stands for every option of these rows, without those that the command has itself."""
    found: dict[str, list[tuple[str, Option]]] = {}
    several = list(rows)
    for row in several:
        for option in row.options:
            if option.name not in but:
                found.setdefault(option.name, []).append((row.name, option))
    return {ROWS: {name: _parameter(name, said, len(several)) for name, said in found.items()}}


def _parameter(name: str, said: list[tuple[str, Option]], rows: int) -> Parameter:
    first = said[0][1]
    kind, metavar = TYPES[first.kind]
    words = tuple(dict.fromkeys(word for _, option in said for word in option.one_of))
    declared = f"{flag(name)}/{flag(f'no_{name}')}" if first.kind == "flag" else flag(name)
    least = None if first.least is None else min(option.least or 0 for _, option in said)
    shown = None if first.kind == "flag" else one_of(words) or metavar
    told = typer.Option(declared, metavar=shown, min=least, help=_help(said, rows))
    return Parameter(name, Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, told])


def _help(said: list[tuple[str, Option]], rows: int) -> str:
    """Methods that say the same of an option say it once; an option of all of them names none."""
    by_text: dict[tuple[str, str], list[str]] = {}
    for method, option in said:
        by_text.setdefault((option.says, option.default), []).append(method)
    parts = []
    for (says, default), methods in by_text.items():
        whose = "" if len(methods) == rows else f"For {_listed(methods)}: "
        parts.append(f"{whose}{says}.{f'  [default: {default}]' if default else ''}")
    return " ".join(parts)


def _listed(names: list[str]) -> str:
    return ", ".join(names[:-1]) + (" and " if names[:-1] else "") + names[-1]


def flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def flags(typed: Said) -> str:
    """As typed, with a leading space; nothing for what was not."""
    said = ""
    for name, value in typed.items():
        if isinstance(value, bool):
            said += f" {flag(name)}" if value else f" {flag(f'no_{name}')}"
        else:
            each = value if isinstance(value, list) else [] if value is None else [value]
            said += "".join(f" {flag(name)} {shlex.quote(str(one))}" for one in each)
    return said


def given(row: Method, said: Said) -> dict[str, Any]:
    """What was typed, as the method takes it. An option that it would not look at is refused: nobody shall believe
    that it had an effect."""
    takes = {option.name: option for option in row.options}
    for name in said:
        if name not in takes:
            known = ", ".join(map(flag, takes)) or "no option of other methods"
            raise InputError(f"{row.name} takes {known}, got {flag(name)}; leave it out.")
    for name, value in said.items():
        if takes[name].one_of:
            choice(flag(name), value, takes[name].one_of)
    return as_kinds(row, said)


def as_kinds(row: Method, said: Said) -> dict[str, Any]:
    """`0,2-4` of layers as [0, 2, 3, 4], and so on."""
    kinds = {option.name: option.kind for option in row.options}
    return {name: READ[kind](flag(name), said[name]) if (kind := kinds[name]) in READ else said[name] for name in said}


def recorded(row: Method, said: Said) -> dict[str, Any]:
    """As a result's file has it: read, but for nodes and files, which stay as they were typed."""
    kinds = {option.name: option.kind for option in row.options}
    read = given(row, said)
    return {name: str(said[name]) if kinds[name] in ("nodes", "file") else value for name, value in read.items()}


@dataclass(frozen=True, kw_only=True)
class Typed:
    """A group whose options are those of methods."""

    said: Said = field(default_factory=dict)

    def flags(self) -> str:
        return flags(self.said)
