"""`llmtrace ablate`: what the metric is without a node."""

from __future__ import annotations

from typing import Annotated

import typer

from llmtrace.cli.effects import finish_effects
from llmtrace.cli.options import (
    MODES,
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
    nodes as parse_nodes,
    one_of,
)
from llmtrace.cli.prompts import Asked
from llmtrace.cli.run import Run


def ablate(
    model: Source,
    mode: Annotated[str, typer.Option("--mode", metavar=one_of(MODES), help="What takes the node's place.")] = "mean",
    nodes: Annotated[
        str | None,
        typer.Option("--nodes", metavar="NODES", help="Such as 9.6,m3.  [default: every head and MLP, one at a time]"),
    ] = None,
    together: Annotated[bool, typer.Option("--together", help="All nodes at once instead of one at a time.")] = False,
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
    """Remove heads and MLPs: what is lost?

    Each node in turn, or all together, becomes zero, a mean or its corrupted self; everything downstream may react.
    """
    options = {"mode": choice("--mode", mode, MODES), "nodes": nodes, "together": together, "metric": metric}
    targets = parse_nodes("--nodes", nodes)
    run = Run(
        "ablate", model, json, out, overwrite, device, dtype, Asked(task, n, corruption, prompts, seed=seed), options
    )
    traced = run.load()
    chosen = run.prompts(traced)

    from llmtrace import interventions

    effects = interventions.ablate(traced, chosen, targets, mode=options["mode"], together=together, metric=metric)
    finish_effects(
        run,
        effects,
        traced,
        chosen,
        top,
        heading=f"{mode} ablation",
        meaning="Negative: the node was carrying the metric. Low, high: 95 % bootstrap interval over prompts.",
        nexts=[
            (run.again("paths"), "which heads act on the logits directly"),
            (run.again("discover", " --out my-circuit"), "which edges between them matter"),
        ],
    )
