"""Scores over the tokens of one prompt: `TokenInfluence` (target x source) and `SourceScores` (head x source)."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from llmtrace.errors import InputError
from llmtrace.influence import SourceScores, TokenInfluence
from llmtrace.plots.style import array, colours, count, figure, source, ticks, token_ticks, words
from llmtrace.plots.text import escaped

BAR = {"thickness": 14, "outlinewidth": 0}


def require_prompt(prompt: int, prompts: int) -> None:
    if not 0 <= prompt < prompts:
        raise InputError(f"Expected a prompt from 0 to {prompts - 1}, got {prompt}.")


def causal(values: np.ndarray) -> np.ndarray:
    """`values` [... target source] with the cells above the diagonal blank where all of them are 0 (a causal model)."""
    rows, columns = values.shape[-2:]
    above = np.triu(np.ones((rows, columns), dtype=bool), 1)
    return values if rows != columns or np.any(values[..., above]) else np.where(above, np.nan, values)


def square_height(rows: int) -> int:
    return int(max(300, min(1500, 20 * rows + 130)))


def plot_token_influence(influence: TokenInfluence, *, prompt: int = 0) -> go.Figure:
    """One prompt: each row is a target token, each column a source it takes from. Read rows from the left."""
    require_prompt(prompt, len(influence.values))
    labels = influence.labels[prompt]
    values = causal(array(influence.values[prompt]))
    where = "all layers" if influence.layer is None else f"layer {influence.layer}"
    facts = [
        *source(influence.provenance),
        f"prompt {prompt} of {count(len(influence.values), 'prompt')}",
        "each row sums to 1" if influence.rows_sum_to_one else "rows are not shares",
    ]
    drawn = figure(f"{words(influence.method).capitalize()}, {where}", facts, height=square_height(len(labels)))
    drawn.add_heatmap(
        z=values, hoverongaps=False, colorbar=BAR, xgap=1, ygap=1, **colours(values),
        hovertemplate="target %{y:d}: %{y}<br>source %{x:d}: %{x}<br>%{z:.4g}<extra></extra>",
    )  # fmt: skip
    drawn.update_xaxes(**token_ticks(labels), title="source token")
    drawn.update_yaxes(**token_ticks(labels), title="target token", autorange="reversed")
    return drawn


def plot_source_scores(scores: SourceScores, *, prompt: int = 0, top: int = 24) -> go.Figure:
    """One prompt: the `top` heads by their largest source, and which token each head's score came from."""
    heads, prompts, _ = scores.values.shape
    require_prompt(prompt, prompts)
    values = array(scores.values[:, prompt])
    order = np.argsort(-np.abs(values).max(1), kind="stable")[:top]
    labels = scores.labels[prompt]
    facts = [
        *source(scores.provenance),
        f"prompt {prompt} of {count(prompts, 'prompt')}",
        f"{len(order)} of {count(heads, 'head')}, largest first" if len(order) < heads else "largest first",
    ]
    heading = f"{words(scores.method).capitalize()} of {scores.metric}"
    drawn = figure(heading, facts, height=square_height(len(order)))
    drawn.add_heatmap(
        z=values[order], xgap=1, ygap=1, **colours(values, signed=True),
        colorbar={"title": {"text": escaped(scores.metric), "side": "right"}, **BAR},
        hovertemplate="head %{y}<br>source %{x:d}: %{x}<br>%{z:+.4g}<extra></extra>",
    )  # fmt: skip
    drawn.update_xaxes(**token_ticks(labels), title="source token")
    drawn.update_yaxes(**ticks([escaped(scores.nodes[i].label) for i in order]), title="head", autorange="reversed")
    return drawn
