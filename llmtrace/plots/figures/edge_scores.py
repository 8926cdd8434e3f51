"""`EdgeScores`: the edges of largest score, with the bootstrap interval over prompts."""

from __future__ import annotations

import plotly.graph_objects as go
import torch

from llmtrace.circuits import EdgeScores
from llmtrace.plots.drawing.bars import bars_height, draw_bars
from llmtrace.plots.drawing.style import array, count, figure, source, words
from llmtrace.plots.drawing.text import escaped, number
from llmtrace.statistics import bootstrap_interval


def plot_edge_scores(scores: EdgeScores, *, top: int = 30, level: float = 0.95, seed: int = 0) -> go.Figure:
    """The `top` edges by magnitude of the mean score."""
    edges = [edge for edge, _ in scores.top(min(top, scores.graph.n_edges))]
    per_prompt = torch.stack([scores.of(edge) for edge in edges])
    mean = array(per_prompt.mean(1))
    low, high = map(array, bootstrap_interval(per_prompt, level=level, seed=seed))
    names = [escaped(f"{edge.writer.label} → {edge.port.label}") for edge in edges]
    hover = [
        f"{escaped(edge)}<br>score {number(mean[i], digits=4)}  [{number(low[i])}, {number(high[i])}]"
        for i, edge in enumerate(edges)
    ]
    facts = [
        *source(scores.provenance, len(scores.per_prompt)),
        f"largest {len(edges)} of {count(scores.graph.n_edges, 'edge')}",
        f"{level:.0%} bootstrap interval over prompts",
    ]
    drawn = figure(f"Edges by {words(scores.told)} score on {scores.metric}", facts, height=bars_height(len(edges)))
    unit = f"score: estimated change of {scores.metric} when the edge is patched"
    return draw_bars(drawn, names, mean, hover, escaped(unit), low=low, high=high)
