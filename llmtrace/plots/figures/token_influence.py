"""Scores over the tokens of one prompt: `TokenInfluence` (target x source) and `SourceScores` (head x source)."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from llmtrace.errors import InputError
from llmtrace.influence import SourceScores, TokenInfluence
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
from llmtrace.plots.drawing.text import escaped
from llmtrace.plots.figures.causal_check import check_facts
from llmtrace.validation import CausalCheck


def require_prompt(prompt: int, prompts: int) -> None:
    if not 0 <= prompt < prompts:
        raise InputError(f"Expected a prompt from 0 to {prompts - 1}, got {prompt}.")


def causal(values: np.ndarray, at: np.ndarray) -> np.ndarray:
    """`values` [... target source], blank where a source comes after its target (`at`) if all of those are 0."""
    later = np.arange(values.shape[-1]) > at[:, None]
    return values if np.any(values[..., later]) else np.where(later, np.nan, values)


def square_height(rows: int) -> int:
    return int(max(300, min(1100, 20 * rows + 130)))


def plot_token_influence(
    influence: TokenInfluence, *, prompt: int = 0, validation: CausalCheck | None = None
) -> go.Figure:
    """One prompt: each row is a target token, each column a source it takes from. Read rows from the left.

    `validation`: what `validate` said of this method; it stands below the heading.
    """
    require_prompt(prompt, len(influence.values))
    labels = influence.labels[prompt]
    values = array(influence.values[prompt])
    at = np.arange(len(values)) if influence.targets is None else influence.targets[prompt].cpu().numpy()
    values = causal(values, at)
    height = square_height(len(values))
    where = "all layers" if influence.layer is None else f"layer {influence.layer}"
    facts = [
        *source(influence.provenance),
        f"prompt {prompt} of {count(len(influence.values), 'prompt')}",
        "each row sums to 1" if influence.rows_sum_to_one else "rows are not shares",
        "" if influence.total is None else f"they miss {influence.missed:.1%} of the total",
        *check_facts(validation, influence),
    ]
    of = "" if influence.metric is None else f" of {influence.metric}"
    drawn = figure(f"{words(influence.method).capitalize()}{of}, {where}", facts, height=height)
    drawn.add_heatmap(
        z=values, hoverongaps=False, colorbar=colour_bar(height),
        **gaps(*values.shape), **colours(values),
        hovertemplate="target %{y:d}: %{y}<br>source %{x:d}: %{x}<br>%{z:.4g}<extra></extra>",
    )  # fmt: skip
    drawn.update_xaxes(**token_ticks(labels), title="source token")
    rows = [labels[target] for target in at]
    drawn.update_yaxes(**token_ticks(rows, room=height - 60), title="target token", autorange="reversed")
    return drawn


def _worth_saying(values: np.ndarray) -> list[list[str]]:
    """Numbers for the cells of small maps; next to nothing stays unwritten."""
    least = 0.02 * np.abs(values).max(initial=0.0)
    fits = values.shape[1] <= READABLE
    return [[f"{value:.2f}" if fits and abs(value) > least else "" for value in row] for row in values.tolist()]


def plot_source_scores(scores: SourceScores, *, prompt: int = 0, top: int = 16) -> go.Figure:
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
        z=values[order], **gaps(*values[order].shape), **colours(values, signed=True),
        colorbar=colour_bar(square_height(len(order))),
        text=_worth_saying(values[order]), texttemplate="%{text}", textfont={"size": 10},
        hovertemplate="head %{y}<br>source %{x:d}: %{x}<br>%{z:+.4g}<extra></extra>",
    )  # fmt: skip
    drawn.update_xaxes(**token_ticks(labels), title="source token")
    drawn.update_yaxes(
        **ticks([escaped(scores.nodes[i].label) for i in order], room=20 * len(order)),
        title="head",
        autorange="reversed",
    )
    return drawn
