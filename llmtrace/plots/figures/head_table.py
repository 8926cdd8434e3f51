"""`HeadTable`: a small map of the model for each score. `Composition`: senders against receivers, for each slot."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from llmtrace.errors import InputError
from llmtrace.influence import Composition, HeadTable
from llmtrace.plots.drawing.style import array, colours, count, dress, gaps, room_for_panel_titles, source, ticks, words
from llmtrace.plots.drawing.text import escaped, number

ACROSS = 4
READABLE = 8  # heads across up to which numbers are written into the cells


def plot_heads(table: HeadTable, *, scores: str | Sequence[str] | None = None) -> go.Figure:
    """Layers upward, heads across, one map for each of `scores` (default: all columns).

    Shares of attention (0 to 1) have one colour scale among them; every other score has its own, white at zero.
    """
    asked = [scores] if isinstance(scores, str) else list(table.columns if scores is None else scores)
    if not asked:
        raise InputError(f"Expected at least one score, got none; choose among {', '.join(table.columns)}.")
    columns = {name: array(table.column(name)) for name in asked}
    layers, heads = max(h.layer for h in table.heads) + 1, max(h.head for h in table.heads) + 1
    across = min(ACROSS, len(asked))
    down = -(-len(asked) // across)
    each = max(120, min(420, 26 * layers + 40))
    drawn = make_subplots(
        down, across, subplot_titles=[escaped(words(name)) for name in asked], horizontal_spacing=0.04,
        vertical_spacing=min(0.3, 60 / (each * down)),
    )  # fmt: skip
    for panel, (name, values) in enumerate(columns.items()):
        row, col = panel // across + 1, panel % across + 1
        z, hover = np.full((layers, heads), np.nan), [["" for _ in range(heads)] for _ in range(layers)]
        for head, value in zip(table.heads, values.tolist(), strict=True):
            z[head.layer, head.head] = value
            hover[head.layer][head.head] = f"{head.label}<br>{escaped(words(name))} {number(value)}"
        scale = colours(values)
        if "zmid" not in scale:  # shares: the same colour is the same share in every panel
            scale["zmax"] = max(1.0, scale["zmax"])
        drawn.add_heatmap(
            z=z, hovertext=hover, hoverinfo="text", hoverongaps=False, showscale=False, row=row, col=col,
            texttemplate="%{z:.2f}" if heads <= READABLE else None, textfont={"size": 9},
            **gaps(layers, heads), **scale,
        )  # fmt: skip
        drawn.update_xaxes(**ticks([str(h) for h in range(heads)], room=900 // across, least=14), row=row, col=col)
        drawn.update_yaxes(**ticks([str(n) for n in range(layers)], room=each, least=14), row=row, col=col)
    n = table.options
    facts = [
        *source(table.provenance),
        f"{n['n']} prompts of {n['length']} random tokens, twice" if {"n", "length"} <= set(n) else "",
        f"{count(n['n_prompts'], 'prompt')} of {n['prompts']}" if {"n_prompts", "prompts"} <= set(n) else "",
        "layers upward, heads across",
        f"left out: {', '.join(map(words, table.left_out))}" if table.left_out else "",
    ]
    dress(drawn, f"Heads: {words(table.method)}", facts, height=each * down + 60)
    drawn.update_annotations(font_size=12)
    return room_for_panel_titles(drawn)


def plot_composition(found: Composition, *, slots: str | Sequence[str] | None = None) -> go.Figure:
    """Senders upward, receivers across. The colour scale begins at 0; `baseline` is what chance gives."""
    asked = list(found.slots if slots is None else slots)
    if not asked:
        raise InputError(f"Expected at least one slot, got none; choose among {', '.join(found.slots)}.")
    labels = [head.label for head in found.heads]
    values = {slot: array(found.of(slot)) for slot in asked}
    most = max((float(np.nanmax(v)) for v in values.values() if np.isfinite(v).any()), default=1.0) or 1.0
    each = max(260, min(460, 13 * len(labels) + 40))
    drawn = make_subplots(
        1, len(asked), shared_yaxes=True, horizontal_spacing=0.03,
        subplot_titles=[f"{escaped(slot.upper())}-composition" for slot in asked],
    )  # fmt: skip
    for col, (slot, z) in enumerate(values.items(), 1):
        aligned = array(found.alignment[found.slots.index(slot)])
        hover = [
            [
                f"{s} → {r}, {escaped(slot)}<br>{number(z[i, j])} ({aligned[i, j]:.0%} of what could be)"
                for j, r in enumerate(labels)
            ]
            for i, s in enumerate(labels)
        ]
        drawn.add_heatmap(
            z=z, coloraxis="coloraxis", hovertext=hover, hoverinfo="text", hoverongaps=False, row=1, col=col,
            **gaps(*z.shape),
        )  # fmt: skip
        drawn.update_xaxes(**ticks(labels, room=900 // len(asked), least=16), row=1, col=col)
    drawn.update_yaxes(**ticks(labels, room=each, least=12))
    facts = [*source(found.provenance), f"by chance {found.baseline:.2f}", "rows write, columns read"]
    facts += [f"key {found.options['distance']} tokens back"] if "distance" in found.options else []
    dress(drawn, "Composition of heads, from their weights", facts, height=each + 60)
    drawn.update_annotations(font_size=12)
    drawn.update_yaxes(title="sender", row=1, col=1)
    drawn.update_layout(coloraxis={"colorscale": "Viridis", "cmin": 0.0, "cmax": most, "colorbar": {"thickness": 14}})
    return room_for_panel_titles(drawn)
