"""`llmtrace influence`: how much does each part matter, from the clean run. A claim: `ablate` and `paths` test it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmtrace.cli.options import validating
from llmtrace.cli.options.from_rows import given, recorded
from llmtrace.cli.options.groups import OnTalks
from llmtrace.cli.options.prompts import described
from llmtrace.cli.options.scoring import MESSAGES, ScoreOptions, SpanAndPlaceOptions, require_tokens
from llmtrace.cli.options.shared import Source, Top, one_of, unit_of
from llmtrace.cli.options.validating import AnyCheckOptions
from llmtrace.cli.output import flow
from llmtrace.cli.output.run import Run
from llmtrace.influence.rows import METHODS

if TYPE_CHECKING:
    from llmtrace.cli.output.screen import Next, Screen
    from llmtrace.influence import FlowGraph
    from llmtrace.plots import Section
    from llmtrace.validation import CausalCheck


def influence(
    model: Source,
    method: Annotated[str, typer.Option("--method", metavar=one_of(METHODS), help="How influence is scored.")] = next(
        iter(METHODS)
    ),
    graph: Annotated[
        bool,
        typer.Option("--graph", help=f"For flow_routes: the whole graph of the first prompt; --out has {flow.FILE}."),
    ] = False,
    top: Top = 10,
    *,
    test: AnyCheckOptions,
    how: ScoreOptions,
    stretches: SpanAndPlaceOptions,
    common: OnTalks,
) -> None:
    """Score what pushes the answer, most methods from one pass.

    By node, neuron, source token, layer or attention; scores of tokens by span too. A score is a claim: --validate,
    and llmtrace ablate and paths, test it.
    """
    row, drawing = METHODS[method], {"graph": True} if graph else {}
    said, told = given(row, how.asked()), recorded(row, how.asked())
    options = {"method": method, **told, **stretches.typed(), **test.typed(), **drawing}
    run = common.run("influence", model, options)

    from llmtrace.cli.output.score_tables import gap_of, rows_of, sums_to, table_of

    if stretches.typed():
        require_tokens("--span", method)
        stretches.require_fit(run.asked)
    test.require_of(method)
    if graph:
        flow.require_one_prediction(method, said)
    traced = run.load()
    chosen, spans = stretches.made(run, traced)
    by_token = row.function(traced, chosen, **said)
    scores = by_token if spans is None else by_token.by_span(spans)
    measured = getattr(scores, "metric", None)
    testing = {
        "metric": how.metric,
        "ablation": said.get("ablation"),
        "memory": said.get("memory"),
        "seed": common.seed,
        "spans": spans,
    }
    check = _check(method, scores, traced, chosen, testing | test.given()) if test.validate else None
    drawn = flow.graph_of(traced, chosen, said) if graph else None
    title = method.replace("_", " ")

    def show(screen: Screen) -> list[Next]:
        unit = f"; {measured} in {unit_of(measured) or 'its own unit'}" if measured else ""
        screen.say(f"{title} ({row.summary}) of {scores.provenance['model']}, {described(chosen)}{unit}")
        says, table = table_of(scores, top, chosen.lengths.tolist())
        screen.say(f"{says}\n")
        screen.table(*table)
        if (gap := gap_of(by_token)) is not None:
            screen.say(f"\n{sums_to(by_token)} (largest miss {gap:.0e}).")
        if drawn is not None:
            flow.tell(screen, drawn, top)
        if check is not None:
            validating.tell(screen, check)
        return _next(run, scores, drawn, f" --method {method}{how.flags()}{stretches.flags()}")

    run.finish(
        rows_of(scores),
        show=show,
        model=traced,
        prompts=chosen,
        metric=measured,
        summary={
            "method": method,
            "gap": gap_of(by_token),
            **({} if check is None else {"validation": validating.records(check)}),
            **({} if drawn is None else {"graph": flow.summary_of(drawn, top)}),
        },
        save=None if drawn is None else lambda folder: drawn.save(folder / flow.FILE),
        sections=lambda: _sections(scores, by_token, title, row.summary, check, drawn),
    )


def _next(run: Run, scores: Any, drawn: FlowGraph | None, asked: str) -> list[Next]:
    from llmtrace.influence import NodeScores, SpanInfluence, TokenInfluence
    from llmtrace.nodes import Head, Mlp

    if drawn is not None and run.out is None:
        return [(run.again("influence", f"{asked} --graph --out my-flow"), "the graph, drawn and kept")]
    if not run.asked.answered:  # nothing can be scored or tested
        return [(f"llmtrace influence {run.source}", "which nodes push the answer, on sentences that have one")]
    # What is tested is where the answer is predicted: other positions are not.
    untested = not {"validate", "positions"} & run.options.keys()
    if isinstance(scores, TokenInfluence | SpanInfluence) and untested:
        return [(run.again("influence", f"{asked} --validate"), "test the score: what is lost without each token?")]
    if run.asked.talk is not None:  # which no command that tests nodes takes
        if isinstance(scores, NodeScores) and untested:
            return [(run.again("influence", f"{asked} --validate"), "test the score: what is lost without each node?")]
        other = "occlusion" if run.options["method"] == "alti" else "alti"
        return [(run.again("influence", f" --method {other} --spans {MESSAGES}"), "another look at the same messages")]
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
    from llmtrace.influence import NodeScores, SpanInfluence, TokenInfluence
    from llmtrace.validation import validate

    if not isinstance(scores, NodeScores | TokenInfluence | SpanInfluence):
        raise InputError(
            f"Expected scores of tokens or nodes to validate, {method} gives others; leave --validate out."
        )
    return validate(model, prompts, scores, **{name: value for name, value in asked.items() if value is not None})


def _sections(
    scores: Any, by_token: Any, title: str, summary: str, check: CausalCheck | None, drawn: FlowGraph | None
) -> list[Section]:
    from llmtrace.plots import Section, plot

    said = {} if check is None else {"validation": check}
    found = [Section(title.capitalize(), f"{summary.capitalize()}.", figure=plot(scores, **said))]
    if scores is not by_token:
        found.append(Section("Token by token", figure=plot(by_token)))
    if drawn is not None:
        found.append(flow.section(drawn))
    if check is not None:
        found.append(validating.section(check))
    return found
