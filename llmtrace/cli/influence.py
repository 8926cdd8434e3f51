"""`llmtrace influence`: how much does each part matter, from one clean pass. A claim: `ablate` and `paths` test it."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmtrace.cli.groups import OnTexts
from llmtrace.cli.options import (
    METHODS,
    OCCLUDED_BY,
    PATHS_FROM,
    UNITS,
    MetricName,
    Source,
    Top,
    nodes,
    numbers,
    one_of,
)
from llmtrace.cli.prompts import described
from llmtrace.cli.run import Run

if TYPE_CHECKING:
    from llmtrace.cli.screen import Next, Screen
    from llmtrace.plots import Section
    from llmtrace.validation import CausalCheck


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
    validate: Annotated[
        bool, typer.Option("--validate", help="Hold the score against intervening, beside attention and chance.")
    ] = False,
    top: Top = 10,
    *,
    common: OnTexts,
) -> None:
    """Score what pushes the answer, from one pass.

    By node, neuron, source token, layer or attention. A score is a claim: --validate, and llmtrace ablate and paths,
    test it.
    """
    taken = {
        "metric": metric, "layer": layer, "head": head, "layers": numbers("--layers", layers),
        "heads": nodes("--heads", heads), "baseline": baseline, "steps": steps, "by": by, "memory": memory,
    }  # fmt: skip
    given: dict[str, Any] = {name: value for name, value in taken.items() if value is not None}
    options = {"method": method, **given, **({} if heads is None else {"heads": heads})}
    options |= {"validate": True} if validate else {}
    run = common.run("influence", model, options)

    from llmtrace import influence as room
    from llmtrace.cli.score_tables import gap_of, refuse_strangers, rows_of, sums_to, table_of

    row = room.METHODS[method]
    refuse_strangers(method, list(inspect.signature(row.function).parameters), list(given), list(taken))
    traced = run.load()
    chosen = run.prompts(traced)
    scores = row.function(traced, chosen, **given)
    measured = getattr(scores, "metric", None)
    check = (
        _check(method, scores, traced, chosen, {"metric": metric, "by": by, "memory": memory, "seed": common.seed})
        if validate
        else None
    )
    title = method.replace("_", " ")

    def show(screen: Screen) -> list[Next]:
        unit = f"; {measured} in {UNITS.get(measured, 'its own unit')}" if measured else ""
        screen.say(f"{title} ({row.summary}) of {scores.provenance['model']}, {described(chosen)}{unit}")
        says, table = table_of(scores, top, chosen.lengths.tolist())
        screen.say(f"{says}\n")
        screen.table(*table)
        if (gap := gap_of(scores)) is not None:
            screen.say(f"\n{sums_to(scores)} (largest miss {gap:.0e}).")
        if check is not None:
            screen.say(
                f"\nIs it true? {check.what.capitalize()} against {check.test}: mean over prompts, 95% intervals.\n"
            )
            screen.table(*_checked(check))
        return _next(run, scores)

    run.finish(
        rows_of(scores),
        show=show,
        model=traced,
        prompts=chosen,
        metric=measured,
        summary={"method": method, "gap": gap_of(scores), **({} if check is None else {"validation": _records(check)})},
        sections=lambda: _sections(scores, title, row.summary, check),
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


def _check(method: str, scores: Any, model: Any, prompts: Any, asked: dict[str, Any]) -> CausalCheck:
    from llmtrace.errors import InputError
    from llmtrace.influence import NodeScores, TokenInfluence
    from llmtrace.validation import validate

    if not isinstance(scores, NodeScores | TokenInfluence):
        raise InputError(
            f"Expected scores of tokens or nodes to validate, {method} gives others; leave --validate out."
        )
    return validate(scores, model, prompts, **{name: value for name, value in asked.items() if value is not None})


def _checked(check: CausalCheck) -> tuple[list[str], list[list[Any]]]:
    rows = []
    for method, role in zip(check.methods, check.roles, strict=True):
        rho, low, high = check.estimate("rank_correlation", method)
        rest = [check.estimate(name, method)[0] for name in ("top_share", "deletion", "insertion")]
        rows.append([method, role, rho, f"[{low:+.2f}, {high:+.2f}]", *rest])
    return ["method", "role", "rank correlation", "interval", f"share of top {check.k}", "deletion", "insertion"], rows


def _records(check: CausalCheck) -> list[dict[str, Any]]:
    """The whole table; a number that does not exist is null."""
    frame = check.df().astype(object)
    records: list[dict[str, Any]] = frame.where(frame.notna(), None).to_dict("records")
    return records


def _sections(scores: Any, title: str, summary: str, check: CausalCheck | None) -> list[Section]:
    from llmtrace.plots import Section, plot

    said = {} if check is None else {"validation": check}
    first = Section(title.capitalize(), f"{summary.capitalize()}.", figure=plot(scores, **said))
    return [first] if check is None else [first, Section("Is it true?", repr(check), figure=plot(check))]
