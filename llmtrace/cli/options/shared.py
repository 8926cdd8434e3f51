"""Options that several commands share, declared once, and the small grammars of their values."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from llmtrace.errors import InputError, require_one_of
from llmtrace.interventions.rows import DIRECTION
from llmtrace.metrics.rows import METRICS
from llmtrace.nodes import parse_node
from llmtrace.prompts.rows import MAKERS

TASKS = tuple(name for name, row in MAKERS.items() if not row.needs)
SIDES = ("clean", "corrupted")


def unit_of(metric: str) -> str | None:
    """None for a metric of the user's own."""
    return METRICS[metric].gives if metric in METRICS else None


def one_of(names: Iterable[str]) -> str:
    """A metavar: `zero|mean|resample`."""
    return "|".join(names)


Source = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="An embedded model (tiny-english), a name that TransformerLens knows (gpt2), a hub name, a Hugging Face "
        "folder or a .gguf file. `llmtrace models` lists names.",
    ),
]

Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON object instead (fields: llmtrace/cli/output/documents.py).")
]
Out = Annotated[
    Path | None,
    typer.Option(
        "--out", metavar="FOLDER", help="Write the result into this new folder; it appears whole or not at all."
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Let --out replace a folder that llmtrace wrote before.")]
Device = Annotated[str, typer.Option("--device", metavar="auto|cpu|cuda", help="Where the model runs.")]
Dtype = Annotated[
    str, typer.Option("--dtype", metavar="float64|float32|float16|bfloat16", help="Number type of the weights.")
]
Seed = Annotated[int, typer.Option("--seed", metavar="SEED", help="Of prompts, bootstrap and random circuits.")]

Task = Annotated[
    str | None,
    typer.Option("--task", metavar=one_of(TASKS), help=f"Make prompts of this kind.  [default: {TASKS[0]}]"),
]
N = Annotated[int | None, typer.Option("-n", "--n", metavar="N", help="How many prompts to make.  [default: 16]")]
File = Annotated[
    Path | None,
    typer.Option(
        "--prompts",
        metavar="FILE.jsonl",
        help='Your own prompts, one object per line: {"clean": ..., "corrupted": ..., "correct": ..., "wrong": ...}.',
    ),
]
Texts = Annotated[
    list[str] | None,
    typer.Option(
        "--prompt", metavar="TEXT", help="A prompt as it stands, without answers; may be given several times."
    ),
]
MetricName = Annotated[
    str | None,
    typer.Option("--metric", metavar=one_of(METRICS), help="What is measured.  [default: the task's own]"),
]
Positions = Annotated[
    str | None,
    typer.Option("--positions", metavar="PLACES", help="Only there, such as S2,END,-1.  [default: everywhere]"),
]
Memory = Annotated[
    str, typer.Option("--memory", metavar="SIZE", help="What may be used beside the weights, such as 2GB.")
]
Resume = Annotated[
    Path | None,
    typer.Option(
        "--resume", metavar="FILE", help="Partial results: taken up where they are, kept when a run is stopped."
    ),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Say how many passes and how much memory it would take, and run nothing.")
]
Direction = Annotated[
    str, typer.Option("--direction", metavar=one_of(DIRECTION.one_of), help=f"{DIRECTION.says.capitalize()}.")
]
Top = Annotated[
    int, typer.Option("--top", min=1, metavar="K", help="Rows on the screen; --json and --out have all of them.")
]


def choice(option: str, value: str, names: tuple[str, ...]) -> Any:
    """`value`, one of `names`. Refused before a model is loaded."""
    require_one_of(option, names, value)
    return value


def words(option: str, text: str | None, *, example: str = "pattern,z") -> list[str] | None:
    """`pattern,z` is ["pattern", "z"]. Raises InputError for a list of nothing; None stays None."""
    if text is None:
        return None
    found = [part.strip() for part in text.split(",") if part.strip()]
    if not found:
        raise InputError(f"Expected {option} to name something, such as {example}; got {text!r}.")
    return found


def numbers(option: str, text: str | None) -> list[int] | None:
    """`0,2-4` is [0, 2, 3, 4]."""
    parts = words(option, text, example="0,2-4")
    found: list[int] = []
    for part in parts or ():
        first, dash, last = part.partition("-")
        if not first.isdigit() or (dash and not last.isdigit()):
            raise InputError(f"Expected {option} as numbers and ranges such as 0,2-4; got {text!r}.")
        found += range(int(first), int(last if dash else first) + 1)
    return None if parts is None else found


def places(option: str, text: str | None) -> list[str | int] | None:
    """`END,S2,-1` is ["END", "S2", -1]."""
    parts = words(option, text, example="END,S2,-1")
    return None if parts is None else [int(part) if re.fullmatch(r"-?[0-9]+", part) else part for part in parts]


def attention(option: str, text: str) -> tuple[list[str | int], list[str | int]]:
    """`END<-S1,S2` is (["END"], ["S1", "S2"]): these queries no longer see these keys."""
    queries, arrow, keys = text.partition("<-")
    if not arrow:
        raise InputError(f"Expected {option} as queries <- keys, such as 'END<-S1,S2'; got {text!r}.")
    return places(option, queries) or [], places(option, keys) or []


def interventions(option: str, text: str | None) -> list[Any] | None:
    """`9.6@END,a9.h9<q>;m3@S1+S2` is one intervention of two places, and one of one."""
    if text is None:
        return None
    return [words(option, part, example="9.6@END,m3;a9.h9<q>@S2") or [] for part in text.split(";")]


def nodes(option: str, text: str | None) -> list[Any] | None:
    """`9.6,m3` is [Head(9, 6), Mlp(3)]. Raises InputError for what is not the name of a node."""
    parts = words(option, text, example="9.6,m3")
    return None if parts is None else [parse_node(part) for part in parts]
