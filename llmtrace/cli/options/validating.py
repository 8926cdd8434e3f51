"""`--validate` and its options, and what was found, on the screen, as data and in a report.

`influence` and `generation` have it. Options are called --validate-..., since methods have an --ablation and --steps of
their own; tests/cli/test_cli.py compares them with what `validate` takes.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmtrace.cli.options.scoring import of_tokens, refuse_without, require_tokens
from llmtrace.cli.options.shared import choice, places
from llmtrace.errors import InputError
from llmtrace.validation.rows import node_ablations, token_ablations

if TYPE_CHECKING:
    from llmtrace.cli.output.screen import Screen
    from llmtrace.plots import Section
    from llmtrace.validation import CausalCheck

PREFIX = "validate_"


@dataclass(frozen=True, kw_only=True)
class CheckOptions:
    """Whether to hold the score against intervening, and how. None: not asked for."""

    validate: Annotated[
        bool, typer.Option("--validate", help="Hold the score against intervening, beside attention and chance.")
    ] = False
    validate_ablation: Annotated[
        str | None,
        typer.Option(
            "--validate-ablation",
            metavar="HOW",
            help=f"How tokens are taken out: {', '.join(token_ablations())}; nodes: {', '.join(node_ablations())}.  "
            "[default: --ablation, else mean; nodes: resample where prompts have a corruption, else zero]",
        ),
    ] = None
    validate_keep: Annotated[
        str | None,
        typer.Option(
            "--validate-keep", metavar="PLACES", help="Tokens that are neither removed nor ranked, such as 0."
        ),
    ] = None
    validate_k: Annotated[
        int | None, typer.Option("--validate-k", min=1, metavar="K", help="Of the share of the first K.  [default: 3]")
    ] = None
    validate_steps: Annotated[
        int | None,
        typer.Option("--validate-steps", min=2, metavar="N", help="Of deletion and insertion curves.  [default: 10]"),
    ] = None
    validate_draws: Annotated[
        int | None,
        typer.Option("--validate-draws", min=1, metavar="N", help="Random orders beside the score.  [default: 4]"),
    ] = None

    def __post_init__(self) -> None:
        refuse_without("--validate", self.validate, [name for name in self.typed() if name != "validate"])

    def require_of(self, method: str) -> None:
        """Refused before a model is loaded."""
        if self.validate_ablation is not None:
            known = token_ablations() if _scores_tokens(method) else node_ablations()
            choice("--validate-ablation", self.validate_ablation, known)
        if self.validate_keep is not None:
            require_tokens("--validate-keep", method)

    def typed(self) -> dict[str, Any]:
        """Those that were asked for."""
        said = {part.name: getattr(self, part.name) for part in fields(self)}
        said["validate_keep"] = places("--validate-keep", self.validate_keep)
        return {name: value for name, value in said.items() if value is not None and value is not False}

    def given(self) -> dict[str, Any]:
        """As `validate` takes them."""
        return {name.removeprefix(PREFIX): value for name, value in self.typed().items() if name != "validate"}


@dataclass(frozen=True, kw_only=True)
class AnyCheckOptions(CheckOptions):
    """Of scores of nodes too."""

    validate_sample: Annotated[
        int | None,
        typer.Option(
            "--validate-sample",
            min=4,
            metavar="N",
            help="Of --validate: of more nodes than this (neurons) so many are tested.  [default: 128]",
        ),
    ] = None

    def require_of(self, method: str) -> None:
        super().require_of(method)
        if self.validate_sample is not None and _scores_tokens(method):
            raise InputError(
                f"Expected --validate-sample with a method that scores nodes, got it with {method}; leave it out."
            )


def _scores_tokens(method: str) -> bool:
    return method in [row.name for row in of_tokens()]


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
    from llmtrace.cli.output.documents import records_of

    return records_of(check.df())


def section(check: CausalCheck) -> Section:
    from llmtrace.plots import Section, plot

    return Section("Is it true?", repr(check), figure=plot(check))
