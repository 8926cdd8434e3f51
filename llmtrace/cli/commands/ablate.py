"""`llmtrace ablate`: what the metric is without a node."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from llmtrace.cli.options.groups import Sweep
from llmtrace.cli.options.shared import (
    SIDES,
    Source,
    attention as read_attention,
    choice,
    one_of,
    places,
    words,
)
from llmtrace.cli.output.effects import carry_out
from llmtrace.errors import InputError
from llmtrace.interventions.rows import ABLATIONS, OVER

# Those that a command line can say.
SAID = tuple(name for name, row in ABLATIONS.items() if "value" not in row.needs)


def ablate(
    model: Source,
    ablation: Annotated[
        str, typer.Option("--ablation", metavar=one_of(SAID), help="What takes the node's place.")
    ] = "mean",
    over: Annotated[
        str,
        typer.Option("--over", metavar=one_of(OVER.one_of), help="What a mean is over: prompts of one template, ..."),
    ] = "group",
    reference: Annotated[
        str, typer.Option("--reference", metavar=one_of(SIDES), help="The prompts of the mean.")
    ] = "corrupted",
    nodes: Annotated[
        str | None,
        typer.Option(
            "--nodes",
            metavar="NODES",
            help="Such as 9.6,m3,m3.n12,a5.h5->a8.h6<v>.  [default: every head and MLP, one at a time]",
        ),
    ] = None,
    attention: Annotated[
        str | None,
        typer.Option(
            "--attention",
            metavar="QUERIES<-KEYS",
            help="Instead of nodes: these positions no longer see those, END<-S2.",
        ),
    ] = None,
    window: Annotated[int, typer.Option("--window", min=1, help="Of --attention: layers that are cut together.")] = 1,
    together: Annotated[bool, typer.Option("--together", help="All nodes at once instead of one at a time.")] = False,
    *,
    common: Sweep,
) -> None:
    """Remove heads, MLPs, neurons, edges or attention: what is lost?

    Each in turn, or all together, becomes zero, a mean or its corrupted self; everything downstream may react. Beside
    the change stands what later parts made up for (self-repair). With --attention, in each window of layers in turn.
    """
    options = {
        "ablation": choice("--ablation", ablation, SAID),
        "over": choice("--over", over, OVER.one_of),
        "reference": choice("--reference", reference, SIDES),
        "nodes": nodes,
        "together": together,
        "attention": attention,
        "window": window,
        "positions": common.positions,
        "metric": common.metric,
    }
    if attention is not None and (nodes is not None or common.positions is not None or together):
        raise InputError("Expected --attention, or --nodes with --positions and --together, got both; leave one out.")
    cut = None if attention is None else read_attention("--attention", attention)
    targets, where = words("--nodes", nodes, example="9.6,m3"), places("--positions", common.positions)
    run = common.run("ablate", model, options)
    traced = run.load()
    chosen = run.prompts(traced)

    from llmtrace.interventions import ablate as without, knock_out

    measured: dict[str, Any] = {"metric": common.metric, "memory": common.memory, "resume": common.resume}
    declared = (
        knock_out.declare(traced, chosen, *cut, window=window, **measured)
        if cut is not None
        else without.declare(
            traced, chosen, targets, ablation=options["ablation"], over=options["over"], reference=options["reference"],
            together=together, positions=where, **measured,
        )
    )  # fmt: skip
    carry_out(
        run,
        declared,
        traced,
        chosen,
        common.top,
        heading=f"{ablation} ablation" if attention is None else f"attention knockout {attention}",
        meaning="Negative: the node was carrying the metric. Low, high: 95 % bootstrap interval over prompts.",
        nexts=[
            (run.again("paths"), "which heads act on the logits directly"),
            (run.again("discover", " --out my-circuit"), "which edges between them matter"),
        ],
        resume=common.resume,
        dry_run=common.dry_run,
    )
