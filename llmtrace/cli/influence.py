"""`llmtrace influence`: how much does each part matter, from one clean pass. A claim: `ablate` and `paths` test it."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmtrace.cli.options import (
    METHODS,
    OCCLUDED_BY,
    PATHS_FROM,
    UNITS,
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
    Texts,
    Top,
    nodes,
    numbers,
    one_of,
)
from llmtrace.cli.prompts import Asked, described
from llmtrace.cli.run import Run

if TYPE_CHECKING:
    from llmtrace.cli.screen import Next, Screen
    from llmtrace.plots import Section


def influence(
    model: Source,
    method: Annotated[
        str, typer.Option("--method", metavar=one_of(METHODS), help="How influence is scored.")
    ] = METHODS[0],
    metric: MetricName = None,
    layer: Annotated[
        int | None, typer.Option("--layer", metavar="L", help="For raw_attention and value_weighted_norms.")
    ] = None,
    head: Annotated[
        int | None, typer.Option("--head", metavar="H", help="For raw_attention.  [default: mean of the layer]")
    ] = None,
    layers: Annotated[
        str | None, typer.Option("--layers", metavar="LAYERS", help="For neuron_attribution: such as 0,2-4.")
    ] = None,
    heads: Annotated[
        str | None, typer.Option("--heads", metavar="HEADS", help="For source_token_attribution: such as 9.6,9.9.")
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option("--baseline", metavar=one_of(PATHS_FROM), help="For integrated_gradients.  [default: mean]"),
    ] = None,
    steps: Annotated[
        int | None, typer.Option("--steps", metavar="K", help="For integrated_gradients.  [default: 16]")
    ] = None,
    by: Annotated[
        str | None,
        typer.Option(
            "--by", metavar=one_of(OCCLUDED_BY), help="For occlusion: what replaces a token.  [default: mean]"
        ),
    ] = None,
    memory: Annotated[
        str | None,
        typer.Option("--memory", metavar="SIZE", help="For occlusion and gradients: beside the weights, such as 2GB."),
    ] = None,
    top: Top = 10,
    prompt: Texts = None,
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
    """Score what pushes the answer, from one pass.

    By node, neuron, source token, layer or attention. A score is a claim: llmtrace ablate and paths test it.
    """
    taken = {
        "metric": metric, "layer": layer, "head": head, "layers": numbers("--layers", layers),
        "heads": nodes("--heads", heads), "baseline": baseline, "steps": steps, "by": by, "memory": memory,
    }  # fmt: skip
    given: dict[str, Any] = {name: value for name, value in taken.items() if value is not None}
    asked = Asked(task, n, corruption, prompts, tuple(prompt or ()), seed)
    options = {"method": method, **given, **({} if heads is None else {"heads": heads})}
    run = Run("influence", model, json, out, overwrite, device, dtype, asked, options)

    from llmtrace import influence as room
    from llmtrace.cli.score_tables import gap_of, refuse_strangers, rows_of, sums_to, table_of

    row = room.METHODS[method]
    refuse_strangers(method, list(inspect.signature(row.function).parameters), list(given), list(taken))
    traced = run.load()
    chosen = run.prompts(traced)
    scores = row.function(traced, chosen, **given)
    measured = getattr(scores, "metric", None)
    title = method.replace("_", " ")

    def show(screen: Screen) -> list[Next]:
        unit = f"; {measured} in {UNITS.get(measured, 'its own unit')}" if measured else ""
        screen.say(f"{title} ({row.summary}) of {scores.provenance['model']}, {described(chosen)}{unit}")
        says, table = table_of(scores, top, chosen.lengths.tolist())
        screen.say(f"{says}\n")
        screen.table(*table)
        if (gap := gap_of(scores)) is not None:
            screen.say(f"\n{sums_to(scores)} (largest miss {gap:.0e}).")
        return _next(run, scores)

    run.finish(
        rows_of(scores),
        show=show,
        model=traced,
        prompts=chosen,
        metric=measured,
        summary={"method": method, "gap": gap_of(scores)},
        sections=lambda: _sections(scores, title, row.summary),
    )


def _next(run: Run, scores: Any) -> list[Next]:
    from llmtrace.influence import NodeScores
    from llmtrace.nodes import Head, Mlp

    if run.asked.texts:  # without answers nothing can be scored or tested
        return [(f"llmtrace influence {run.source}", "which nodes push the answer, on sentences that have one")]
    best = scores.top(40) if isinstance(scores, NodeScores) else []
    names = [node.label if isinstance(node, Head) else str(node) for node, _ in best if isinstance(node, Head | Mlp)][
        :4
    ]
    if not names:
        return [(run.again("influence"), "which nodes push the answer")]
    return [
        (run.again("ablate", f" --nodes {','.join(names)}"), "test the score: what is lost without them?"),
        (run.again("paths"), "test it by patching the direct path of every head"),
    ]


def _sections(scores: Any, title: str, summary: str) -> list[Section]:
    from llmtrace.plots import Section, plot

    return [Section(title.capitalize(), f"{summary.capitalize()}.", figure=plot(scores))]
