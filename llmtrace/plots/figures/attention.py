"""`Trace`: where the heads of a layer look, for one prompt, one small map per head."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from llmtrace.errors import InputError
from llmtrace.models.hook_names import site_name
from llmtrace.plots.drawing.style import (
    array,
    colour_bar,
    colours,
    count,
    dress,
    room_for_panel_titles,
    source,
    ticks,
    token_ticks,
)
from llmtrace.plots.drawing.text import escaped, token_text
from llmtrace.plots.figures.token_influence import causal, require_prompt, square_height
from llmtrace.signals import Trace, attention_pattern

PANELS = 16  # heads drawn when none is named
ACROSS = 4


def plot_attention(
    trace: Trace, *, layer: int | None = None, head: int | Sequence[int] | None = None, prompt: int = 0
) -> go.Figure:
    """Attention patterns of `layer` (default: the first captured), `head` (default: all, at most 16), one prompt.

    Raises InputError when no pattern of that layer was captured, or there is no such head or prompt.
    """
    layer = _captured(trace, layer)
    require_prompt(prompt, len(trace.tokens))
    whole = array(attention_pattern(trace, layer)[prompt])
    heads = _asked(head, len(whole))
    keys = trace.labels[prompt][: int(trace.lengths[prompt])]
    at, queries = _queries(trace, prompt, keys)
    pattern = causal(whole[heads][:, : len(at), : len(keys)], at)
    across = min(ACROSS, len(heads))
    down = -(-len(heads) // across)
    each = square_height(len(at)) if across == 1 else max(100, min(420, 14 * len(at) + 40))
    drawn = make_subplots(
        down, across, shared_xaxes="all", shared_yaxes="all", horizontal_spacing=0.02,
        vertical_spacing=min(0.3, 34 / each) / down,
        subplot_titles=[f"{layer}.{h}" for h in heads] if len(heads) > 1 else None,
    )  # fmt: skip
    position = "%{y:d}: " if trace.kept is None else ""
    for panel, values in enumerate(pattern):
        drawn.add_heatmap(
            z=values, coloraxis="coloraxis", hoverongaps=False, row=panel // across + 1, col=panel % across + 1,
            hovertemplate=f"head {layer}.{heads[panel]}<br>query {position}%{{y}}<br>key %{{x:d}}: %{{x}}"
            "<br>%{z:.4f}<extra></extra>",
        )  # fmt: skip
    facts = [
        *source(trace.provenance),
        f"{trace.prompts}, {trace.side} side",
        f"prompt {prompt} of {count(len(trace.tokens), 'prompt')}",
        f"{len(heads)} of {count(len(whole), 'head')}",
        "rows: queries, columns: keys",
    ]
    heading = f"Attention of layer {layer}" if len(heads) > 1 else f"Attention of head {layer}.{heads[0]}"
    dress(drawn, heading, facts, height=each * down + 80)
    drawn.update_annotations(font_size=12)
    scale = colours(pattern, signed=False)
    drawn.update_layout(
        coloraxis={
            "colorscale": scale["colorscale"],
            "cmin": 0.0,
            "cmax": scale["zmax"],
            "colorbar": colour_bar(each * down),
        },
    )
    drawn.update_xaxes(**token_ticks(keys, room=900 // across))
    drawn.update_yaxes(**ticks(queries, room=each), autorange="reversed")
    return room_for_panel_titles(drawn) if len(heads) > 1 else drawn


def _queries(trace: Trace, prompt: int, keys: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    """The positions of the stored rows, and their labels with the names they were kept under."""
    if trace.kept is None:
        return np.arange(len(keys)), [token_text(key) for key in keys]
    at = trace.kept[prompt].cpu().numpy()
    return at, [f"{token_text(keys[i])} ({escaped(name)})" for i, name in zip(at, trace.kept_names, strict=True)]


def _captured(trace: Trace, layer: int | None) -> int:
    found = [number for number in trace.layers if site_name("pattern", number) in trace]
    if not found or (layer is not None and layer not in found):
        held = f"those of layers {', '.join(map(str, found))}" if found else "none"
        wanted = "attention patterns" if layer is None else f"the attention pattern of layer {layer}"
        raise InputError(f"Expected {wanted} in the trace, got {held}; capture(..., what='pattern') keeps them.")
    return found[0] if layer is None else layer


def _asked(head: int | Sequence[int] | None, n_heads: int) -> list[int]:
    heads = list(range(min(PANELS, n_heads))) if head is None else [head] if isinstance(head, int) else list(head)
    if not heads or not all(0 <= h < n_heads for h in heads):
        raise InputError(f"Expected heads from 0 to {n_heads - 1}, got {heads}.")
    return heads
