"""Options that come in groups. A command takes a group as one keyword, and the command line sees the group's fields.

    def heads(model: Source, by: ... = "induction", *, common: OnTexts) -> None:
        run = common.run("heads", model, {"by": by})

`ungrouped` is what typer reads: the same command with the fields in the place of the group, most particular ones first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import cache, wraps
from inspect import Parameter, Signature, get_annotations, signature
from pathlib import Path
from typing import Annotated, Any

import typer

from llmtrace.cli.options.from_rows import ROWS, Said, from_rows
from llmtrace.cli.options.prompts import Asked, Talk, tasks, template_in
from llmtrace.cli.options.scoring import named, refuse_without
from llmtrace.cli.options.shared import (
    Device,
    DryRun,
    Dtype,
    File,
    Json,
    Memory,
    MetricName,
    N,
    Out,
    Overwrite,
    Positions,
    Resume,
    Seed,
    Task,
    Texts,
    Top,
)
from llmtrace.cli.output.run import Run
from llmtrace.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Common:
    """What every command takes."""

    json: Json = False
    out: Out = None
    overwrite: Overwrite = False
    device: Device = "auto"
    dtype: Dtype = "float32"
    seed: Seed = 0

    def asked(self) -> Asked:
        return Asked(seed=self.seed)

    def run(self, command: str, source: str, options: dict[str, Any]) -> Run:
        """`options`: the command's own. Raises InputError for a folder that is taken and for prompts asked twice."""
        asked = self.asked()
        options = options | ({} if asked.talk is None else asked.talk.recorded())
        return Run(command, source, self.json, self.out, self.overwrite, self.device, self.dtype, asked, options)


@dataclass(frozen=True, kw_only=True)
class OnPairs(Common):
    """Of commands whose prompts must have answers."""

    prompts: File = None
    task: Task = None
    n: N = None
    making: Said = field(default_factory=dict, metadata=from_rows(tasks().values()))

    def asked(self) -> Asked:
        return Asked(self.task, self.n, self.making, self.prompts, seed=self.seed)


@dataclass(frozen=True, kw_only=True)
class OnTexts(OnPairs):
    """Of commands that take texts as they stand too."""

    prompt: Texts = None

    def asked(self) -> Asked:
        return Asked(self.task, self.n, self.making, self.prompts, tuple(self.prompt or ()), self.seed)


@dataclass(frozen=True, kw_only=True)
class Talking:
    """A conversation instead of a text."""

    message: Annotated[
        list[str] | None,
        typer.Option(
            "--message",
            metavar="ROLE=TEXT",
            help="Instead, for chat models: user='Who wrote it?', put into the model's own template; may be given "
            "several times (system, user, ...). Each message is a span.",
        ),
    ] = None
    template: Annotated[
        Path | None,
        typer.Option(
            "--template", metavar="FILE", help="Of --message: a chat template (Jinja) instead of the model's."
        ),
    ] = None

    def talk(self, correct: str | None = None, wrong: str | None = None) -> Talk | None:
        """None without a message. Roles may come again, so every message is read alone."""
        given = {"template": self.template, "correct": correct, "wrong": wrong}
        refuse_without("--message", bool(self.message), [name for name, value in given.items() if value is not None])
        if not self.message:
            return None
        example = "user='Who wrote it?'"
        pairs = [pair for text in self.message for pair in named("--message", [text], example=example).items()]
        jinja = None if self.template is None else template_in(self.template)
        return Talk(tuple(pairs), self.template, jinja, correct, wrong)


@dataclass(frozen=True, kw_only=True)
class OnTalks(Talking, OnTexts):
    """Of commands that take conversations too."""

    correct: Annotated[
        str | None, typer.Option("--correct", metavar="WORD", help="Of --message: the right answer, for metrics.")
    ] = None
    wrong: Annotated[
        str | None, typer.Option("--wrong", metavar="WORD", help="Of --message: a wrong one, for logit_diff.")
    ] = None

    def asked(self) -> Asked:
        return replace(super().asked(), talk=self.talk(self.correct, self.wrong))


@dataclass(frozen=True, kw_only=True)
class OneText(Talking, Common):
    """A text or a conversation to go on from."""

    prompt: Annotated[
        list[str] | None, typer.Option("--prompt", metavar="TEXT", help="What the model goes on from, as it stands.")
    ] = None

    def asked(self) -> Asked:
        texts, talk = tuple(self.prompt or ()), self.talk()
        if (not texts) == (talk is None):
            got = "neither" if talk is None else "both"
            raise InputError(
                f"Expected --prompt TEXT or --message ROLE=TEXT, got {got}; give one, such as --prompt 'The sea is'."
            )
        if len(texts) > 1:
            raise InputError(f"Expected one --prompt to go on from, got {len(texts)}; run the command for each.")
        return Asked(texts=texts, seed=self.seed, talk=talk)


@dataclass(frozen=True, kw_only=True)
class Sweep(OnPairs):
    """Of commands that intervene, once for each thing."""

    positions: Positions = None
    metric: MetricName = None
    top: Top = 10
    memory: Memory = "auto"
    resume: Resume = None
    dry_run: DryRun = False


def ungrouped(command: Callable[..., None]) -> Callable[..., None]:
    """`command` with the fields of its groups as parameters of their own."""
    declared = signature(command, eval_str=True).parameters.values()
    groups: dict[str, Any] = {own.name: own.annotation for own in declared if is_dataclass(own.annotation)}
    parameters: list[Parameter] = []
    for own in declared:
        parameters += _options(own.annotation) if own.name in groups else [own.replace(kind=Parameter.KEYWORD_ONLY)]

    @wraps(command)
    def called(**said: Any) -> None:
        command(**{name: _made(group, said) for name, group in groups.items()}, **said)

    called.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    called.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return called


def _made(group: type[Any], said: dict[str, Any]) -> Any:
    """A group of what was said, which loses it: of a field that stands for options of rows, what was typed of them."""
    values: dict[str, Any] = {}
    for part in fields(group):
        if ROWS in part.metadata:
            of_rows = {name: said.pop(name) for name in part.metadata[ROWS]}
            values[part.name] = {name: value for name, value in of_rows.items() if value is not None}
        else:
            values[part.name] = said.pop(part.name)
    return group(**values)


@cache
def _options(group: type[Any]) -> tuple[Parameter, ...]:
    """Fields as keyword parameters: those of the class itself before those that it inherits."""
    parts = {part.name: part for part in fields(group)}
    found: dict[str, Parameter] = {}
    for kind in group.__mro__:
        for name, annotation in get_annotations(kind, eval_str=True).items():
            own = Parameter(name, Parameter.KEYWORD_ONLY, default=parts[name].default, annotation=annotation)
            for said, parameter in parts[name].metadata.get(ROWS, {name: own}).items():
                found.setdefault(said, parameter)
    return tuple(found.values())
