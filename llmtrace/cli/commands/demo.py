"""`llmtrace demo`: the whole road on the model that comes with the package, without network, in under a minute."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from llmtrace.cli.demo.words import sections, show
from llmtrace.cli.options.prompts import Asked
from llmtrace.cli.options.shared import Device, Dtype, Json, Overwrite, Seed
from llmtrace.cli.output.run import Run

MODEL, CIRCUIT, FOLDER = "tiny-english", "circuit.json", "llmtrace-demo"


def demo(
    n: Annotated[int, typer.Option("-n", min=8, metavar="N", help="How many sentences.")] = 32,
    json: Json = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FOLDER", help=f"Where to write.  [default: {FOLDER}, or {FOLDER}-2, ...]"),
    ] = None,
    overwrite: Overwrite = False,
    device: Device = "auto",
    dtype: Dtype = "float32",
    seed: Seed = 0,
) -> None:
    """The whole road on a small model, offline.

    Shows a prediction, ranks heads by direct attribution, tests them by path patching and mean ablation, discovers the
    circuit, evaluates it on held-out sentences, and writes a folder with the trace, circuit.json and report.html.
    """
    folder = out or (Path(FOLDER) if overwrite else _new(FOLDER))
    run = Run("demo", MODEL, json, folder, overwrite, device, dtype, Asked(task="ioi", n=n, seed=seed), {"n": n})

    from llmtrace.cli.demo.steps import find

    found = find(run)
    run.finish(
        found.rows,
        show=lambda screen: show(screen, found, folder),
        model=found.model,
        prompts=found.prompts,
        metric=found.metric,
        summary=found.summary,
        save=lambda draft: (found.trace.save(draft / "trace"), found.circuit.save(draft / CIRCUIT)),
        sections=lambda: sections(found),
    )


def _new(name: str) -> Path:
    """The first of name, name-2, name-3, ... that does not exist."""
    path, number = Path(name), 1
    while path.exists():
        number += 1
        path = Path(f"{name}-{number}")
    return path
