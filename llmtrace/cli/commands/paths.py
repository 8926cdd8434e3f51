"""`llmtrace paths`: what senders tell receivers, directly or over several hops."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from llmtrace.cli.options.groups import Sweep
from llmtrace.cli.options.shared import (
    Direction,
    Source,
    choice,
    nodes,
    one_of,
    places,
    words,
)
from llmtrace.cli.output.effects import carry_out
from llmtrace.errors import InputError
from llmtrace.interventions.rows import DIRECTION, METHODS


def paths(
    model: Source,
    senders: Annotated[
        str | None, typer.Option("--senders", metavar="NODES", help="Such as 9.6,m3,input.  [default: every head]")
    ] = None,
    receivers: Annotated[
        str, typer.Option("--receivers", metavar="PORTS", help="Such as a9.h9<q>,a10.h0<q> or m3, all together.")
    ] = "logits",
    path: Annotated[
        list[str] | None,
        typer.Option(
            "--path",
            metavar="PATH",
            help="Instead: 'a5.h5 -> a8.h6<v> -> a9.h9<q> -> logits'; may be given several times.",
        ),
    ] = None,
    convention: Annotated[
        str,
        typer.Option(
            "--convention",
            metavar=one_of(METHODS["path_patch"].words("convention")),
            help="What is held between sender and receiver: heads (MLPs "
            "react), heads and MLPs, or nothing but the edges themselves change.",
        ),
    ] = "heads_frozen",
    direction: Direction = "noising",
    *,
    common: Sweep,
) -> None:
    """Patch paths from senders to receivers.

    Each head to the logits, to chosen queries, keys, values and MLPs, or over several hops.

    What if the receivers heard what the sender would say on the corrupted prompt, and everything else stayed as it is?
    """
    if path and (senders is not None or receivers != "logits"):
        raise InputError("Expected --path, or --senders and --receivers, got both; a path names its own.")
    known = METHODS["patch_chains" if path else "path_patch"].words("convention")
    options = {
        "senders": senders,
        "receivers": None if path else receivers,
        "path": path,
        "convention": choice("--convention", convention, known),
        "direction": choice("--direction", direction, DIRECTION.one_of),
        "positions": common.positions,
        "metric": common.metric,
    }
    chosen_senders, where = nodes("--senders", senders), places("--positions", common.positions)
    ports = words("--receivers", receivers, example="a9.h9<q>") or []
    run = common.run("paths", model, options)
    traced = run.load()
    chosen = run.prompts(traced)

    from llmtrace.interventions import patch_chains, path_patch

    shared: dict[str, Any] = {
        "convention": convention, "direction": direction, "positions": where, "metric": common.metric,
        "memory": common.memory, "resume": common.resume,
    }  # fmt: skip
    declared = (
        patch_chains.declare(traced, chosen, path, **shared)
        if path
        else path_patch.declare(traced, chosen, senders=chosen_senders, receivers=ports, **shared)
    )
    carry_out(
        run,
        declared,
        traced,
        chosen,
        common.top,
        heading="patching paths" if path else f"path patching to {receivers} ({convention.replace('_', ' ')})",
        meaning="Negative: the path was carrying the metric. Low, high: 95 % bootstrap interval over prompts.",
        nexts=[
            (run.again("ablate"), "the same heads removed altogether, indirect paths included"),
            (run.again("discover", " --out my-circuit"), "which edges lead to them"),
        ],
        resume=common.resume,
        dry_run=common.dry_run,
    )
