"""Options of influence methods (each of some only) and of spans, which `influence` and `generation` share."""

from __future__ import annotations

import inspect
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmtrace.cli.options import METHODS, OCCLUDED_BY, PATHS_FROM, MetricName, nodes, numbers, one_of, places
from llmtrace.errors import InputError

if TYPE_CHECKING:
    from llmtrace.cli.prompts import Asked
    from llmtrace.cli.run import Run
    from llmtrace.methods import Method
    from llmtrace.models import TraceModel
    from llmtrace.prompts import PromptSet, Spans

TOKEN_METHODS = METHODS[4:]  # those that score tokens; tests/test_cli.py compares them with the table
MESSAGES = "messages"  # of --spans
READ = {"layers": numbers, "heads": nodes, "targets": places}


@dataclass(frozen=True, kw_only=True)
class TokenOptions:
    """Of methods that score tokens. None: not asked for."""

    layer: Annotated[
        int | None, typer.Option("--layer", metavar="L", help="For raw_attention and value_weighted_norms.")
    ] = None
    head: Annotated[
        int | None, typer.Option("--head", metavar="H", help="For raw_attention.  [default: mean of the layer]")
    ] = None
    residual: Annotated[
        bool | None,
        typer.Option(
            "--residual/--no-residual",
            help="For value_weighted_norms: what stays at a token counts too.  [default: residual]",
        ),
    ] = None
    threshold: Annotated[
        float | None,
        typer.Option("--threshold", metavar="X", help="For flow_routes: shares up to X are dropped.  [default: 0.01]"),
    ] = None
    baseline: Annotated[
        str | None,
        typer.Option("--baseline", metavar=one_of(PATHS_FROM), help="For integrated_gradients.  [default: mean]"),
    ] = None
    steps: Annotated[
        int | None, typer.Option("--steps", metavar="K", help="For integrated_gradients.  [default: 64]")
    ] = None
    by: Annotated[
        str | None,
        typer.Option(
            "--by", metavar=one_of(OCCLUDED_BY), help="For occlusion: what replaces a token.  [default: mean]"
        ),
    ] = None
    memory: Annotated[
        str | None,
        typer.Option("--memory", metavar="SIZE", help="For occlusion and gradients: beside the weights, such as 2GB."),
    ] = None
    batch_size: Annotated[
        int | None,
        typer.Option("--batch-size", min=1, metavar="N", help="For attention, norms and alti: prompts at once."),
    ] = None

    def typed(self) -> dict[str, Any]:
        """Those that were asked for, as they stand on the command line."""
        said = {part.name: getattr(self, part.name) for part in fields(self)}
        return {name: value for name, value in said.items() if value is not None}

    def flags(self) -> str:
        return flags(self.typed())

    def given(self) -> dict[str, Any]:
        """Those that were asked for, as the method takes them."""
        return {name: READ[name](_flag(name), value) if name in READ else value for name, value in self.typed().items()}

    def require_known(self, row: Method) -> None:
        takes = list(inspect.signature(row.function).parameters)
        refuse_strangers(row.name, takes, list(self.typed()), [part.name for part in fields(self)])


@dataclass(frozen=True, kw_only=True)
class ScoreOptions(TokenOptions):
    """Of all methods."""

    metric: MetricName = None
    targets: Annotated[
        str | None,
        typer.Option(
            "--targets",
            metavar="PLACES",
            help="For flow_routes and attention_flow: whose predictions are explained, such as END,S2,-1.  "
            "[default: END]",
        ),
    ] = None
    layers: Annotated[
        str | None, typer.Option("--layers", metavar="LAYERS", help="For neuron_attribution: such as 0,2-4.")
    ] = None
    heads: Annotated[
        str | None, typer.Option("--heads", metavar="HEADS", help="For source_token_attribution: such as 9.6,9.9.")
    ] = None


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


def refuse_strangers(method: str, takes: Sequence[str], given: Sequence[str], known: Sequence[str]) -> None:
    """An option that a method would not look at is refused: nobody shall believe that it had an effect."""
    for name in given:
        if name not in takes:
            options = ", ".join(_flag(option) for option in known if option in takes)
            raise InputError(
                f"{method} takes {options or 'no option of other methods'}, got {_flag(name)}; leave it out."
            )


def refuse_without(option: str, there: bool, given: Sequence[str]) -> None:
    """Options of another option, which is not there."""
    if given and not there:
        raise InputError(f"Expected {_flag(given[0])} with {option} only, got it alone; add {option} or leave it out.")


def require_tokens(option: str, method: str) -> None:
    """Refused before a model is loaded."""
    if method not in TOKEN_METHODS:
        raise InputError(
            f"Expected {option} with a method that scores tokens ({', '.join(TOKEN_METHODS)}), got it with {method}; "
            f"choose one, such as --method {TOKEN_METHODS[-1]}."
        )


def flags(typed: dict[str, Any]) -> str:
    """As typed, with a leading space; nothing for what was not."""
    said = ""
    for name, value in typed.items():
        if isinstance(value, bool):
            said += f" {_flag(name)}" if value else f" {_flag(f'no_{name}')}"
        else:
            each = value if isinstance(value, list) else [] if value is None else [value]
            said += "".join(f" {_flag(name)} {shlex.quote(str(one))}" for one in each)
    return said


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
