"""All scores of all heads in one table: what they look at, what they copy, and on given prompts what they move.

Cost: one forward pass on random tokens, the weights' own products, two passes on the prompts. What a model does not
allow is left out, with the reason (`HeadTable.left_out`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from llmtrace.errors import InputError, UnsupportedError
from llmtrace.influence.heads.copying import COLUMNS as COPYING, copying_scores
from llmtrace.influence.heads.detectors import head_behaviour
from llmtrace.influence.heads.name_movers import COLUMNS as NAME_MOVERS, name_movers
from llmtrace.influence.heads.table import HeadTable
from llmtrace.models import TraceModel
from llmtrace.prompts import PromptSet


def head_scores(
    model: TraceModel,
    prompts: PromptSet | None = None,
    *,
    n: int = 10,
    length: int | None = None,
    seed: int = 0,
    batch_size: int | None = None,
) -> HeadTable:
    """`head_behaviour` (with n, length, seed), `copying_scores`, and `name_movers` where `prompts` are given."""
    table = head_behaviour(model, n=n, length=length, seed=seed, batch_size=batch_size)
    table = _with(table, COPYING, lambda: copying_scores(model, seed=seed))
    if prompts is not None:
        table = _with(table, NAME_MOVERS, lambda: name_movers(model, prompts))
    return replace(table, method="head_scores")


def _with(table: HeadTable, columns: tuple[str, ...], score: Callable[[], HeadTable]) -> HeadTable:
    try:
        return table | score()
    except (InputError, UnsupportedError) as error:  # this model, or these prompts, do not allow it: said, not raised
        return replace(table, left_out={**table.left_out, **dict.fromkeys(columns, str(error))})
