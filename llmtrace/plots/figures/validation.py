"""`Validation`: score against loss, one point per node. On the line the score is the whole truth."""

from __future__ import annotations

import plotly.graph_objects as go

from llmtrace.plots.drawing.style import INK, MUTED, POSITIVE, array, figure, source, words
from llmtrace.plots.drawing.text import escaped, number
from llmtrace.validation import Validation


def plot_validation(validation: Validation, *, labels: int = 8) -> go.Figure:
    """The `labels` nodes furthest from zero carry their names; all have them in the hover text."""
    score, loss = array(validation.score), array(validation.loss)
    low, high = array(validation.low), array(validation.high)
    far = set((abs(score) + abs(loss)).argsort()[::-1][:labels].tolist())
    names = [escaped(node.label) for node in validation.nodes]
    facts = [
        *source(validation.provenance),
        f"rank correlation {number(validation.rank_correlation)}",
        "bars: 95% bootstrap interval over prompts",
    ]
    heading = f"{words(validation.method)} against {words(validation.test)} on {validation.metric}"
    drawn = figure(heading, facts, height=520)
    ends = [float(min(score.min(), loss.min(), 0)), float(max(score.max(), loss.max(), 0))]
    drawn.add_scatter(x=ends, y=ends, mode="lines", line={"color": MUTED, "dash": "dot"}, hoverinfo="skip")
    drawn.add_scatter(
        x=score,
        y=loss,
        mode="markers+text",
        marker={"size": 9, "color": POSITIVE},
        error_y={"type": "data", "array": high - loss, "arrayminus": loss - low, "color": MUTED, "thickness": 1},
        text=[name if i in far else "" for i, name in enumerate(names)],
        textposition="top center",
        textfont={"color": INK},
        hovertext=[
            f"{name}<br>score {number(score[i])}<br>loss {number(loss[i])}  [{number(low[i])}, {number(high[i])}]"
            for i, name in enumerate(names)
        ],
        hoverinfo="text",
    )
    drawn.update_xaxes(title_text=f"{escaped(words(validation.method))} (mean over prompts)", zeroline=True)
    drawn.update_yaxes(title_text=f"loss of {escaped(validation.metric)} when the node is changed", zeroline=True)
    return drawn.update_layout(showlegend=False)
