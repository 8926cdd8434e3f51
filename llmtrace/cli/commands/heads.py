"""`llmtrace heads`: what every head looks at, copies and moves: a table of scores over the whole model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmtrace.cli.options.groups import OnTexts
from llmtrace.cli.options.prompts import described
from llmtrace.cli.options.shared import (
    Memory,
    Source,
    Top,
    choice,
    one_of,
    words,
)
from llmtrace.cli.output.run import Run
from llmtrace.influence.rows import DETECTORS, HEAD_COLUMNS
from llmtrace.nodes import SLOTS

if TYPE_CHECKING:
    from llmtrace.cli.output.screen import Next, Screen
    from llmtrace.influence import Composition, HeadTable
    from llmtrace.plots import Section

PAIRS = 10  # of composing heads, for each slot


def heads(
    model: Source,
    by: Annotated[
        str,
        typer.Option("--by", metavar=one_of(DETECTORS | HEAD_COLUMNS), help="Which score ranks the table."),
    ] = "induction",
    length: Annotated[
        int | None,
        typer.Option("--length", metavar="L", help="Random tokens, said twice.  [default: 50, or what fits]"),
    ] = None,
    draws: Annotated[int, typer.Option("--draws", min=1, metavar="N", help="How many such random prompts.")] = 10,
    distance: Annotated[
        int,
        typer.Option(
            "--distance", min=0, metavar="D", help="Of Q- and K-composition in rotary models: how far back the key is."
        ),
    ] = 0,
    slots: Annotated[
        str, typer.Option("--slots", metavar="SLOTS", help="Which compositions; v alone where a model allows no other.")
    ] = "q,k,v",
    memory: Memory = "auto",
    top: Top = 10,
    *,
    common: OnTexts,
) -> None:
    """Tell heads apart: previous token, induction, name movers.

    What they look at (on random tokens, said twice), what they copy and how they compose (from their weights), and what
    they move to the answer (on the prompts). What the model does not allow is left out, with the reason.
    """
    by = choice("--by", by, (*DETECTORS, *HEAD_COLUMNS))
    kinds = [choice("--slots", slot, SLOTS) for slot in words("--slots", slots, example="q,k") or ()]
    options = {"by": by, "length": length, "draws": draws, "distance": distance, "slots": kinds}
    run = common.run("heads", model, {**options, "memory": memory})
    traced = run.load()
    chosen = run.prompts(traced)

    from llmtrace.cli.output.documents import HeadRow
    from llmtrace.cli.output.screen import decimals
    from llmtrace.errors import UnsupportedError
    from llmtrace.influence import head_composition, head_scores

    table = head_scores(traced, chosen, draws=draws, length=length, seed=common.seed, memory=memory)
    ranked = table.top(by, len(table.heads))
    left_out = dict(table.left_out)
    composed: Composition | None = None
    try:
        composed = head_composition(traced, slots=kinds, distance=distance)
    except UnsupportedError as error:
        left_out["composition"] = str(error)
    rows = [
        HeadRow(node=str(head), layer=head.layer, head=head.head, scores=table.of(head)) for head, _ in ranked
    ]  # fmt: skip
    pairs = {} if composed is None else {
        slot: [{"sender": str(s), "receiver": str(r), "composition": v} for s, r, v in composed.top(slot, PAIRS)]
        for slot in composed.slots
    }  # fmt: skip

    def show(screen: Screen) -> list[Next]:
        screen.say(
            f"Heads of {table.provenance['model']} by {by}: {draws} prompts of {table.options['length']} random "
            f"tokens, twice; {described(chosen)}\n"
        )
        names = [by, *(name for name in table.columns if name != by)]
        screen.table(
            ["head", *(name.replace("_", " ") for name in names)],
            [[head.label, *(decimals(table.of(head)[name]) for name in names)] for head, _ in ranked[:top]],
        )
        screen.say("\nShares of attention, copying from -1 to 1, name mover and direct in logits.")
        for slot, found in pairs.items():
            if found:
                best = ", ".join(f"{p['sender']} -> {p['receiver']} {p['composition']:.2f}" for p in found[:3])
                screen.say(
                    f"{slot.upper()}-composition: {best} (by chance {composed.baseline:.2f})" if composed else ""
                )
        for reason in dict.fromkeys(left_out.values()):
            screen.say(f"Left out: {', '.join(name for name, why in left_out.items() if why == reason)}. {reason}")
        return _next(run, ranked[0][0].label)

    run.finish(
        rows,
        show=show,
        model=traced,
        prompts=chosen,
        summary={"by": by, "length": table.options["length"], "left_out": left_out, "composition": pairs,
                 "baseline": None if composed is None else composed.baseline},
        sections=lambda: _sections(table, composed),
    )  # fmt: skip


def _next(run: Run, best: str) -> list[Next]:
    if run.asked.texts:  # without answers nothing is missed
        return [(f"llmtrace heads {run.source}", "the same, with name movers on sentences that have an answer")]
    return [
        (run.again("ablate", f" --nodes {best}"), "test it: is the head missed where there is an answer?"),
        (run.again("trace", " --what pattern"), "where it looks, in the prompts themselves"),
    ]


def _sections(table: HeadTable, composed: Any) -> list[Section]:
    from llmtrace.plots import Section, plot

    about = "Where heads look on random tokens that come twice, what they copy, what they move to the answer."
    found = [Section("Heads", about, figure=plot(table), table=table.df())]
    if composed is not None:
        found.append(Section("Composition", "How much of a head's write later heads can read.", figure=plot(composed)))
    return found
