"""Options of influence methods (each of some only) and of spans, which `influence` and `generation` share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmtrace.cli.options.from_rows import Said, Typed, flag, flags, from_rows
from llmtrace.cli.options.shared import MetricName, places
from llmtrace.errors import InputError
from llmtrace.influence.rows import METHODS
from llmtrace.methods import Method

if TYPE_CHECKING:
    from llmtrace.cli.options.prompts import Asked
    from llmtrace.cli.output.run import Run
    from llmtrace.models import TraceModel
    from llmtrace.prompts import PromptSet, Spans

MESSAGES = "messages"  # of --spans


def of_tokens() -> list[Method]:
    """The methods that score tokens, those that a user registered included."""
    return METHODS.giving("tokens")


@dataclass(frozen=True, kw_only=True)
class TokenOptions(Typed):
    """Of methods that score tokens; `generation` says itself what is explained, and where."""

    said: Said = field(default_factory=dict, metadata=from_rows(of_tokens(), but=("metric", "positions")))


@dataclass(frozen=True, kw_only=True)
class ScoreOptions(Typed):
    """Of all methods."""

    metric: MetricName = None
    said: Said = field(default_factory=dict, metadata=from_rows(METHODS.values(), but=("metric",)))

    def asked(self) -> dict[str, Any]:
        return {**({} if self.metric is None else {"metric": self.metric}), **self.said}

    def flags(self) -> str:
        return flags(self.asked())


@dataclass(frozen=True, kw_only=True)
class SpanOptions:
    """Named stretches of the prompt's tokens."""

    span: Annotated[
        list[str] | None,
        typer.Option(
            "--span",
            metavar="NAME=TEXT",
            help="Scores by span: the one stretch of the prompt that reads TEXT is NAME; may be given several times. "
            "What is in none is 'rest'.",
        ),
    ] = None

    def flags(self) -> str:
        return flags({"span": self.span})

    def named(self) -> dict[str, str]:
        return named("--span", self.span, example="document='la mer'")

    def typed(self) -> dict[str, Any]:
        return {"span": names} if (names := self.named()) else {}

    def made(self, run: Run, model: TraceModel) -> tuple[PromptSet, Spans | None]:
        """The prompts, and their spans: named ones, beside the messages of a conversation. None: there are none."""
        from llmtrace.prompts import Spans

        names = self.named()
        if run.asked.talk is not None:
            talk = run.asked.talk.make(model, names)
            return talk.prompts, talk.spans
        prompts = run.prompts(model)
        return prompts, Spans.of_text(model, prompts, names) if names else None


@dataclass(frozen=True, kw_only=True)
class SpanAndPlaceOptions(SpanOptions):
    """Spans by their words, or by the positions at which they begin."""

    spans: Annotated[
        str | None,
        typer.Option(
            "--spans",
            metavar=f"PLACES|{MESSAGES}",
            help="Instead: spans begin at these positions, such as S1,S2,END; or are the messages of a conversation.",
        ),
    ] = None

    def __post_init__(self) -> None:
        if self.span and self.spans is not None:
            raise InputError("Expected --span or --spans, got both; leave one out.")

    def flags(self) -> str:
        return flags({"span": self.span, "spans": self.spans})

    def typed(self) -> dict[str, Any]:
        begins = places("--spans", self.spans)
        return super().typed() | ({} if begins is None else {"spans": begins})

    def made(self, run: Run, model: TraceModel) -> tuple[PromptSet, Spans | None]:
        """None where none were asked for: a conversation is scored by token too."""
        from llmtrace.prompts import Spans

        prompts, spans = super().made(run, model)
        if self.spans is None or self.spans.strip() == MESSAGES:
            return prompts, spans if self.typed() else None
        return prompts, Spans.between(prompts, places("--spans", self.spans) or ())

    def require_fit(self, asked: Asked) -> None:
        """Refused before a model is loaded."""
        if (self.spans or "").strip() == MESSAGES and asked.talk is None:
            raise InputError(f"Expected --spans {MESSAGES} with --message, got it without one; name positions instead.")


def named(option: str, given: Sequence[str] | None, *, example: str) -> dict[str, str]:
    """`["a=b c"]` is {"a": "b c"}. Raises InputError for what has no name or no text, and for a name said twice."""
    found: dict[str, str] = {}
    for text in given or ():
        name, _, value = text.partition("=")
        if not name.strip() or not value.strip():
            raise InputError(f"Expected {option} as a name and a text, such as {example}; got {text!r}.")
        if name in found:
            raise InputError(f"Expected {option} with a name of its own each, got {name!r} twice; rename one.")
        found[name] = value
    return found


def refuse_without(option: str, there: bool, given: Sequence[str]) -> None:
    """Options of another option, which is not there."""
    if given and not there:
        raise InputError(f"Expected {flag(given[0])} with {option} only, got it alone; add {option} or leave it out.")


def require_tokens(option: str, method: str) -> None:
    """Refused before a model is loaded."""
    known = [row.name for row in of_tokens()]
    if method not in known:
        raise InputError(
            f"Expected {option} with a method that scores tokens ({', '.join(known)}), got it with {method}; "
            f"choose one, such as --method {known[-1]}."
        )
