"""`llmtrace evaluate`: does the circuit do alone what the model does?"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmtrace.circuits.rows import ABLATION
from llmtrace.cli.commands.discover import CIRCUIT
from llmtrace.cli.options.groups import OnPairs
from llmtrace.cli.options.prompts import described
from llmtrace.cli.options.shared import (
    MetricName,
    Source,
    choice,
    one_of,
    unit_of,
)
from llmtrace.cli.output.screen import decimals

if TYPE_CHECKING:
    from llmtrace.cli.output.screen import Next, Screen
    from llmtrace.plots import Section

MEANS = {"whole model": "model", "circuit alone": "circuit", "no edge": "empty"}


def evaluate(
    model: Source,
    circuit: Annotated[
        Path, typer.Argument(metavar="CIRCUIT", help="circuit.json, or the folder that discover or demo wrote.")
    ],
    ablation: Annotated[
        str,
        typer.Option("--ablation", metavar=one_of(ABLATION.one_of), help="What edges outside the circuit carry."),
    ] = "resample",
    draws: Annotated[
        int, typer.Option("--draws", min=0, metavar="N", help="Random circuits of the same size to compare.")
    ] = 10,
    metric: MetricName = None,
    *,
    common: OnPairs,
) -> None:
    """Run only a circuit: how faithful is it?

    Every other edge carries an ablated value; faithfulness is how much of the model's behaviour is left.
    """
    seed = common.seed
    options = {
        "circuit": str(circuit),
        "ablation": choice("--ablation", ablation, ABLATION.one_of),
        "draws": draws,
        "metric": metric,
    }
    run = common.run("evaluate", model, options)

    from llmtrace import circuits

    found = circuits.Circuit.load(circuit / CIRCUIT if circuit.is_dir() else circuit)
    traced = run.load()
    chosen = run.prompts(traced)
    report = circuits.evaluate(traced, chosen, found, metric=metric, ablation=ablation, draws=draws, seed=seed)

    from llmtrace.cli.output.documents import PromptRow

    by_prompt = zip(report.alone.tolist(), report.model.tolist(), report.empty.tolist(), strict=True)
    rows = [PromptRow(prompt=i, circuit=c, model=m, empty=e) for i, (c, m, e) in enumerate(by_prompt)]
    low, high = report.interval()
    chance = report.random_faithfulness.tolist() if draws else []
    summary: dict[str, Any] = {
        "edges": found.n_edges, "edges_of_model": found.graph.n_edges, "faithfulness": report.faithfulness, "low": low,
        "high": high, "quartiles": report.quartiles, "random": chance, "circuit": report.alone.mean().item(),
        "model": report.model.mean().item(), "empty": report.empty.mean().item(), "caveats": list(report.caveats),
    }  # fmt: skip
    made = chosen.seed is not None
    same_seed = made and found.options.get("seed") == seed

    def show(screen: Screen) -> list[Next]:
        unit = unit_of(report.metric) or "its own unit"
        screen.say(
            f"{found.n_edges:,} of {found.graph.n_edges:,} edges of {report.provenance['model']}, {described(chosen)}, "
            f"{ablation} ablation of the rest\n"
        )
        screen.table(
            [report.metric, f"mean in {unit}"],
            [[name, decimals(summary[run])] for name, run in MEANS.items()],
        )
        screen.say(
            f"\nFaithfulness {decimals(report.faithfulness)}, 95 % interval over prompts {decimals(low)} to "
            f"{decimals(high)}."
        )
        if chance:
            screen.say(
                f"{len(chance)} random circuits of the same size: {decimals(min(chance))} to {decimals(max(chance))}."
            )
        screen.say("0 is no edge, 1 the whole model; above 1 the circuit lacks what holds the model back.")
        for caveat in report.caveats:
            screen.say(f"Caution: {caveat}.")
        if same_seed:
            screen.say(
                f"Caution: seed {seed} also made the prompts that chose this circuit; another --seed is a fairer test."
            )
        other, twice = shlex.quote(str(circuit)), min(2 * found.n_edges, found.graph.n_edges)
        next_seed = seed + 1 if made else None
        return [
            (run.again("evaluate", f" {other} --ablation mean", seed=next_seed), "another kind of absence"),
            (run.again("discover", f" --n-edges {twice} --out larger-circuit"), "a circuit of twice the edges"),
        ]

    def sections() -> list[Section]:
        from llmtrace.plots import Section, plot

        return [Section("Faithfulness", f"{report!r}; {described(chosen)}.", figure=plot(report))]

    run.finish(rows, show=show, model=traced, prompts=chosen, metric=report.metric, summary=summary, sections=sections)
