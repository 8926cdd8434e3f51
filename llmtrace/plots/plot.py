"""`plot`: one verb for every noun. A new noun is one drawing function and one row of `NOUNS`.

>>> type(lt.plots.plot(lt.interventions.path_patch(model, prompts))).__name__
'Figure'
"""

from __future__ import annotations

import inspect
from typing import Any

import plotly.graph_objects as go

from llmtrace.errors import InputError, did_you_mean
from llmtrace.plots.rows import NOUNS


def plot(noun: Any, **options: Any) -> go.Figure:
    """The figure of a noun, returned and never shown. `options` are those of its drawing function in `NOUNS`.

    Raises InputError for a type that has no figure and for an option that its figure does not have.
    """
    rows = (row for kind in type(noun).__mro__ for row in NOUNS.values() if row.draws(kind))
    row = next(rows, None)
    if row is None:
        raise InputError(
            f"Expected a result with a figure (Effects, Circuit, ...: the {len(NOUNS)} of lt.plots.NOUNS), got "
            f"{type(noun).__name__}; plot what a method returned."
        )
    known = [p.name for p in inspect.signature(row.function).parameters.values() if p.kind is p.KEYWORD_ONLY]
    for name in options:
        if name not in known:
            raise InputError(
                f"Expected options of the figure of {type(noun).__name__} ({', '.join(known) or 'it has none'}), "
                f"got {name!r}.{did_you_mean(name, known)}"
            )
    figure: go.Figure = row(noun, **row.read_options(options))
    return figure
