"""`NeuronStatistics`: the neurons that stand out. `NeuronReading`: the tokens that one neuron answers to and writes."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from llmtrace.errors import InputError
from llmtrace.influence import NeuronReading, NeuronStatistics
from llmtrace.plots.drawing.bars import bars_height, draw_bars
from llmtrace.plots.drawing.style import count, dress, figure, room_for_panel_titles, sign_colours, source, ticks, words
from llmtrace.plots.drawing.text import escaped, number, token_text


def plot_neuron_statistics(found: NeuronStatistics, *, by: str = "kurtosis", top: int = 20) -> go.Figure:
    """The `top` neurons by a statistic; the hover text shows on which tokens they are highest."""
    best = found.top(by, top)
    hover = []
    for neuron, value in best:
        lines = [f"{neuron}<br>{escaped(words(by))} {number(value)}"]
        for example in found.examples(neuron, 3, window=4):
            before, after = (token_text(side, limit=32) if side else "" for side in (example.before, example.after))
            lines.append(f"{number(example.activation)}: {before} <b>{token_text(example.token)}</b> {after}")
        hover.append("<br>".join(lines))
    layers, width = found.mean.shape
    facts = [
        *source(found.provenance), f"{count(found.n_tokens, 'token')} of {found.options.get('prompts', 'prompts')}",
        f"largest {len(best)} of {count(layers * width, 'neuron')}",
    ]  # fmt: skip
    drawn = figure(f"Neurons by {words(by)} of their activation", facts, height=bars_height(len(best)))
    values = np.array([value for _, value in best])
    return draw_bars(drawn, [escaped(str(neuron)) for neuron, _ in best], values, hover, escaped(words(by)))


def plot_neuron_reading(found: NeuronReading, *, neuron: int = 0) -> go.Figure:
    """One neuron, the `neuron`-th of the reading: for each side its highest and its lowest tokens."""
    if not 0 <= neuron < len(found.neurons):
        raise InputError(f"Expected a neuron from 0 to {len(found.neurons) - 1} of this reading, got {neuron}.")
    chosen = found.neurons[neuron]
    titles = {"value": "value: what it writes", "key": "key: what it answers to", "gate": "gate: what opens it",
              "in": "in: what the gate lets pass"}  # fmt: skip
    drawn = make_subplots(
        1, len(found.sides), horizontal_spacing=0.12, subplot_titles=[escaped(titles.get(s, s)) for s in found.sides]
    )
    longest = 0
    for col, side in enumerate(found.sides, 1):
        highest, lowest = found.of(chosen, side)
        rows = [*highest, *reversed(lowest)]
        longest = max(longest, len(rows))
        values = [value for _, value in rows]
        names = [token_text(token) for token, _ in rows]
        drawn.add_bar(
            x=values, y=np.arange(len(rows)), orientation="h", marker_color=sign_colours(np.array(values)),
            hovertext=[f"{name}<br>{number(v)}" for name, v in zip(names, values, strict=True)], hoverinfo="text",
            row=1, col=col,
        )  # fmt: skip
        drawn.update_yaxes(**ticks(names, room=20 * len(rows)), autorange="reversed", row=1, col=col)
    facts = [*source(found.provenance), "from the weights alone", "highest and lowest tokens"]
    dress(drawn, f"Neuron {chosen}: keys and values", facts, height=20 * longest + 100)
    drawn.update_annotations(font_size=12)
    drawn.update_xaxes(zeroline=True, zerolinecolor="#66727f")
    return room_for_panel_titles(drawn.update_layout(showlegend=False))
