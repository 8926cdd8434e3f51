"""Options that come in groups. A command takes a group as one keyword, and the command line sees the group's fields.

    def heads(model: Source, by: ... = "induction", *, common: OnTexts) -> None:
        run = common.run("heads", model, {"by": by})

`ungrouped` is what typer reads: the same command with the fields in the place of the group, most particular ones first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from functools import cache, wraps
from inspect import Parameter, Signature, get_annotations, signature
from typing import Any

from llmtrace.cli.options import (
    Corruption,
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
from llmtrace.cli.prompts import Asked
from llmtrace.cli.run import Run


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
        return Run(command, source, self.json, self.out, self.overwrite, self.device, self.dtype, self.asked(), options)


@dataclass(frozen=True, kw_only=True)
class OnPairs(Common):
    """Of commands whose prompts must have answers."""

    prompts: File = None
    task: Task = None
    n: N = None
    corruption: Corruption = None

    def asked(self) -> Asked:
        return Asked(self.task, self.n, self.corruption, self.prompts, seed=self.seed)


@dataclass(frozen=True, kw_only=True)
class OnTexts(OnPairs):
    """Of commands that take texts as they stand too."""

    prompt: Texts = None

    def asked(self) -> Asked:
        return Asked(self.task, self.n, self.corruption, self.prompts, tuple(self.prompt or ()), self.seed)


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
        made = {
            name: group(**{part.name: said.pop(part.name) for part in fields(group)}) for name, group in groups.items()
        }
        command(**said, **made)

    called.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    called.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return called


@cache
def _options(group: type[Any]) -> tuple[Parameter, ...]:
    """Fields as keyword parameters: those of the class itself before those that it inherits."""
    defaults = {part.name: part.default for part in fields(group)}
    return tuple(
        Parameter(name, Parameter.KEYWORD_ONLY, default=defaults[name], annotation=annotation)
        for kind in group.__mro__
        for name, annotation in get_annotations(kind, eval_str=True).items()
    )
