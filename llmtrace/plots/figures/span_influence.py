"""What comes from each span, and what each generated token takes from every token before it."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from llmtrace.influence import GenerationInfluence, SpanInfluence
from llmtrace.plots.drawing.grid import READABLE
from llmtrace.plots.drawing.style import (
    array,
    colour_bar,
    colours,
    count,
    figure,
    gaps,
    source,
    ticks,
    token_ticks,
    words,
)
from llmtrace.plots.drawing.text import escaped, token_text
from llmtrace.plots.figures.causal_check import check_facts
from llmtrace.plots.figures.token_influence import causal, require_prompt, square_height
from llmtrace.validation import CausalCheck


def plot_span_influence(
    influence: SpanInfluence, *, prompt: int = 0, validation: CausalCheck | None = None
) -> go.Figure:
    """One prompt: each row a target, each column a span of tokens that the prompt has.

    `validation`: what `validate` said of this method; it stands below the heading.
    """
    require_prompt(prompt, len(influence.values))
    there = influence.sizes[prompt].cpu().numpy() > 0
    values = array(influence.values[prompt])
    rows = np.isfinite(values).all(1)
    values = values[rows][:, there]
    names = [escaped(name) for name, has in zip(influence.names, there.tolist(), strict=True) if has]
    targets = [token_text(name, limit=40) for name, has in zip(influence.rows[prompt], rows, strict=True) if has]
    of = "" if influence.metric is None else f" of {influence.metric}"
    facts = [
        *source(influence.provenance),
        f"prompt {prompt} of {count(len(influence.values), 'prompt')}",
        "each row sums to 1" if influence.rows_sum_to_one else "sums over the tokens of a span",
        *check_facts(validation, influence),
    ]
    height = square_height(len(values))
    drawn = figure(f"{words(influence.method).capitalize()}{of}, by span", facts, height=height)
    drawn.add_heatmap(
        z=values, colorbar=colour_bar(height), **gaps(*values.shape), **colours(values),
        text=[[f"{value:.2f}" for value in row] for row in values.tolist()] if len(values) <= READABLE else None,
        texttemplate="%{text}" if len(values) <= READABLE else None, textfont={"size": 10},
        hovertemplate="target %{y}<br>span %{x}<br>%{z:.4g}<extra></extra>",
    )  # fmt: skip
    drawn.update_xaxes(**ticks(names), title="span")
    drawn.update_yaxes(**ticks(targets, room=height - 60), title="target", autorange="reversed")
    return drawn


def plot_generation(influence: GenerationInfluence, *, validation: CausalCheck | None = None) -> go.Figure:
    """Each row a generated token (with its probability), each column a token before it; lines where spans change.

    `validation`: what `validate` said of this method; it stands below the heading.
    """
    values, of = array(influence.values), influence.influence
    assert of.targets is not None
    values = causal(values, of.targets[0].cpu().numpy())
    height = square_height(len(values))
    metric = "" if influence.metric is None else f" of {influence.metric}"
    compared = "against the token named in the hover text" if any(influence.against) else ""
    facts = [
        *source(influence.provenance),
        count(len(values), "generated token"),
        compared,
        *check_facts(validation, influence.steps),
    ]
    drawn = figure(f"{words(influence.method).capitalize()}{metric}, token by token", facts, height=height)
    chances = influence.probability.tolist()
    spans = [escaped(influence.spans.names[i]) for i in influence.spans.of[0].tolist()]
    against = [[token_text(other)] * values.shape[1] for other in influence.against]
    custom = np.stack([np.array(against), np.array([spans] * len(values))], -1)
    drawn.add_heatmap(
        z=values, hoverongaps=False, colorbar=colour_bar(height), customdata=custom,
        **gaps(*values.shape), **colours(values),
        hovertemplate="generated %{y}, against %{customdata[0]}<br>source %{x:d}: %{x} (%{customdata[1]})"
        "<br>%{z:.4g}<extra></extra>",
    )  # fmt: skip
    for at in range(1, len(spans)):
        if spans[at] != spans[at - 1]:
            drawn.add_vline(x=at - 0.5, line={"width": 1, "color": "#66727f", "dash": "dot"})
    drawn.update_xaxes(**token_ticks(influence.labels), title="source token")
    rows = [f"{token_text(token)} {chance:.2f}" for token, chance in zip(influence.chosen, chances, strict=True)]
    drawn.update_yaxes(**ticks(rows, room=height - 60), title="generated token", autorange="reversed")
    return drawn
