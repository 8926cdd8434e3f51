"""What `validate` found, on the screen, as data and in a report: `influence` and `generation` have --validate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from llmtrace.cli.screen import Screen
    from llmtrace.plots import Section
    from llmtrace.validation import CausalCheck

Validate = Annotated[
    bool, typer.Option("--validate", help="Hold the score against intervening, beside attention and chance.")
]


def tell(screen: Screen, check: CausalCheck, over: str = "prompts") -> None:
    screen.say(f"\nIs it true? {check.what.capitalize()} against {check.test}: mean over {over}, 95% intervals.\n")
    rows: list[list[Any]] = []
    for method, role in zip(check.methods, check.roles, strict=True):
        rho, low, high = check.estimate("rank_correlation", method)
        rest = [check.estimate(name, method)[0] for name in ("top_share", "deletion", "insertion")]
        rows.append([method, role, rho, f"[{low:+.2f}, {high:+.2f}]", *rest])
    names = ["method", "role", "rank correlation", "interval", f"share of top {check.k}", "deletion", "insertion"]
    screen.table(names, rows)


def records(check: CausalCheck) -> list[dict[str, Any]]:
    """The whole table."""
    from llmtrace.cli.documents import records_of

    return records_of(check.df())


def section(check: CausalCheck) -> Section:
    from llmtrace.plots import Section, plot

    return Section("Is it true?", repr(check), figure=plot(check))
