"""`llmtrace neurons`: statistics over prompts, the tokens on which neurons are highest, and what they write."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmtrace.cli.options.groups import OnTexts
from llmtrace.cli.options.prompts import described
from llmtrace.cli.options.shared import (
    Source,
    choice,
    nodes,
    numbers,
    one_of,
)
from llmtrace.influence.rows import STATISTICS

if TYPE_CHECKING:
    from llmtrace.cli.output.documents import TokenScore
    from llmtrace.cli.output.screen import Next, Screen
    from llmtrace.influence import NeuronReading, NeuronStatistics
    from llmtrace.plots import Section

SHOWN = 5  # tokens of a side, and examples
DRAWN = 6  # neurons with a figure of their own


def neurons(
    model: Source,
    by: Annotated[
        str, typer.Option("--by", metavar=one_of(STATISTICS), help="Which statistic ranks the neurons.")
    ] = "kurtosis",
    chosen: Annotated[
        str | None, typer.Option("--nodes", metavar="NEURONS", help="These instead, such as m2.n5,m3.n17.")
    ] = None,
    layers: Annotated[
        str | None, typer.Option("--layers", metavar="LAYERS", help="Such as 0,2-4.  [default: all]")
    ] = None,
    top: Annotated[
        int, typer.Option("--top", min=1, metavar="K", help="How many neurons, on screen and in files.")
    ] = 10,
    *,
    common: OnTexts,
) -> None:
    """What neurons answer to, and what they write.

    Activations over the prompts, the tokens on which each neuron is highest, and from its weights the tokens that it
    answers to (key) and writes (value). Rows are the --top neurons by a statistic, or those that --nodes names.
    """
    by, named = choice("--by", by, STATISTICS), nodes("--nodes", chosen)
    options: dict[str, Any] = {"by": by, "nodes": chosen, "layers": numbers("--layers", layers), "top": top}
    run = common.run("neurons", model, options)
    traced = run.load()
    asked_of = run.prompts(traced)

    from llmtrace.cli.output.documents import ExampleRow, NeuronRow
    from llmtrace.errors import UnsupportedError
    from llmtrace.influence import neuron_statistics, read_neurons
    from llmtrace.models import describe
    from llmtrace.nodes import Neuron

    if named is not None:
        named = list(describe(traced).require_all(named, (Neuron,), "to look at"))
    found = neuron_statistics(traced, asked_of, layers=options["layers"])
    best = [neuron for neuron, _ in found.top(by, top)] if named is None else named
    reading: NeuronReading | None = None
    left_out: dict[str, str] = {}
    try:
        reading = read_neurons(traced, best, k=SHOWN)
    except UnsupportedError as error:
        left_out["tokens"] = str(error)
    rows = [
        NeuronRow(
            node=str(neuron), layer=neuron.layer, statistics=_finite(found.of(neuron)),
            examples=[ExampleRow(**vars(example)) for example in found.examples(neuron, SHOWN)],
            tokens={} if reading is None else _tokens(reading, neuron),
        )
        for neuron in best
    ]  # fmt: skip

    def show(screen: Screen) -> list[Next]:
        screen.say(
            f"Neurons of {found.provenance['model']} by {by}, over {found.n_tokens} tokens of {described(asked_of)}\n"
        )
        table = []
        for row in rows:
            examples, tokens = row.examples, row.tokens.get("value")
            said = " ".join(repr(score.token) for score in tokens.highest[:3]) if tokens else ""
            values = [row.statistics[name] for name in dict.fromkeys((by, "max", "share_active"))]
            table.append([row.node, *values, repr(examples[0].token), said])
        names = [name.replace("_", " ") for name in dict.fromkeys((by, "max", "share_active"))]
        screen.table(["neuron", *names, "highest on", "writes"], table)
        for reason in left_out.values():
            screen.say(f"Left out: what they write. {reason}")
        screen.say("\nHighest activations are the loudest moments, not the usual ones; --json has windows of text.")
        if run.asked.texts:
            return [(f"llmtrace neurons {run.source}", "the same over sentences that have an answer")]
        several = ",".join(row.node for row in rows[:3])
        return [(run.again("ablate", f" --nodes {several}"), "test it: are they missed?")]

    run.finish(
        rows,
        show=show,
        model=traced,
        prompts=asked_of,
        summary={"by": by, "tokens": found.n_tokens, "neurons": found.mean.numel(), "left_out": left_out},
        sections=lambda: _sections(found, reading, by, top),
    )


def _finite(statistics: dict[str, float]) -> dict[str, float | None]:
    """A neuron that never varies has no kurtosis."""
    return {name: value if value == value else None for name, value in statistics.items()}


def _tokens(reading: NeuronReading, neuron: Any) -> dict[str, Any]:
    from llmtrace.cli.output.documents import SideRow, TokenScore

    def scores(found: tuple[tuple[str, float], ...]) -> list[TokenScore]:
        return [TokenScore(token=token, score=score) for token, score in found]

    sides = {side: reading.of(neuron, side) for side in reading.sides}
    return {side: SideRow(highest=scores(high), lowest=scores(low)) for side, (high, low) in sides.items()}


def _sections(found: NeuronStatistics, reading: Any, by: str, top: int) -> list[Section]:
    from llmtrace.plots import Section, plot

    drawn = [Section("Neurons", "The hover text has the tokens on which each is highest.",
                     figure=plot(found, by=by, top=top))]  # fmt: skip
    if reading is not None:
        drawn += [
            Section(f"Neuron {neuron}", figure=plot(reading, neuron=i))
            for i, neuron in enumerate(reading.neurons[:DRAWN])
        ]
    return drawn
