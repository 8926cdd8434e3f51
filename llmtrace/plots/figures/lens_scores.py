"""`LensScores`: the metric by stage, mean beside every prompt, with the token each stage would predict."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from llmtrace.influence import LensScores
from llmtrace.influence.stages import stage_label
from llmtrace.plots.drawing.style import MUTED, POSITIVE, array, colour_bar, colours, dress, gaps, source, ticks
from llmtrace.plots.drawing.text import escaped, number, token_text

READABLE = 16  # tokens are written into the cells of at most this many prompts


def plot_lens(scores: LensScores) -> go.Figure:
    """Stages upward. Left: mean and quartiles over prompts. Right: every prompt, its top token in the cell."""
    values, probability = array(scores.values), array(scores.top_probability)
    stages, prompts = values.shape
    height = max(260, 28 * stages + 90)
    tokens = [[token_text(token, limit=12) for token in row] for row in scores.top_tokens]
    drawn = make_subplots(1, 2, column_widths=[0.3, 0.7], shared_yaxes=True, horizontal_spacing=0.03)
    low, high = np.quantile(values, [0.25, 0.75], axis=1)
    mean = values.mean(1)
    names = [escaped(stage_label(stage)) for stage in scores.stages]
    drawn.add_scatter(
        x=mean, y=np.arange(stages), mode="lines+markers", line={"color": POSITIVE}, row=1, col=1, showlegend=False,
        error_x={"array": high - mean, "arrayminus": mean - low, "thickness": 1, "width": 3, "color": MUTED},
        hovertext=[
            f"{name}<br>mean {number(m, digits=4)}, quartiles {number(a)} to {number(b)}"
            for name, m, a, b in zip(names, mean, low, high, strict=True)
        ],
        hoverinfo="text",
    )  # fmt: skip
    drawn.add_heatmap(
        z=values, text=tokens, texttemplate="%{text}" if prompts <= READABLE else None, hoverinfo="text",
        **gaps(stages, prompts),
        hovertext=[
            [
                f"prompt {p}, {names[s]}<br>{escaped(scores.metric)} {number(values[s, p], digits=4)}"
                f"<br>predicts {tokens[s][p]} with {probability[s, p]:.1%}"
                for p in range(prompts)
            ]
            for s in range(stages)
        ],
        colorbar=colour_bar(height),
        row=1, col=2, **colours(values),
    )  # fmt: skip
    facts = [*source(scores.provenance, prompts), "bars: quartiles over prompts", "cells: the token predicted there"]
    dress(drawn, f"Logit lens: {scores.metric} by stage", facts, height=height)
    drawn.update_yaxes(**ticks(names, room=28 * stages))
    drawn.update_yaxes(title="stage of the residual stream", row=1, col=1)
    drawn.update_xaxes(title=escaped(f"mean {scores.metric}"), zeroline=True, row=1, col=1)
    drawn.update_xaxes(**ticks([str(p) for p in range(prompts)], room=600, least=20), title="prompt", row=1, col=2)
    return drawn
