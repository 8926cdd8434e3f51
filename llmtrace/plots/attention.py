"""`Trace`: where the heads of a layer look, for one prompt, one small map per head."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from llmtrace.errors import InputError
from llmtrace.plots.style import array, colours, count, dress, source, token_ticks
from llmtrace.plots.tokens import BAR, causal, require_prompt, square_height
from llmtrace.signals import Trace, attention_pattern
from llmtrace.signals.sites import site_name

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
    length = int(trace.lengths[prompt])
    pattern = array(attention_pattern(trace, layer)[prompt, :, :, :length])
    heads = _asked(head, len(pattern))
    keys = trace.labels[prompt][:length]
    if trace.kept is None:
        queries = keys
        pattern = pattern[:, :length]
    else:
        queries = tuple(f"{keys[at]} ({name})" for at, name in zip(trace.kept[prompt], trace.kept_names, strict=True))
    pattern = causal(pattern[heads])
    facts = [
        *source(trace.provenance), f"{trace.prompts}, {trace.side} side",
        f"prompt {prompt} of {count(len(trace.tokens), 'prompt')}",
        f"{len(heads)} of {count(attention_pattern(trace, layer).shape[1], 'head')}", "each row sums to 1",
    ]  # fmt: skip
    across = min(ACROSS, len(heads))
    down = -(-len(heads) // across)
    drawn = make_subplots(
        down, across, shared_xaxes="all", shared_yaxes="all", horizontal_spacing=0.02, vertical_spacing=0.12 / down,
        subplot_titles=[f"{layer}.{h}" for h in heads] if len(heads) > 1 else None,
    )  # fmt: skip
    for panel, values in enumerate(pattern):
        drawn.add_heatmap(
            z=values, coloraxis="coloraxis", hoverongaps=False, row=panel // across + 1, col=panel % across + 1,
            hovertemplate=f"head {layer}.{heads[panel]}<br>query %{{y:d}}: %{{y}}<br>key %{{x:d}}: %{{x}}"
            "<br>%{z:.4f}<extra></extra>",
        )  # fmt: skip
    each = square_height(len(queries)) if across == 1 else max(200, min(420, 14 * len(queries) + 60))
    heading = f"Attention of layer {layer}" if len(heads) > 1 else f"Attention of head {layer}.{heads[0]}"
    scale = colours(pattern, signed=False)
    dress(drawn, heading, facts, height=each * down + 80)
    drawn.update_layout(
        coloraxis={"colorscale": scale["colorscale"], "cmin": 0.0, "cmax": scale["zmax"], "colorbar": BAR}
    )
    drawn.update_xaxes(**token_ticks(keys))
    drawn.update_yaxes(**token_ticks(queries), autorange="reversed")
    return drawn


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
