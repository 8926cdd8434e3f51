"""`NodeScores`: heads and MLPs on the map of the model; neurons, and other long lists, as the largest few."""

from __future__ import annotations

import plotly.graph_objects as go

from llmtrace.influence import NodeScores
from llmtrace.plots.drawing.bars import bars_height, draw_bars
from llmtrace.plots.drawing.grid import Grid, draw_grid
from llmtrace.plots.drawing.style import array, count, figure, source, words
from llmtrace.plots.drawing.text import escaped, number
from llmtrace.plots.figures.causal_check import check_facts
from llmtrace.validation import CausalCheck, Validation


def plot_node_scores(
    scores: NodeScores, *, top: int = 25, validation: CausalCheck | Validation | None = None
) -> go.Figure:
    """Mean over prompts. `top`: how many bars where the nodes make no map.

    `validation`: what `validate` said of these scores; it stands below the heading.
    """
    mean, spread = array(scores.mean()), array(scores.values.std(1, correction=0))
    unit = f"mean {scores.metric}"
    hover = {
        node: f"{escaped(node.label)}<br>{escaped(unit)} {number(mean[i], digits=4)} ± {spread[i]:.2g} over prompts"
        for i, node in enumerate(scores.nodes)
    }
    facts = [*source(scores.provenance, scores.values.shape[1]), "mean over prompts", *check_facts(validation, scores)]
    if scores.gap is not None:
        facts.append(f"parts miss the metric by at most {array(scores.gap.abs()).max():.1g}")
    heading = f"{words(scores.method).capitalize()} of {scores.metric}"
    if (grid := Grid.of(scores.nodes)) is not None:
        drawn = figure(heading, facts, height=grid.height)
        values = grid.fill(dict(zip(scores.nodes, mean.tolist(), strict=True)))
        return draw_grid(drawn, grid, values, grid.texts(hover))
    chosen = [node for node, _ in scores.top(top)]
    rows = {node: i for i, node in enumerate(scores.nodes)}
    facts.append(f"largest {len(chosen)} of {count(len(scores.nodes), 'node')}")
    drawn = figure(heading, facts, height=bars_height(len(chosen)))
    picked = mean[[rows[node] for node in chosen]]
    return draw_bars(drawn, [escaped(node.label) for node in chosen], picked, [hover[n] for n in chosen], escaped(unit))
