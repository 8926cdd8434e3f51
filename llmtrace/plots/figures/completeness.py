"""`Completeness` and `Minimality`: nodes knocked out of the circuit, and out of the model as well."""

from __future__ import annotations

import textwrap

import numpy as np
import plotly.graph_objects as go

from llmtrace.circuits import Completeness, Minimality
from llmtrace.nodes import Node
from llmtrace.plots.drawing.bars import bars_height, draw_bars
from llmtrace.plots.drawing.style import INK, MUTED, POSITIVE, array, count, figure
from llmtrace.plots.drawing.text import escaped, number
from llmtrace.statistics import bootstrap_interval


def plot_completeness(completeness: Completeness, *, labels: int = 1, level: float = 0.95, seed: int = 0) -> go.Figure:
    """One point per knock-out; a complete circuit lies on the diagonal. The `labels` largest gaps carry their names."""
    circuit, model = (array(part.mean(1)) for part in (completeness.circuit, completeness.model))
    low, high = map(array, bootstrap_interval(completeness.circuit - completeness.model, level=level, seed=seed))
    gaps = array(completeness.gaps)
    above = (circuit > model).tolist()
    named = set(gaps.argsort()[::-1][:labels].tolist())
    facts = [
        count(completeness.circuit.shape[1], "prompt"),
        f"{len(gaps) - 1} sets K of the circuit's nodes, and none",
        f"largest gap {gaps.max():.3g}, mean {gaps.mean():.3g}",
        f"bars: {level:.0%} bootstrap interval of circuit less model",
    ]
    drawn = figure(f"Completeness on {completeness.metric}: K knocked out of circuit and model", facts, height=480)
    ends = _ends(np.concatenate([circuit, model, model + low, model + high]))
    drawn.add_scatter(x=ends, y=ends, mode="lines", name="diagonal", line={"color": MUTED, "dash": "dot", "width": 1},
                      hoverinfo="skip")  # fmt: skip
    drawn.add_scatter(
        x=model, y=circuit, mode="markers+text", name="knock-outs", hoverinfo="text",
        marker={
            "size": [12, *[9] * (len(gaps) - 1)], "color": [INK, *[POSITIVE] * (len(gaps) - 1)],
            "symbol": ["diamond", *["circle"] * (len(gaps) - 1)],
        },
        error_y={
            "array": model + high - circuit, "arrayminus": circuit - model - low, "color": MUTED, "thickness": 1,
            "width": 3,
        },
        text=[_short(nodes) if i in named else "" for i, nodes in enumerate(completeness.knocked_out)],
        textposition=[_side(at, over, ends) for at, over in zip(model.tolist(), above, strict=True)],
        textfont={"color": INK},
        hovertext=[
            f"{_long(nodes)}<br>circuit {number(circuit[i])}, model {number(model[i])}<br>"
            f"circuit less model {number(circuit[i] - model[i])}  [{number(low[i])}, {number(high[i])}]"
            for i, nodes in enumerate(completeness.knocked_out)
        ],
    )  # fmt: skip
    metric = escaped(completeness.metric)
    drawn.update_xaxes(title=f"{metric} of the model without K", range=ends)
    drawn.update_yaxes(title=f"{metric} of the circuit without K", range=ends)
    return drawn.update_layout(showlegend=False)


def plot_minimality(minimality: Minimality, *, top: int = 40, level: float = 0.95, seed: int = 0) -> go.Figure:
    """What the circuit loses with each node, the `top` largest by magnitude."""
    mean = array(minimality.loss.mean(1))
    order = np.argsort(-np.abs(mean), kind="stable")[:top]
    interval = (
        bootstrap_interval(minimality.loss, level=level, seed=seed) if len(mean) else (minimality.loss[:, 0],) * 2
    )
    low, high = (array(part)[order] for part in interval)
    unclear = int(((low <= 0) & (high >= 0)).sum())
    facts = [
        count(minimality.loss.shape[1], "prompt"),
        count(len(mean), "node") if len(order) == len(mean) else f"largest {len(order)} of {count(len(mean), 'node')}",
        f"{level:.0%} bootstrap interval over prompts",
        f"the interval of {unclear} holds 0" if unclear else "",
    ]
    names = [escaped(minimality.nodes[i].label) for i in order.tolist()]
    hover = [
        f"{name}<br>loss {number(mean[i], digits=4)}  [{number(low[at])}, {number(high[at])}]"
        for at, (i, name) in enumerate(zip(order.tolist(), names, strict=True))
    ]
    drawn = figure(
        f"Minimality on {minimality.metric}: the circuit without each node", facts, height=bars_height(len(order))
    )
    if not len(order):
        return drawn
    unit = f"loss: {escaped(minimality.metric)} of the circuit less that without the node"
    return draw_bars(drawn, names, mean[order], hover, unit, low=low, high=high)


def _ends(values: np.ndarray) -> list[float]:
    low, high = float(values.min()), float(values.max())
    pad = 0.06 * (high - low) or 1.0
    return [low - pad, high + pad]


def _side(at: float, above: bool, ends: list[float]) -> str:
    """Where a name crosses neither the diagonal nor the frame."""
    if above:
        return "middle left" if at > 0.7 * ends[0] + 0.3 * ends[1] else "top right"
    return "middle right" if at < 0.3 * ends[0] + 0.7 * ends[1] else "bottom left"


def _short(nodes: tuple[Node, ...]) -> str:
    if len(nodes) > 3:
        return f" {len(nodes)} nodes "
    return f" {escaped(' + '.join(node.label for node in nodes)) or 'nothing'} "


def _long(nodes: tuple[Node, ...]) -> str:
    listed = textwrap.wrap(" ".join(node.label for node in nodes) or "nothing", 70)
    return "<br>".join(["knocked out:", *map(escaped, listed)])
