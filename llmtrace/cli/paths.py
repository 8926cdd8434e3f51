"""`llmtrace paths`: what each sender tells the logits directly."""

from __future__ import annotations

from typing import Annotated

import typer

from llmtrace.cli.effects import finish_effects
from llmtrace.cli.options import (
    MLPS,
    Corruption,
    Device,
    Dtype,
    File,
    Json,
    MetricName,
    N,
    Out,
    Overwrite,
    Seed,
    Source,
    Task,
    Top,
    choice,
    nodes,
    one_of,
)
from llmtrace.cli.prompts import Asked
from llmtrace.cli.run import Run


def paths(
    model: Source,
    mlps: Annotated[
        str, typer.Option("--mlps", metavar=one_of(MLPS), help="Whether MLPs on the way see the change.")
    ] = "recomputed",
    senders: Annotated[
        str | None, typer.Option("--senders", metavar="NODES", help="Such as 9.6,m3,input.  [default: every head]")
    ] = None,
    metric: MetricName = None,
    top: Top = 10,
    prompts: File = None,
    task: Task = None,
    n: N = None,
    corruption: Corruption = None,
    json: Json = False,
    out: Out = None,
    overwrite: Overwrite = False,
    device: Device = "auto",
    dtype: Dtype = "float32",
    seed: Seed = 0,
) -> None:
    """Patch each head's direct path to the logits.

    What if the head told the logits what it would say on the corrupted prompt, and every other head stayed as it is?
    """
    options = {"mlps": choice("--mlps", mlps, MLPS), "senders": senders, "metric": metric}
    chosen_senders = nodes("--senders", senders)
    run = Run(
        "paths", model, json, out, overwrite, device, dtype, Asked(task, n, corruption, prompts, seed=seed), options
    )
    traced = run.load()
    chosen = run.prompts(traced)

    from llmtrace.interventions import path_patch

    effects = path_patch(traced, chosen, senders=chosen_senders, mlps=options["mlps"], metric=metric)
    finish_effects(
        run,
        effects,
        traced,
        chosen,
        top,
        heading=f"path patching to the logits (MLPs {mlps})",
        meaning="Negative: the direct path was carrying the metric. Low, high: 95 % bootstrap interval over prompts.",
        nexts=[
            (run.again("ablate"), "the same heads removed altogether, indirect paths included"),
            (run.again("discover", " --out my-circuit"), "which edges lead to them"),
        ],
    )
