"""A fact that is asked for, and words that draw away from it.

    Fact one : Anna has the key . Fact two : Bob has the ball . Bob and Bob . Repeat fact one :     -> Anna or Bob

True: the model gives the other name. Spans: instruction (the question), document (the facts), distraction.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from llmtrace.audit.labelled import LabelledPrompts, Written
from llmtrace.audit.sets.voices import made, plain, voice_of
from llmtrace.audit.sets.words import NAMES, OBJECTS, PLACES
from llmtrace.models import TraceModel

IN_ORDER = "Fact one : {A} has the {x} . Fact two : {B} has the {y} ."
REVERSED = "Fact two : {B} has the {y} . Fact one : {A} has the {x} ."
# Facts, and what draws away from them (W: the other name); every second prompt draws towards the right one (R) instead.
KINDS = {
    "and": (IN_ORDER, "{W} and {W} ."),
    "with a place": (IN_ORDER, "{W} and {W} went to the {place} ."),
    "reversed": (REVERSED, ""),
    "reversed and": (REVERSED, "{W} and {W} ."),
    "three times": (IN_ORDER, "{W} , {W} and {W} ."),
    "reversed place": (REVERSED, "{W} and {W} went to the {place} ."),
}


def distraction(model: TraceModel, n: int = 240, *, seed: int = 0) -> LabelledPrompts:
    """`n` prompts of six kinds. Cost: 1 F for the labels. Raises UnsupportedError for a model it cannot speak to."""
    voice_of(model, "distraction", ("plain",), ["Repeat", *NAMES[:4]])
    kinds = {kind: _row(*words) for kind, words in KINDS.items()}
    return made(model, "distraction", kinds, n, seed, meaning="the model gives the fact that was not asked for")


def _row(facts: str, drawing: str) -> Callable[[random.Random], Written]:
    def row(draw: random.Random) -> Written:
        (a, b), (x, y) = draw.sample(NAMES, 2), draw.sample(OBJECTS, 2)
        asked = draw.choice(("one", "two"))
        right, other = (a, b) if asked == "one" else (b, a)
        drawn = draw.choice((right, other))
        parts = [("document", facts.format(A=a, B=b, x=x, y=y))]
        if drawing:
            parts.append(("distraction", drawing.format(W=drawn, place=draw.choice(PLACES))))
        text, marks = plain([*parts, ("instruction", f"Repeat fact {asked} :")])
        return Written(text, marks, (right,), (other,))

    return row
