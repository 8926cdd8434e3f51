"""Colours, titles and axes: what all figures share. No global state: plotly's default template is left alone.

Diverging red-white-blue centred at 0 for signed values (blue raises the metric), viridis for shares; colour-blind
readers tell both apart. Colour never stands alone: every value is in the hover text as well.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from torch import Tensor

from llmtrace.plots.drawing.text import escaped, token_text

INK, MUTED, FAINT = "#1f2933", "#66727f", "#d5dae0"
NEGATIVE, POSITIVE = "#b2182b", "#2166ac"  # the ends of RdBu
DIVERGING, SHARES = "RdBu", "Viridis"
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
UPLOADS = ["sendChartToCloud", "sendDataToCloud"]  # buttons of plotly.js that would send the data to its makers
PITCH = 7  # px that a label needs at least; where they have less, only every n-th is written


def array(values: Tensor) -> np.ndarray:
    """float64, on the CPU: figures hold the noun's own numbers."""
    return np.asarray(values.detach().double().cpu().numpy())


def colours(values: np.ndarray, *, signed: bool | None = None) -> dict[str, Any]:
    """Colour scale and range of a heatmap. `signed`: whether 0 is the middle (default: whether a value is negative)."""
    finite = values[np.isfinite(values)]
    largest = float(np.abs(finite).max(initial=0.0)) or 1.0
    if signed if signed is not None else bool((finite < 0).any()):
        return {"colorscale": DIVERGING, "zmid": 0.0, "zmin": -largest, "zmax": largest}
    return {"colorscale": SHARES, "zmin": 0.0, "zmax": largest}


def colour_bar(height: int) -> dict[str, Any]:
    """The bar beside a heatmap of about `height` px, no longer than the heatmap."""
    length = max(80, min(220, height - 90))
    return {"thickness": 14, "outlinewidth": 0, "lenmode": "pixels", "len": length, "y": 1, "yanchor": "top", "ypad": 0}


def sign_colours(values: np.ndarray) -> list[str]:
    return [NEGATIVE if value < 0 else POSITIVE for value in values.tolist()]


def figure(heading: str, facts: Sequence[str], *, height: int, **layout: Any) -> go.Figure:
    """An empty figure: `heading` is its title, `facts` (model, prompts, ...) the line below. Escaped here."""
    return dress(go.Figure(), heading, facts, height=height, **layout)


def dress(drawn: go.Figure, heading: str, facts: Sequence[str], *, height: int, **layout: Any) -> go.Figure:
    whole = "  ·  ".join(fact.replace(" ", "\xa0") for fact in facts if fact)
    lines = [line.strip(" ·") for line in textwrap.wrap(whole, 120, break_long_words=False)]
    top = 64 + 17 * max(0, len(lines) - 1)
    drawn.update_layout(
        template="plotly_white",
        title={
            "text": escaped(heading), "x": 0, "xref": "paper", "xanchor": "left", "yref": "container", "y": 1,
            "yanchor": "top", "pad": {"t": 12}, "font": {"size": 17},
            "subtitle": {"text": "<br>".join(map(escaped, lines)), "font": {"size": 12.5, "color": MUTED}},
        },
        font={"family": FONT, "size": 12, "color": INK},
        height=height + top,
        margin={"t": top + 16, "l": 70, "r": 30, "b": 60},
        hoverlabel={"align": "left", "font": {"family": FONT}},
        hovermode="closest",
        modebar={"remove": UPLOADS},
        **layout,
    )  # fmt: skip
    drawn.update_xaxes(automargin=True, zeroline=False)
    drawn.update_yaxes(automargin=True, zeroline=False)
    return drawn


def room_for_panel_titles(drawn: go.Figure) -> go.Figure:
    """A line more above the panels, whose titles stand there."""
    return drawn.update_layout(margin_t=drawn.layout.margin.t + 16)


def source(provenance: Mapping[str, Any], prompts: int | None = None) -> list[str]:
    """The facts that every figure states: model, number of prompts."""
    return [str(provenance.get("model", "unknown model")), *([] if prompts is None else [count(prompts, "prompt")])]


def count(n: int, what: str) -> str:
    return f"{n:,} {what}{'' if n == 1 else 's'}"


def words(name: str) -> str:
    """`direct_logit_attribution` as it is read."""
    return name.replace("_", " ")


def ticks(labels: Sequence[str], *, room: int = 900, least: int = PITCH) -> dict[str, Any]:
    """A numeric axis with tick text (already escaped), for an axis of about `room` px, `least` px a label.

    Never a category axis: plotly merges equal category labels silently, and prompts repeat tokens. Labels shrink as
    they become many; where even small ones would overlap, every n-th is written and the cells between stay.
    """
    pitch = room / max(1, len(labels))
    step = math.ceil(least / pitch) if pitch < least else 1
    return {
        "type": "linear", "tickmode": "array", "tickvals": list(range(0, len(labels), step)),
        "ticktext": list(labels)[::step], "tickfont": {"size": max(6.0, min(12.0, 0.85 * pitch * step))},
        "showgrid": False,
    }  # fmt: skip


def token_ticks(labels: Sequence[str], *, room: int = 900) -> dict[str, Any]:
    """An axis of tokens."""
    return ticks([token_text(label) for label in labels], room=room)


def gaps(rows: int, columns: int) -> dict[str, int]:
    """White lines between the cells of a heatmap, while cells are large enough to spare them."""
    line = int(max(rows, columns) <= 48)
    return {"xgap": line, "ygap": line}
