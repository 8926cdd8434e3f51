"""`FaithfulnessCurve`: faithfulness over the share of the edges, between no circuit (0) and the whole model (1)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import plotly.graph_objects as go

from llmtrace.circuits import FaithfulnessCurve
from llmtrace.plots.drawing.style import FAINT, MUTED, POSITIVE, array, count, figure, source, words
from llmtrace.plots.drawing.text import escaped
from llmtrace.statistics import bootstrap_ratio

ROOM = 14  # tick labels beside each other


def plot_faithfulness_curve(curve: FaithfulnessCurve, *, level: float = 0.95) -> go.Figure:
    """Points are ratios of means. The x axis is a log scale; both areas are linear in the share."""
    shares, f = np.array(curve.shares), array(curve.faithfulness)
    low, high = map(
        array, bootstrap_ratio(curve.alone - curve.empty, curve.model - curve.empty, level=level, seed=curve.seed)
    )
    sizes, graph = [circuit.n_edges for circuit in curve.circuits], curve.circuits[-1].graph
    cmd, cpr = (
        f"{name.upper()} {getattr(curve, name):.3f} [{{:.3f}}, {{:.3f}}]".format(*curve.interval(name, level=level))
        for name in ("cmd", "cpr")
    )
    facts = [
        f"{cmd} (between the curve and 1)",
        f"{cpr} (below it)",
        f"{level:.0%} bootstrap intervals over prompts",
        *source(curve.circuits[-1].provenance, len(curve.model)),
        count(graph.n_edges, "edge"),
        f"{curve.ablation} ablation of the rest",
    ]
    heading = f"Faithfulness by size: {words(curve.method)} on {curve.metric}"
    drawn = figure(heading, facts, height=420)
    for at, name, side, x in ((0.0, "no edges", "right", 0.995), (1.0, "model", "left", 0.005)):
        drawn.add_hline(y=at, line={"color": MUTED, "width": 1, "dash": "dot"})
        drawn.add_annotation(x=x, xref="x domain", y=at, text=name, showarrow=False, xanchor=side, yanchor="bottom",
                             font={"size": 10, "color": MUTED})  # fmt: skip
    drawn.add_scatter(
        x=np.log10(shares), y=f, mode="lines+markers", name="faithfulness", hoverinfo="text",
        line={"color": POSITIVE, "width": 2}, marker={"size": 8},
        error_y={"array": high - f, "arrayminus": f - low, "color": MUTED, "thickness": 1, "width": 4},
        hovertext=[
            f"{share:.3%} of the edges ({size:,})<br>faithfulness {f[i]:.4g}  [{low[i]:.4g}, {high[i]:.4g}]"
            for i, (share, size) in enumerate(zip(curve.shares, sizes, strict=True))
        ],
    )  # fmt: skip
    drawn.update_xaxes(**_share_ticks(shares, graph.n_edges), title="share of the edges, and how many that are")
    drawn.update_yaxes(title=f"faithfulness on {escaped(curve.metric)}", range=_range(f, low, high))
    return drawn.update_layout(showlegend=False)


def _share_ticks(shares: np.ndarray, n_edges: int) -> dict[str, Any]:
    """A log scale as a numeric axis with tick text: 1, 2, 5 of each decade, or 1 alone where they are many."""
    first, last = math.floor(math.log10(shares[0])), math.ceil(math.log10(shares[-1]))
    for steps in ((1, 2, 5), (1,)):
        marks = [step * 10.0**decade for decade in range(first, last + 1) for step in steps]
        marks = [mark for mark in marks if shares[0] * 0.999 <= mark <= shares[-1] * 1.001]
        if len(marks) <= ROOM:
            break
    marks = marks if len(marks) > 1 else sorted({float(shares[0]), float(shares[-1])})
    return {
        "tickmode": "array", "tickvals": np.log10(marks).tolist(), "gridcolor": FAINT,
        "ticktext": [f"{100 * mark:.3g}%<br>{max(1, round(mark * n_edges)):,}" for mark in marks],
    }  # fmt: skip


def _range(f: np.ndarray, low: np.ndarray, high: np.ndarray) -> list[float]:
    """Every point and both lines; intervals as far as they do not flatten the rest."""
    bottom, top = min(0.0, float(np.nanmin(f))), max(1.0, float(np.nanmax(f)))
    reach = 0.5 * (top - bottom)
    bottom = max(bottom - reach, min(bottom, float(np.nanmin(low))))
    top = min(top + reach, max(top, float(np.nanmax(high))))
    pad = 0.06 * (top - bottom)
    return [bottom - pad, top + pad]
