"""`FlowGraph`: tokens across, stages upward, the prediction on top. What flows to it, line by line.

Width is flow, colour the kind of edge; lines of one place pair are drawn once per kind, heads added up, and the hover
text names the largest.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import plotly.graph_objects as go

from llmtrace.influence import FlowGraph
from llmtrace.plots.drawing.style import (
    FAINT,
    INK,
    MUTED,
    NEGATIVE,
    POSITIVE,
    array,
    count,
    figure,
    source,
    ticks,
    token_ticks,
)
from llmtrace.plots.drawing.text import escaped, token_text

COLOURS = {"head": POSITIVE, "mlp": NEGATIVE, "residual": MUTED}
WIDTHS = ((0.003, 0.6), (0.02, 1.2), (0.1, 2.4), (0.4, 4.0), (1.1, 6.0))  # px by flow, up to

Line = tuple[int, str, int, int]  # stage, kind, source, target


def plot_flow_graph(graph: FlowGraph, *, max_edges: int = 60) -> go.Figure:
    """The lines of largest flow, at most `max_edges`; the title says how many were left out."""
    lines = _lines(graph)
    chosen = sorted(lines, key=lambda line: -sum(flow for flow, _ in lines[line]))[:max_edges]
    left_out = len(lines) - len(chosen)
    height = int(max(320, min(1400, 22 * len(graph.stages) + 120)))
    facts = [
        *source(graph.provenance),
        f"parts above {graph.threshold:g} of a place",
        count(len(graph.flow), "edge"),
        f"{left_out:,} lines of least flow not drawn" if left_out else "",
    ]
    label = graph.labels[graph.at]
    drawn = figure(f"Information flow to the prediction after {label!r}", facts, height=height, showlegend=True)
    drawn.add_traces(_traces(lines, chosen))
    drawn.add_trace(_hover_points(graph, lines, chosen))
    drawn.add_trace(_places(graph, chosen))
    drawn.update_xaxes(**token_ticks(graph.labels), title="token")
    drawn.update_yaxes(**ticks([escaped(name) for name in graph.stages], room=height - 100), title="stage")
    drawn.update_layout(legend={"orientation": "h", "x": 0, "y": 0, "yref": "container", "yanchor": "bottom"})
    return drawn


def _lines(graph: FlowGraph) -> dict[Line, list[tuple[float, int]]]:
    """(flow, head) of the edges of each line."""
    found: dict[Line, list[tuple[float, int]]] = defaultdict(list)
    columns = (graph.stage, graph.kind, graph.source, graph.target, graph.flow, graph.head)
    for stage, kind, start, end, flow, head in zip(*(column.tolist() for column in columns), strict=True):
        found[stage, FlowGraph.KINDS[kind], start, end].append((flow, head))
    return found


def _width(flow: float) -> float:
    return next((width for up_to, width in WIDTHS if flow <= up_to), WIDTHS[-1][1])


def _traces(lines: dict[Line, list[tuple[float, int]]], chosen: list[Line]) -> list[go.Scatter]:
    """One trace per look; lines of one look are parted by gaps. An MLP's line bows beside the residual stream's."""
    looks: dict[tuple[str, float], list[Line]] = defaultdict(list)
    for line in chosen:
        looks[line[1], _width(sum(flow for flow, _ in lines[line]))].append(line)
    found, named = [], set()
    for (kind, width), alike in sorted(looks.items(), key=lambda look: (look[0][0], -look[0][1])):  # legend: the widest
        xs: list[float | None] = []
        ys: list[float | None] = []
        for stage, _, start, end in alike:
            xs += [start, *((start + 0.3,) if kind == "mlp" else ()), end, None]
            ys += [stage - 1, *((stage - 0.5,) if kind == "mlp" else ()), stage, None]
        found.append(
            go.Scatter(
                x=xs, y=ys, mode="lines", line={"color": COLOURS[kind], "width": width}, opacity=0.6, name=kind,
                legendgroup=kind, showlegend=kind not in named, hoverinfo="skip",
            )
        )  # fmt: skip
        named.add(kind)
    return found


def _hover_points(graph: FlowGraph, lines: dict[Line, list[tuple[float, int]]], chosen: list[Line]) -> go.Scatter:
    """What a line says of itself, at its middle."""
    told = []
    for line in chosen:
        stage, kind, start, end = line
        parts = sorted(lines[line], reverse=True)
        layer = graph.stages[stage].split("_")[0]
        heads = "".join(f"<br>a{layer}.h{head} {flow:.3g}" for flow, head in parts[:3] if head >= 0)
        told.append(
            f"{escaped(graph.stages[stage])}, {kind}<br>{token_text(graph.labels[start])} ({start}) to "
            f"{token_text(graph.labels[end])} ({end})<br>flow {sum(flow for flow, _ in parts):.4g}{heads}"
        )
    aside = [0.3 if kind == "mlp" else 0.0 for _, kind, _, _ in chosen]
    return go.Scatter(
        x=[(line[2] + line[3]) / 2 + by for line, by in zip(chosen, aside, strict=True)],
        y=[line[0] - 0.5 for line in chosen], mode="markers", hovertext=told, hoverinfo="text", name="flow",
        showlegend=False, marker={"size": 8, "opacity": 0, "color": [COLOURS[line[1]] for line in chosen]},
    )  # fmt: skip


def _places(graph: FlowGraph, chosen: list[Line]) -> go.Scatter:
    """The places that drawn lines touch, as large as what flows there."""
    touched = {(stage, end) for stage, _, _, end in chosen} | {(stage - 1, start) for stage, _, start, _ in chosen}
    at = sorted(touched | {(len(graph.stages) - 1, graph.at)})
    whole = array(graph.places)
    flow = np.array([whole[place] for place in at])
    told = [
        f"{escaped(graph.stages[stage])} of {token_text(graph.labels[position])} ({position})<br>flow {x:.4g}"
        for (stage, position), x in zip(at, flow.tolist(), strict=True)
    ]
    return go.Scatter(
        x=[position for _, position in at], y=[stage for stage, _ in at], mode="markers", name="places",
        showlegend=False, hovertext=told, hoverinfo="text",
        marker={"size": 4 + 10 * np.sqrt(flow), "color": INK, "line": {"color": FAINT, "width": 1}},
    )  # fmt: skip
