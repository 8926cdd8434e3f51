"""`llmtrace lens`: chosen tokens through the layers, and what each layer makes of the residual stream."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmtrace.cli.options.groups import OnTexts
from llmtrace.cli.options.prompts import described
from llmtrace.cli.options.shared import (
    Source,
    places,
    words,
)
from llmtrace.cli.output.run import Run

if TYPE_CHECKING:
    from llmtrace.cli.output.screen import Next, Screen
    from llmtrace.influence import StreamScores, TokenLens
    from llmtrace.plots import Section

DRAWN = 4  # prompts with a figure of their own


def lens(
    model: Source,
    tokens: Annotated[
        str | None,
        typer.Option(
            "--tokens",
            metavar="WORDS",
            help="Such as Mary,John.  [default: the answers; without any, what the model says]",
        ),
    ] = None,
    positions: Annotated[
        str | None, typer.Option("--positions", metavar="PLACES", help="Such as END,S2,-1, or all.  [default: END]")
    ] = None,
    *,
    common: OnTexts,
) -> None:
    """Where in the layers the answer appears.

    Probability and rank of chosen tokens at every stage of the residual stream, and how long the stream is there, how
    far it turned, and how much of its final state that stage brought.
    """
    wanted = words("--tokens", tokens, example="Mary,John")
    at: Any = None if positions == "all" else places("--positions", positions) or "END"
    run = common.run("lens", model, {"tokens": tokens, "positions": positions})
    traced = run.load()
    chosen = run.prompts(traced)

    from llmtrace.cli.output.documents import StageTokenRow
    from llmtrace.influence import residual_stream, token_lens

    found = token_lens(traced, chosen, tokens=wanted, positions=at)
    stream = residual_stream(traced, chosen)
    rows = [StageTokenRow(**record) for record in found.df().to_dict("records")]
    measures = stream.df().to_dict("records")

    def show(screen: Screen) -> list[Next]:
        screen.say(f"Logit lens of {found.provenance['model']}, {described(chosen)}: means over prompts\n")
        frame = found.df()
        last = frame[frame["position"] == frame.groupby("prompt")["position"].transform("max")]
        kinds = len(found.tokens[0])
        first_is = found.tokens[0] if wanted or run.asked.texts else ("correct", "wrong")[:kinds]
        table = []
        for stage, measure in zip(found.stages, measures, strict=True):
            here = last[last["stage"] == stage]
            cells: list[Any] = []
            for t in range(kinds):
                some = here.iloc[t::kinds]
                cells += [some["probability"].mean().item(), f"{some['rank'].median():g}"]
            table.append([stage, *cells, repr(here.iloc[0]["top_token"]), measure["norm"], measure["share"]])
        names = [name for token in first_is for name in (f"p({token})", "rank")]
        screen.table(["stage", *names, "first choice", "norm", "share"], table)
        screen.say(
            "\nRank: median, 1 is the first choice (shown: of the first prompt). Share: of the final stream at END, by "
            "what came in before that stage."
        )
        return _next(run)

    run.finish(
        rows,
        show=show,
        model=traced,
        prompts=chosen,
        summary={"stream": measures, "position": stream.position},
        sections=lambda: _sections(found, stream),
    )


def _next(run: Run) -> list[Next]:
    if run.asked.texts:
        return [(f"llmtrace lens {run.source}", "the same on sentences that have a right and a wrong answer")]
    return [
        (run.again("influence"), "which heads and MLPs push the answer"),
        (run.again("patch", " --what resid_pre"), "test it: where in the stream is the answer carried?"),
    ]


def _sections(found: TokenLens, stream: StreamScores) -> list[Section]:
    from llmtrace.plots import Section, plot

    drawn = [Section("Residual stream", "Length, turn and share of every stage.", figure=plot(stream))]
    for i in range(min(DRAWN, len(found.labels))):
        drawn.append(Section(f"Prompt {i}", figure=plot(found, prompt=i)))
    return drawn
