"""`llmtrace patch`: activations of one run copied into the other."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from llmtrace.cli.options.groups import Sweep
from llmtrace.cli.options.shared import (
    Direction,
    Source,
    choice,
    interventions,
    numbers,
    one_of,
    places,
    words,
)
from llmtrace.cli.output.effects import carry_out
from llmtrace.errors import InputError
from llmtrace.interventions.rows import DIRECTION, KINDS, SPLITS


def patch(
    model: Source,
    what: Annotated[
        str | None,
        typer.Option("--what", metavar=one_of(KINDS), help="Kinds, joined by commas.  [default: resid_pre]"),
    ] = None,
    by: Annotated[
        str | None,
        typer.Option("--by", metavar=one_of(SPLITS), help="One patch for each of these.  [default: position or head]"),
    ] = None,
    layers: Annotated[str | None, typer.Option("--layers", metavar="LAYERS", help="Such as 0,4-7.")] = None,
    nodes: Annotated[
        str | None,
        typer.Option(
            "--nodes",
            metavar="PLACES",
            help="Instead of --what: 9.6@END,m3@S1+S2;a9.h9<q> - commas join what goes together, semicolons part it.",
        ),
    ] = None,
    noise: Annotated[
        str | None,
        typer.Option(
            "--noise", metavar="PLACES", help="Causal tracing: the changed run is the clean one with noise there (S2)."
        ),
    ] = None,
    draws: Annotated[int, typer.Option("--draws", min=1, help="Of --noise: draws that are averaged.")] = 10,
    direction: Direction = "denoising",
    *,
    common: Sweep,
) -> None:
    """Copy activations between runs: which one matters?

    Residual streams and outputs by layer and position, heads by layer and head, or any places that you name; with
    --noise clean activations are put back into a run whose subject is noise.
    """
    if nodes is not None and (what, by, layers, common.positions) != (None, None, None, None):
        raise InputError("Expected --nodes, or --what with --by, --layers and --positions, got both; leave one out.")
    options = {
        "what": what,
        "by": None if by is None else choice("--by", by, SPLITS),
        "layers": layers,
        "nodes": nodes,
        "positions": common.positions,
        "noise": noise,
        "draws": draws,
        "direction": choice("--direction", direction, DIRECTION.one_of),
        "metric": common.metric,
    }
    subject = places("--noise", noise)
    if subject is not None and (nodes is not None or by is not None or layers is not None or direction != "denoising"):
        raise InputError("Expected --noise with --what and --positions only, got another option; leave one out.")
    kinds = [
        choice("--what", kind, KINDS) for kind in words("--what", what or "resid_pre", example="resid_pre,z") or ()
    ]
    groups, where, chosen_layers = (
        interventions("--nodes", nodes),
        places("--positions", common.positions),
        numbers("--layers", layers),
    )
    run = common.run("patch", model, options)
    traced = run.load()
    chosen = run.prompts(traced)

    from llmtrace.interventions import causal_trace, patch as patched, patch_sweep

    measured: dict[str, Any] = {"metric": common.metric, "memory": common.memory, "resume": common.resume}
    declared: Any = (
        causal_trace.declare(
            traced, chosen, subject, what=kinds[0], positions=where, draws=draws, seed=common.seed, **measured
        )
        if subject is not None
        else patched.declare(traced, chosen, groups, direction=options["direction"], **measured)
        if groups is not None
        else patch_sweep.declare(
            traced, chosen, kinds, by=options["by"], layers=chosen_layers, positions=where,
            direction=options["direction"], **measured,
        )
    )  # fmt: skip
    carry_out(
        run,
        declared,
        traced,
        chosen,
        common.top,
        heading=f"activation patching ({direction})" if noise is None else f"causal tracing (noise at {noise})",
        meaning="Positive: the patch raised the metric. Low, high: 95 % bootstrap interval over prompts.",
        nexts=[
            (run.again("paths"), "which heads act on the logits directly"),
            (run.again("ablate"), "what is lost without a head or an MLP"),
        ],
        resume=common.resume,
        dry_run=common.dry_run,
    )
