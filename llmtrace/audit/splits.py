"""Four disjoint sets: fit, calibrate, test, prove. By kind, so that what is tested was never seen in any form.

A monitor that is tested on new rows of the templates it was fitted on has learned the templates. No row and no kind is
in two of the sets; a prompt that is in two (by its tokens) is refused, wherever it came from.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from llmtrace.audit.labelled import LabelledPrompts
from llmtrace.errors import InputError
from llmtrace.results import Result

if TYPE_CHECKING:
    import pandas as pd

STEPS = ("fit", "calibrate", "test", "prove")
SHARES = {"fit": 0.4, "calibrate": 0.2, "test": 0.2, "prove": 0.2}
TRIES = 200


@dataclass(frozen=True, eq=False)
class Split(Result):
    """One set for each step. Raises InputError where two of them share a prompt or a kind, or one has one class
    only."""

    fit: LabelledPrompts
    calibrate: LabelledPrompts
    test: LabelledPrompts
    prove: LabelledPrompts

    def __post_init__(self) -> None:
        seen: dict[int, str] = {}
        kinds: dict[str, str] = {}
        for step, rows in self.steps():
            rows.require_both(f"to {step}")
            for row, print_ in enumerate(rows.prompts.fingerprints.tolist()):
                if seen.setdefault(print_, step) != step:
                    raise InputError(
                        f"Expected sets that share no prompt, got {rows.prompts.texts[row][:60]!r} in {seen[print_]} "
                        f"and {step}; leave it out of one of them."
                    )
            for kind in {*rows.kinds}:
                if kinds.setdefault(kind, step) != step:
                    raise InputError(
                        f"Expected sets that share no kind of prompt, got {kind!r} in {kinds[kind]} and {step}; "
                        "put all prompts of a kind into one of them."
                    )

    def steps(self) -> Iterator[tuple[str, LabelledPrompts]]:
        """The name of each step, and its rows."""
        for part in fields(self):
            yield part.name, getattr(self, part.name)

    def df(self) -> pd.DataFrame:
        """One row per step: its kinds, its prompts, and how many of them are True."""
        import pandas as pd

        rows = [
            (step, ", ".join(sorted({*some.kinds})), len(some), int(some.labels.sum())) for step, some in self.steps()
        ]
        return pd.DataFrame(rows, columns=["step", "kinds", "prompts", "true"])

    def __repr__(self) -> str:
        said = ", ".join(f"{step} {len(some)} ({int(some.labels.sum())} True)" for step, some in self.steps())
        return f"Split({said})"


def split(labelled: LabelledPrompts, *, seed: int = 0) -> Split:
    """Whole kinds dealt out to the four steps, about 40/20/20/20 % of the rows, so that each step has both classes.

    Raises InputError for fewer than four kinds, or where no way to deal them out gives each step both classes.
    """
    kinds = sorted({*labelled.kinds})
    if len(kinds) < len(STEPS):
        raise InputError(
            f"Expected prompts of at least {len(STEPS)} kinds, so that what is tested was not fitted on, got "
            f"{len(kinds)} ({', '.join(map(repr, kinds))}); say kinds (templates, "
            "sources), or make a Split of your own sets."
        )
    labelled.require_both("to fit, calibrate, test and prove on")
    size = {kind: labelled.kinds.count(kind) for kind in kinds}
    positive = {kind: int(labelled.of_kinds(kind).labels.sum()) for kind in kinds}
    draw = random.Random(seed)
    for _ in range(TRIES):
        order = draw.sample(kinds, len(kinds))
        dealt: dict[str, list[str]] = {step: [] for step in STEPS}
        for kind in order:
            dealt[min(STEPS, key=lambda s: sum(size[k] for k in dealt[s]) / SHARES[s])].append(kind)
        if all(0 < sum(positive[k] for k in some) < sum(size[k] for k in some) for some in dealt.values()):
            return Split(**{step: labelled.of_kinds(*some) for step, some in dealt.items()})
    told = ", ".join(f"{kind} {positive[kind]} of {size[kind]}" for kind in kinds)
    raise InputError(
        f"Expected kinds that can be dealt out so that each step sees both classes, got (True of all) {told}; "
        "add prompts of the class that is rare."
    )
