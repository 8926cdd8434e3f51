"""`llmtrace trace`: run the prompts once and keep activations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from llmtrace.cli.options.groups import OnTexts
from llmtrace.cli.options.prompts import described
from llmtrace.cli.options.shared import (
    SIDES,
    Source,
    choice,
    numbers,
    one_of,
    places,
    words,
)

if TYPE_CHECKING:
    from llmtrace.cli.output.screen import Next, Screen
    from llmtrace.plots import Section
    from llmtrace.signals import Trace

DRAWN_LAYERS = 6


def trace(
    model: Source,
    what: Annotated[
        str,
        typer.Option(
            "--what",
            metavar="KINDS",
            help="Comma-separated: pattern, scores, q, k, v, z, resid_pre, resid_mid, resid_post, "
            "attn_out, mlp_pre, mlp_post, mlp_out, embed, pos_embed, or full TransformerLens names.",
        ),
    ] = "pattern,z",
    layers: Annotated[
        str | None, typer.Option("--layers", metavar="LAYERS", help="Such as 0,2-4.  [default: all]")
    ] = None,
    positions: Annotated[
        str | None,
        typer.Option("--positions", metavar="PLACES", help="Such as END,S2,-1: keep only these.  [default: all]"),
    ] = None,
    side: Annotated[str, typer.Option("--side", metavar=one_of(SIDES), help="Which prompts are run.")] = "clean",
    *,
    common: OnTexts,
) -> None:
    """Capture the activations of a run.

    Attention patterns, heads, residual stream, MLPs: by kind or by TransformerLens name.

    With --out, FOLDER/trace holds trace.json and tensors.safetensors; llmtrace.load_trace reads them.
    """
    kept = {
        "what": words("--what", what), "layers": numbers("--layers", layers),
        "positions": places("--positions", positions), "side": choice("--side", side, SIDES),
    }  # fmt: skip
    run = common.run("trace", model, dict(kept))
    traced = run.load()
    chosen = run.prompts(traced)

    from llmtrace.cli.output.documents import ActivationRow
    from llmtrace.signals import capture

    captured = capture(traced, chosen, **kept)
    rows = [
        ActivationRow(activation=name, shape=list(value.shape), dtype=str(value.dtype).removeprefix("torch."),
                      bytes=value.nbytes)
        for name, value in captured.activations.items()
    ]  # fmt: skip
    size = sum(row.bytes for row in rows)

    def show(screen: Screen) -> list[Next]:
        screen.say(
            f"{len(rows)} activations of {captured.provenance['model']}, {side} run of {described(chosen)}: "
            f"{size / 1e6:.2f} MB"
        )
        screen.table(
            ["activation", "shape", "kB"],
            [[r.activation, " x ".join(map(str, r.shape)), f"{r.bytes / 1e3:.1f}"] for r in rows],
        )
        screen.say("Axes: prompt, position, ...; of patterns and scores: prompt, head, query, key.")
        if common.out is None:
            screen.say("Nothing was saved: add --out FOLDER to keep the numbers.")
            return [(run.again("trace", f" --what {what} --out my-trace"), "the same, kept on disk")]
        code = f"import llmtrace as lt; print(lt.load_trace({str(common.out / 'trace')!r}))"
        return [(f'python -c "{code}"', "the numbers in Python")]

    run.finish(
        rows,
        show=show,
        model=traced,
        prompts=chosen,
        summary={"prompts": len(chosen), "tokens": captured.tokens.shape[1], "bytes": size},
        save=lambda folder: captured.save(folder / "trace"),
        sections=lambda: _sections(captured),
    )


def _sections(captured: Trace) -> list[Section]:
    """A figure for each of the first layers whose patterns were kept."""
    from llmtrace.models.hook_names import site_name
    from llmtrace.plots import Section, plot

    about = f"{len(captured.activations)} activations of {len(captured.tokens)} prompts, {captured.side} run."
    drawn = [layer for layer in captured.layers if site_name("pattern", layer) in captured][:DRAWN_LAYERS]
    return [
        Section("Trace", about),
        *(Section(f"Attention of layer {layer}", figure=plot(captured, layer=layer)) for layer in drawn),
    ]
