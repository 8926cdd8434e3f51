"""All scores of all heads in one table: what they look at, what they copy, and on given prompts what they move.

Cost: one forward pass on random tokens, the weights' own products, two passes on the prompts. What a model does not
allow is left out, with the reason (`HeadTable.left_out`). Source: that of each column (`detectors.py`, `copying.py`,
`name_movers.py`). Sign: more is more of what the column is called.
Known failure: columns come from different data (random tokens, weights, prompts), so a row is not one behaviour.

    >>> lt.influence.head_scores(model, prompts)
    HeadTable(32 heads, 12 scores; highest: previous_token 2.6 0.61, current_token 2.2 0.83, duplicate_token 2.2 0.33,
    induction 3.7 0.65)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import groupby

from llmtrace.errors import InputError, UnsupportedError
from llmtrace.influence.heads.detectors import head_behaviour
from llmtrace.influence.heads.head_table import HeadTable
from llmtrace.influence.rows import HEAD_COLUMNS
from llmtrace.methods import found_at
from llmtrace.models import TraceModel
from llmtrace.models.memory import Memory
from llmtrace.prompts import PromptSet


def head_scores(
    model: TraceModel,
    prompts: PromptSet | None = None,
    *,
    draws: int = 10,
    length: int | None = None,
    seed: int = 0,
    memory: Memory = "auto",
) -> HeadTable:
    """`head_behaviour` (with draws, length, seed), and the `HEAD_COLUMNS`: `copying_scores`, and `name_movers` where
    `prompts` are given."""
    table = head_behaviour(model, draws=draws, length=length, seed=seed, memory=memory)
    for where, rows in groupby(HEAD_COLUMNS.values(), key=lambda row: row.where):
        columns = {row.name: row.needs for row in rows}
        if not any(columns.values()):
            table = _with(table, tuple(columns), partial(found_at(where), model, seed=seed))
        elif prompts is not None:
            table = _with(table, tuple(columns), partial(found_at(where), model, prompts))
    return replace(table, method="head_scores")


def _with(table: HeadTable, columns: tuple[str, ...], score: Callable[[], HeadTable]) -> HeadTable:
    try:
        return table | score()
    except (InputError, UnsupportedError) as error:  # this model, or these prompts, do not allow it: said, not raised
        return replace(table, left_out={**table.left_out, **dict.fromkeys(columns, str(error))})
