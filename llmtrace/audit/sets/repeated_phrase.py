"""Words that were there before: does the model go on with what came after them?

    ball key red Anna map ball key red     -> Anna

True: the model's first choice is the word that followed. In every second prompt the words are the same and only the
last of them stands where it stood. Spans: phrase (its first time), again (its second).
"""

from __future__ import annotations

import random
from collections.abc import Callable

from llmtrace.audit.labelled import LabelledPrompts, Written
from llmtrace.audit.sets.voices import made, plain, voice_of
from llmtrace.audit.sets.words import COLOURS, NAMES, OBJECTS, PLACES
from llmtrace.models import TraceModel

# Words of the phrase, words between its two times.
KINDS = {
    "short": (3, 1), "short and far": (3, 6), "middle": (5, 1), "middle and far": (5, 6), "long": (8, 1),
    "long and far": (8, 6),
}  # fmt: skip


def repeated_phrase(model: TraceModel, n: int = 240, *, seed: int = 0) -> LabelledPrompts:
    """`n` prompts of six kinds. Cost: 1 F for the labels. Raises UnsupportedError for a model it cannot speak to."""
    voice_of(model, "repeated_phrase", ("plain", "chat"), [*NAMES[:4], *COLOURS[:2]])
    kinds = {kind: _row(*sizes) for kind, sizes in KINDS.items()}
    return made(model, "repeated_phrase", kinds, n, seed, meaning="the model goes on with what followed before")


def _row(length: int, between: int) -> Callable[[random.Random], Written]:
    def row(draw: random.Random) -> Written:
        *words, follows = draw.sample([*NAMES, *OBJECTS, *COLOURS, *PLACES], length + 1 + between)
        phrase, rest = words[:length], words[length:]
        again = list(phrase)
        if draw.random() < 0.5:
            again = [*draw.sample(phrase[:-1], length - 1), phrase[-1]]
        text, marks = plain(
            [("phrase", " ".join([*phrase, follows])), ("", " ".join(rest)), ("again", " ".join(again))]
        )
        return Written(text, marks, (), (follows,))

    return row
