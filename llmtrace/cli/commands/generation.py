"""`llmtrace generation`: every generated token followed back to the prompt and to the tokens generated before it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmtrace.cli.options import validating
from llmtrace.cli.options.from_rows import flags, given
from llmtrace.cli.options.groups import OneText
from llmtrace.cli.options.scoring import SpanOptions, TokenOptions, of_tokens
from llmtrace.cli.options.shared import Source, choice, one_of, unit_of
from llmtrace.cli.options.validating import CheckOptions
from llmtrace.cli.output.run import Run
from llmtrace.cli.output.screen import decimals, number
from llmtrace.errors import InputError
from llmtrace.influence.rows import METHODS

if TYPE_CHECKING:
    from llmtrace.cli.output.documents import GeneratedRow
    from llmtrace.cli.output.screen import Next, Screen
    from llmtrace.influence import GenerationInfluence
    from llmtrace.models import TraceModel
    from llmtrace.plots import Section
    from llmtrace.validation import CausalCheck

RUNNER_UP, NOTHING = "runner-up", "none"
TEXT_SHOWN = 300  # characters of what was generated


def generation(
    model: Source,
    method: Annotated[
        str, typer.Option("--method", metavar=one_of(row.name for row in of_tokens()), help="How influence is scored.")
    ] = "decompx",
    max_new_tokens: Annotated[
        int, typer.Option("--max-new-tokens", min=1, metavar="N", help="How many tokens to generate at most.")
    ] = 20,
    against: Annotated[
        str | None,
        typer.Option(
            "--against",
            metavar=f"{RUNNER_UP}|WORD|{NOTHING}",
            help="Why this token and not: the second best, a word, or nothing (its log-probability: gradients, "
            f"occlusion).  [default: {RUNNER_UP}]",
        ),
    ] = None,
    stop_at_eos: Annotated[
        bool, typer.Option("--stop-at-eos/--past-eos", help="Whether the end-of-text token ends it.")
    ] = True,
    top: Annotated[
        int, typer.Option("--top", min=1, metavar="K", help="Sources of a token on the screen; --json has all of them.")
    ] = 3,
    *,
    test: CheckOptions,
    how: TokenOptions,
    stretches: SpanOptions,
    common: OneText,
) -> None:
    """Explain generated text, token by token.

    Goes on from a prompt, always with the most probable token, and follows every new token back to the prompt and to
    the tokens generated before it. Nothing is drawn at random: --seed changes nothing here.
    """
    choice("--method", method, tuple(row.name for row in of_tokens()))
    row = METHODS[method]
    test.require_of(method)
    options = {
        "method": method, "max_new_tokens": max_new_tokens, "against": against, "stop_at_eos": stop_at_eos,
        **({"prompt": common.prompt[0]} if common.prompt else {}), **stretches.typed(), **how.said, **test.typed(),
    }  # fmt: skip
    run = common.run("generation", model, options)

    from llmtrace import influence as room

    said = given(row, how.said)
    if against is not None and "correct" not in row.needs:
        raise InputError(
            f"Expected --against with a method that explains an answer, got it with {method}, which says where a "
            "prediction comes from; leave it out."
        )
    if against == NOTHING and "linear" in row.needs:
        raise InputError(
            f"Expected --against {RUNNER_UP} or a word with {method}, which explains what is linear in the logits, got "
            f"{NOTHING} (log-probability); leave it out, or use --method input_x_gradient or occlusion."
        )
    traced = run.load()
    chosen, spans = stretches.made(run, traced)
    found = room.attribute_generation(
        traced, chosen, max_new_tokens=max_new_tokens, method=method, spans=spans, stop_at_eos=stop_at_eos,
        against=None if against == NOTHING else against or RUNNER_UP, **said,
    )  # fmt: skip
    check = _check(found, traced, how, test, common.seed) if test.validate else None
    rows = _rows(found)
    sizes = dict(zip(found.spans.names, found.spans.sizes[0].tolist(), strict=True))

    def show(screen: Screen) -> list[Next]:
        screen.say(f"{method.replace('_', ' ')} ({row.summary}) of {found.provenance['model']}, {_unit(found)}")
        text = found.text if len(found.text) <= TEXT_SHOWN else f"{found.text[:TEXT_SHOWN]} ..."
        screen.say(f"Generated after {len(found.labels) - len(rows) + 1} tokens: {text!r}")
        screen.say("From each span (in brackets its tokens), and from the largest single tokens (position, value):\n")
        screen.table(*_table(rows, sizes, top))
        if check is not None:
            validating.tell(screen, check, over="generated tokens")
        return _next(run, how, stretches, method)

    run.finish(
        rows, show=show, model=traced, prompts=chosen, metric=found.metric,
        summary={
            "method": method, "text": found.text, "spans": sizes,
            **({} if check is None else {"validation": validating.records(check)}),
        },
        sections=lambda: _sections(found, row.summary, check),
    )  # fmt: skip


def _check(
    found: GenerationInfluence, model: TraceModel, how: TokenOptions, test: CheckOptions, seed: int
) -> CausalCheck:
    from llmtrace.validation import validate

    asked = {name: how.said.get(name, "auto") for name in ("ablation", "memory")}
    return validate(model, found.prompts, found, **asked, **{"seed": seed, **test.given()})


def _rows(found: GenerationInfluence) -> list[GeneratedRow]:
    """One per generated token; it takes from nothing that comes after."""
    from llmtrace.cli.output.documents import GeneratedRow, TokenSource

    of, names = found.spans.of[0].tolist(), found.spans.names
    by_span = found.by_span().values[0].tolist()
    explained = found.metric is not None and any(found.against)  # other methods compare with nothing
    rows = []
    for step, (at, values) in enumerate(found.influence.rows(0)):
        sources = [
            TokenSource(position=j, token=found.labels[j], span=names[of[j]], value=value)
            for j, value in enumerate(values)
        ]
        rows.append(
            GeneratedRow(
                step=step, position=at + 1, token=found.chosen[step], probability=found.probability[step].item(),
                against=found.against[step] if explained else None, spans=dict(zip(names, by_span[step], strict=True)),
                sources=sources,
            )
        )  # fmt: skip
    return rows


def _table(rows: list[GeneratedRow], sizes: dict[str, int], top: int) -> tuple[list[str], list[list[Any]]]:
    """Scores of an answer have a sign, shares and norms have none."""
    spans = [name for name, size in sizes.items() if size]
    explained = any(row.against for row in rows)
    signed = explained or any(value < 0 for row in rows for value in row.spans.values())
    told = number if signed else decimals
    cells = []
    for row in rows:
        largest = sorted(row.sources, key=lambda source: -abs(source.value))[:top]
        sources = ", ".join(f"{source.token!r} ({source.position}) {told(source.value)}" for source in largest)
        compared = [repr(row.against)] if explained else []
        cells.append(
            [repr(row.token), decimals(row.probability), *compared, *(told(row.spans[name]) for name in spans), sources]
        )
    names = [f"{name} ({sizes[name]})" for name in spans]
    return ["token", "p", *(["against"] if explained else []), *names, "largest sources"], cells


def _unit(found: GenerationInfluence) -> str:
    if found.influence.rows_sum_to_one:
        return "shares that sum to 1"
    if found.metric is None:
        return "in its own unit"
    return f"{found.metric} in {unit_of(found.metric) or 'its own unit'}; positive speaks for the token"


def _next(run: Run, how: TokenOptions, stretches: SpanOptions, method: str) -> list[Next]:
    same = flags({"max_new_tokens": run.options["max_new_tokens"]}) + stretches.flags()
    if "validate" not in run.options:
        line = f" --method {method}{how.flags()}{same} --validate"
        return [(run.again("generation", line), "test it: what is lost without each token?")]
    return [(run.again("influence", " --method flow_routes --graph"), "the first token's whole way through the layers")]


def _sections(found: GenerationInfluence, summary: str, check: CausalCheck | None) -> list[Section]:
    from llmtrace.plots import Section, plot

    said = {} if check is None else {"validation": check}
    return [
        Section("Generated text", found.text),
        Section("Token by token", f"{summary.capitalize()}; {_unit(found)}.", figure=plot(found, **said)),
        Section("By span", "Sums over the tokens of each span.", figure=plot(found.by_span())),
        *([] if check is None else [validating.section(check)]),
    ]
