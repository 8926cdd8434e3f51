"""Ranked bars: one number per name, its interval where there is one. Names on a numeric axis, largest on top."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from llmtrace.plots.drawing.style import sign_colours, ticks
from llmtrace.plots.drawing.text import number


def draw_bars(
    drawn: go.Figure,
    names: Sequence[str],
    values: np.ndarray,
    hover: Sequence[str],
    unit: str,
    *,
    low: np.ndarray | None = None,
    high: np.ndarray | None = None,
) -> go.Figure:
    """Horizontal bars from 0. `names`, `hover` and `unit` are escaped already."""
    interval = None
    if low is not None and high is not None:
        interval = {"array": high - values, "arrayminus": values - low, "thickness": 1, "width": 3, "color": "#1f2933"}
    drawn.add_bar(
        x=values, y=np.arange(len(values)), orientation="h", marker_color=sign_colours(values), error_x=interval,
        text=[number(value) for value in values.tolist()], textposition="none" if interval else "auto",
        hovertext=list(hover), hoverinfo="text",
    )  # fmt: skip
    drawn.update_yaxes(**ticks(names, room=22 * len(names)), autorange="reversed")
    drawn.update_xaxes(title=unit, zeroline=True, zerolinecolor="#66727f")
    return drawn


def bars_height(n: int) -> int:
    return 22 * n + 100
