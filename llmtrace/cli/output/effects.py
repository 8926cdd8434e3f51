"""What `patch`, `paths` and `ablate` share: a plan or effects, as rows, as a table, as a folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from llmtrace.cli.options.prompts import described
from llmtrace.cli.options.shared import unit_of
from llmtrace.errors import Cancelled, InputError

if TYPE_CHECKING:
    from llmtrace.cli.output.run import Run
    from llmtrace.cli.output.screen import Next, Screen
    from llmtrace.interventions import Effects
    from llmtrace.models import TraceModel
    from llmtrace.plan import Declaration, Plan
    from llmtrace.plots import Section
    from llmtrace.prompts import PromptSet


def carry_out(
    run: Run,
    declared: Declaration[Effects],
    model: TraceModel,
    prompts: PromptSet,
    top: int,
    *,
    heading: str,
    meaning: str,
    nexts: list[Next],
    resume: Path | None,
    dry_run: bool,
) -> None:
    """Say what it would take, or do it and tell."""
    if dry_run:
        _finish_plan(run, declared.plan, model, prompts, heading)
        return
    with kept_for_resume(resume):
        effects = declared.run()
        _finish_effects(run, effects, model, prompts, top, heading=heading, meaning=meaning, nexts=nexts)


@contextmanager
def kept_for_resume(resume: Path | None) -> Iterator[None]:
    """Partial results stay until the whole is written; say where they are when a run is stopped."""
    from llmtrace.interventions import until_written

    try:
        with until_written():
            yield
    except (KeyboardInterrupt, Cancelled) as stopped:
        if resume is None or not resume.exists():
            raise
        raise Cancelled(
            f"Interrupted; what was done is in {str(resume)!r}: the same command goes on from there."
        ) from stopped


def _finish_plan(run: Run, plan: Plan, model: TraceModel, prompts: PromptSet, heading: str) -> None:
    def show(screen: Screen) -> list[Next]:
        screen.say(f"{heading} of {run.source}, {described(prompts)}")
        screen.say(f"{plan}.")
        screen.say("Nothing was run; leave --dry-run out to run it.")
        return []

    run.finish([], show=show, model=model, prompts=prompts, summary={"dry_run": True, **asdict(plan)})


def _finish_effects(
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
    from llmtrace.cli.output.documents import EffectRow

    low, high = (bound.tolist() for bound in effects.interval(seed=run.asked.seed))
    change, after, share = effects.mean().tolist(), effects.after.mean(1).tolist(), _shares(effects)
    before, other = effects.before.mean().item(), None if effects.other is None else effects.other.mean().item()
    repair = None if effects.direct is None else effects.self_repair().mean(1).tolist()
    order = sorted(range(len(change)), key=lambda i: -abs(change[i]))
    rows = [
        EffectRow(
            nodes=[str(node) for node in effects.nodes[i]], before=before, after=after[i], change=change[i], low=low[i],
            high=high[i], share=share[i], self_repair=None if repair is None else repair[i],
        )
        for i in order
    ]  # fmt: skip
    unit = unit_of(effects.metric) or "its own unit"

    def show(screen: Screen) -> list[Next]:
        away = "" if other is None else f", other run {other:.3f}"
        screen.say(f"{heading} of {effects.provenance['model']}, {described(prompts)}")
        screen.say(f"{effects.metric} in {unit}: changed run {before:.3f}{away}\n")
        shown = [[effects.labels[i], change[i], low[i], high[i], _percent(share[i])] for i in order[:top]]
        if repair is not None:
            shown = [[*row, repair[i]] for row, i in zip(shown, order[:top], strict=True)]
        screen.table(["node", "change", "low", "high", "share", *(["repaired"] if repair is not None else [])], shown)
        if len(order) > top:
            screen.say(f"... the largest {top} of {len(order)}; --top shows more.")
        screen.say(f"\n{meaning}")
        if share and share[0] is not None:
            screen.say("Share: of the way from the changed run to the other one.")
        if repair is not None:
            screen.say("Repaired: the change less the direct effect on the logits; later parts made up for it.")
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
        summary={"method": effects.method, "before": before, "other": other, "passes": effects.passes},
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
