"""`llmtrace console`: the Inspection Console on a model, or over a folder of what was saved."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmtrace.cli.options.prompts import Asked
from llmtrace.cli.options.shared import Device, Dtype, Seed, Task
from llmtrace.cli.output.screen import working
from llmtrace.errors import InputError, LLMTraceError, UnsupportedError

if TYPE_CHECKING:
    from llmtrace.console.live.source import Live
    from llmtrace.console.schemas import NewRun
    from llmtrace.models import TraceModel

FIRST = 4  # prompts of a task, as runs to begin with


def console(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="A model (as every command takes), or a folder that was saved.")
    ],
    prompt: Annotated[str | None, typer.Option("--prompt", metavar="TEXT", help="The first run.")] = None,
    against: Annotated[
        str | None, typer.Option("--against", metavar="TEXT", help="Of --prompt: the other one, as long in tokens.")
    ] = None,
    correct: Annotated[
        str | None, typer.Option("--correct", metavar="WORD", help="Of --prompt.  [default: what the model says]")
    ] = None,
    wrong: Annotated[
        str | None,
        typer.Option("--wrong", metavar="WORD", help="Of --prompt.  [default: what it says to --against]"),
    ] = None,
    task: Task = None,
    port: Annotated[int, typer.Option("--port", metavar="PORT", help="Of this machine.  [default: any]")] = 0,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Print the address and open nothing.")] = False,
    device: Device = "auto",
    dtype: Dtype = "float32",
    seed: Seed = 0,
) -> None:
    """Look into a model in the browser: follow a prediction to a head, change it, see what changes.

    Prints one address with its token. Nothing leaves this machine. A folder is read only, and needs no model.
    """
    if missing := [name for name in ("fastapi", "uvicorn") if find_spec(name) is None]:
        raise UnsupportedError(f"The console needs {' and '.join(missing)}: pip install 'llmtrace-interp[console]'.")
    of_prompt = {"--against": against, "--correct": correct, "--wrong": wrong}
    if given := [name for name, value in of_prompt.items() if value is not None and prompt is None]:
        raise InputError(f"Expected {given[0]} with --prompt, got it alone; give --prompt, or leave it out.")

    from llmtrace.console.folder import Folder, holds
    from llmtrace.console.service.serve import serve

    if holds(Path(source)):
        if prompt is not None or task is not None:
            raise InputError("Expected a folder alone, got prompts too, which need a model; leave them out.")
        serve(Folder(Path(source)), port=port, browser=not no_browser)
        return
    asked = Asked(task, None if task is None else FIRST, texts=() if prompt is None else (prompt,), seed=seed)
    live, model = _live(source, device, dtype)

    from llmtrace.console.schemas import NewRun

    if prompt is not None:
        live.add(NewRun(prompt=prompt, against=against, correct=correct, wrong=wrong))
    else:
        try:
            for run in _runs(model, asked, source):
                live.add(run)
        except LLMTraceError as error:
            if task is not None:
                raise
            print(f"No prompts to begin with ({error}); write your own in the page.", file=sys.stderr)
    serve(live, port=port, browser=not no_browser)


def _live(source: str, device: str, dtype: str) -> tuple[Live, TraceModel]:
    with working(f"loading {source}"):
        from llmtrace.console.live.source import Live
        from llmtrace.models import load

        model = load(source, device=device, dtype=dtype)
        said = {"device": (device, "auto"), "dtype": (dtype, "float32")}
        options = "".join(f", {name}={value!r}" for name, (value, default) in said.items() if value != default)
        return Live(model, source, load=f"lt.load({source!r}{options})"), model


def _runs(model: TraceModel, asked: Asked, source: str) -> Iterator[NewRun]:
    """The first prompts of a task, or the first task's."""
    from llmtrace.console.schemas import NewRun

    prompts: Any = asked.make(model, source)
    for i in range(min(FIRST, len(prompts))):
        words = [prompts.answer_texts[side[i][0]] for side in (prompts.correct, prompts.wrong) if side[i]]
        named = dict(zip(("correct", "wrong"), words, strict=False))
        yield NewRun(prompt=prompts.texts[i], against=prompts.corrupted_texts[i], **named)
