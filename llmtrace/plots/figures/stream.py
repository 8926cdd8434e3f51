"""`TokenLens`: chosen tokens through the stages. `StreamScores`: length, turn and share of every stage."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from llmtrace.errors import InputError
from llmtrace.influence import StreamScores, TokenLens
from llmtrace.influence.residual_stream import MEASURES
from llmtrace.influence.stages import stage_label
from llmtrace.plots.drawing.style import (
    MUTED,
    POSITIVE,
    array,
    colour_bar,
    colours,
    count,
    dress,
    figure,
    gaps,
    room_for_panel_titles,
    source,
    ticks,
)
from llmtrace.plots.drawing.text import escaped, number, token_text
from llmtrace.plots.figures.token_influence import require_prompt

PALETTE = ("#2166ac", "#b2182b", "#1b7837", "#762a83", "#b35806", "#01665e")


def plot_token_lens(lens: TokenLens, *, prompt: int = 0, token: int = 0) -> go.Figure:
    """One prompt. At one position: probability and rank of its tokens, stages upward. At several: a map of stages and
    positions, coloured by the probability of the `token`-th chosen token, with the first choice in each cell."""
    require_prompt(prompt, len(lens.labels))
    at = [(i, p) for i, p in enumerate(lens.positions[prompt].tolist()) if p >= 0]
    return _lines(lens, prompt, at[0]) if len(at) == 1 else _map(lens, prompt, at, token)


def _facts(lens: TokenLens, prompt: int) -> list[str]:
    return [*source(lens.provenance), f"prompt {prompt} of {count(len(lens.labels), 'prompt')}"]


def _lines(lens: TokenLens, prompt: int, place: tuple[int, int]) -> go.Figure:
    slot, position = place
    names = [escaped(stage_label(stage)) for stage in lens.stages]
    probability, rank = array(lens.probability[:, prompt, slot]), array(lens.rank[:, prompt, slot].double())
    height = max(260, 26 * len(names) + 90)
    drawn = make_subplots(1, 2, shared_yaxes=True, horizontal_spacing=0.05, subplot_titles=["probability", "rank"])
    for t, text in enumerate(lens.tokens[prompt]):
        shown, colour = token_text(text), PALETTE[t % len(PALETTE)]
        hover = [
            f"{name}<br>{shown}: {probability[s, t]:.2%}, rank {rank[s, t]:.0f}"
            f"<br>first choice {token_text(lens.top_tokens[s][prompt][slot])}"
            for s, name in enumerate(names)
        ]
        for col, x in ((1, probability[:, t]), (2, np.log10(rank[:, t]))):
            drawn.add_scatter(
                x=x, y=np.arange(len(names)), mode="lines+markers", name=shown, line={"color": colour},
                hovertext=hover, hoverinfo="text", showlegend=col == 1, legendgroup=str(t), row=1, col=col,
            )  # fmt: skip
    last = int(np.ceil(np.log10(max(rank.max(), 10))))
    drawn.update_xaxes(range=[-0.02, 1.02], row=1, col=1)
    drawn.update_xaxes(
        tickmode="array", tickvals=list(range(last + 1)), ticktext=[f"{10**e:,}" for e in range(last + 1)],
        autorange="reversed", row=1, col=2,
    )  # fmt: skip
    read = f"read at position {position}: {token_text(lens.labels[prompt][position])}"
    dress(drawn, "Logit lens of chosen tokens", [*_facts(lens, prompt), read], height=height)
    drawn.update_yaxes(**ticks(names, room=26 * len(names)))
    drawn.update_yaxes(title="stage of the residual stream", row=1, col=1)
    return room_for_panel_titles(drawn)


def _map(lens: TokenLens, prompt: int, at: list[tuple[int, int]], token: int) -> go.Figure:
    slots, positions = [slot for slot, _ in at], [position for _, position in at]
    require_token(token, len(lens.tokens[prompt]))
    z = array(lens.probability[:, prompt, slots, token])
    names = [escaped(stage_label(stage)) for stage in lens.stages]
    first = [[token_text(lens.top_tokens[s][prompt][slot], limit=10) for slot in slots] for s in range(len(names))]
    sure, rank = array(lens.top_probability[:, prompt, slots]), array(lens.rank[:, prompt, slots, token].double())
    text = token_text(lens.tokens[prompt][token])
    at_text = [token_text(lens.labels[prompt][p]) for p in positions]
    height = max(260, 26 * len(names) + 90)
    hover = [
        [
            f"{names[s]}, position {p}: {at_text[i]}<br>{text}: {z[s, i]:.2%}, rank {rank[s, i]:.0f}"
            f"<br>first choice {first[s][i]} with {sure[s, i]:.1%}"
            for i, p in enumerate(positions)
        ]
        for s in range(len(names))
    ]  # fmt: skip
    drawn = figure(
        f"Logit lens: probability of {text}", [*_facts(lens, prompt), "cells: the first choice"], height=height
    )
    drawn.add_heatmap(
        z=z, text=first, texttemplate="%{text}" if len(positions) <= 16 else None, textfont={"size": 10},
        hovertext=hover, hoverinfo="text", colorbar=colour_bar(height), **gaps(*z.shape), **colours(z, signed=False),
    )  # fmt: skip
    drawn.update_xaxes(**ticks(at_text), title="token")
    drawn.update_yaxes(**ticks(names, room=26 * len(names)), title="stage of the residual stream")
    return drawn


def require_token(token: int, tokens: int) -> None:
    if not 0 <= token < tokens:
        raise InputError(f"Expected a chosen token from 0 to {tokens - 1}, got {token}.")


def plot_stream(scores: StreamScores) -> go.Figure:
    """Every measure against the stages: the mean over prompts, every prompt as a faint line."""
    measures = [*MEASURES, *([] if scores.direct is None else ["direct"])]
    titles = {"norm": "length", "step": "length of what was added", "cosine": "cosine with the stage before",
              "share": "share of the final stream", "direct": f"direct effect on {scores.metric}"}  # fmt: skip
    names = [escaped(stage_label(stage)) for stage in scores.stages]
    rows, y = 26 * len(names), np.arange(len(names))
    drawn = make_subplots(
        1,
        len(measures),
        shared_yaxes=True,
        horizontal_spacing=0.03,
        subplot_titles=[escaped(titles[m]) for m in measures],
    )
    for col, measure in enumerate(measures, 1):
        values = array(scores.of(measure))
        low, high = np.quantile(values, [0.25, 0.75], axis=1)
        mean = values.mean(1)
        drawn.add_scatter(
            x=mean, y=y, mode="lines+markers", line={"color": POSITIVE}, row=1, col=col, showlegend=False,
            error_x={"array": np.maximum(high - mean, 0), "arrayminus": np.maximum(mean - low, 0), "thickness": 1,
                     "width": 3, "color": MUTED},
            hovertext=[
                f"{name} (after {escaped(by)})<br>{escaped(titles[measure])} {number(m, digits=4)}"
                for name, by, m in zip(names, scores.added_by, mean, strict=True)
            ],
            hoverinfo="text",
        )  # fmt: skip
    facts = [*source(scores.provenance, scores.norm.shape[1]), f"at {scores.position}", "bars: quartiles over prompts"]
    facts += [] if scores.metric is None else [f"direct effect on {scores.metric}"]
    dress(drawn, "The residual stream, stage by stage", facts, height=max(260, rows + 90))
    drawn.update_annotations(font_size=12)
    drawn.update_yaxes(**ticks(names, room=rows))
    drawn.update_yaxes(title="stage", row=1, col=1)
    drawn.update_xaxes(zeroline=True, zerolinecolor="#d5dae0")
    return room_for_panel_titles(drawn)
