"""What `ablate` and `paths` share: effects as rows, as a table, as a folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmtrace.cli.options import UNITS
from llmtrace.cli.prompts import described
from llmtrace.errors import InputError

if TYPE_CHECKING:
    from llmtrace.cli.run import Run
    from llmtrace.cli.screen import Next, Screen
    from llmtrace.interventions import Effects
    from llmtrace.models import TraceModel
    from llmtrace.plots import Section
    from llmtrace.prompts import PromptSet


def finish_effects(
    run: Run,
    effects: Effects,
    model: TraceModel,
    prompts: PromptSet,
    top: int,
    *,
    heading: str,
    meaning: str,
    nexts: list[Next],
) -> None:
    """Largest mean change first."""
    from llmtrace.cli.documents import EffectRow

    low, high = (bound.tolist() for bound in effects.interval(seed=run.asked.seed))
    change, after, share = effects.mean().tolist(), effects.after.mean(1).tolist(), _shares(effects)
    before, corrupted = (
        effects.before.mean().item(),
        None if effects.other is None else effects.other.mean().item(),
    )
    order = sorted(range(len(change)), key=lambda i: -abs(change[i]))
    rows = [
        EffectRow(
            nodes=[str(node) for node in effects.nodes[i]], before=before, after=after[i], change=change[i], low=low[i],
            high=high[i], share=share[i],
        )
        for i in order
    ]  # fmt: skip
    unit = UNITS.get(effects.metric, "its own unit")

    def show(screen: Screen) -> list[Next]:
        other = "" if corrupted is None else f", corrupted run {corrupted:.3f}"
        screen.say(f"{heading} of {effects.provenance['model']}, {described(prompts)}")
        screen.say(f"{effects.metric} in {unit}: clean run {before:.3f}{other}\n")
        screen.table(
            ["node", "change", "low", "high", "share"],
            [[effects.labels[i], change[i], low[i], high[i], _percent(share[i])] for i in order[:top]],
        )
        if len(order) > top:
            screen.say(f"... the largest {top} of {len(order)}; --top shows more.")
        screen.say(f"\n{meaning}")
        if share and share[0] is not None:
            screen.say("Share: of the way from the clean to the corrupted run.")
        return nexts

    def sections() -> list[Section]:
        from llmtrace.plots import Section, plot

        about = f"{effects.metric} in {unit}; {described(prompts)}. {meaning}"
        return [Section(heading[0].upper() + heading[1:], about, figure=plot(effects))]

    run.finish(
        rows,
        show=show,
        model=model,
        prompts=prompts,
        metric=effects.metric,
        summary={"method": effects.method, "before": before, "corrupted": corrupted, "passes": effects.passes},
        sections=sections,
    )


def _percent(share: float | None) -> str | None:
    return None if share is None else f"{round(share, 2) + 0.0:.0%}"


def _shares(effects: Effects) -> list[float] | list[None]:
    """Where clean and corrupted runs give the same metric there is no way to take a share of."""
    try:
        return effects.normalised().tolist()
    except InputError:
        return [None] * len(effects.nodes)
