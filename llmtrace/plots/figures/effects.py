"""`Effects`: the change of the metric by intervention, on a map of nodes or sites, or as bars where there is none."""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go

from llmtrace.errors import InputError
from llmtrace.interventions import Effects
from llmtrace.nodes import Site
from llmtrace.plots.drawing.bars import bars_height, draw_bars
from llmtrace.plots.drawing.grid import Grid, draw_grid
from llmtrace.plots.drawing.site_maps import draw_maps, maps_of
from llmtrace.plots.drawing.style import array, count, figure, source, words
from llmtrace.plots.drawing.text import escaped, number


def plot_effects(
    effects: Effects, *, top: int = 30, level: float = 0.95, seed: int = 0, normalised: bool = False
) -> go.Figure:
    """Mean change over prompts, with its bootstrap interval: a map of nodes or of sites, or bars where there is none.

    top          how many bars
    normalised   shares of the way to the other run instead of changes
    """
    mean = array(effects.normalised() if normalised else effects.mean())
    bounds = effects.normalised_interval if normalised else effects.interval
    low, high = map(array, bounds(level=level, seed=seed))
    unit = "share of the way to the other run" if normalised else f"change of {effects.metric}"
    repair = None if effects.direct is None else effects.self_repair().mean(1).tolist()
    hover = [
        f"{escaped(label)}<br>{escaped(unit)} {number(mean[i], digits=4)}  [{number(low[i])}, {number(high[i])}]"
        f"<br>after {effects.after[i].mean().item():.4g}{share}{_repaired(repair, i)}"
        for i, (label, share) in enumerate(zip(effects.labels, _shares(effects), strict=True))
    ]
    facts = [
        *source(effects.provenance, len(effects.before)),
        *(f"{words(name)} {value}" for name, value in effects.options.items() if isinstance(value, str)),
        f"before: {effects.before.mean().item():.3g}",
        *([] if effects.other is None else [f"other run: {effects.other.mean().item():.3g}"]),
        f"{level:.0%} bootstrap interval over prompts",
    ]
    what = "Share of the way" if normalised else f"Change of {effects.metric}"
    heading = f"{what} under {words(effects.told)}"
    single: list[Any] = [together[0] for together in effects.nodes] if all(len(t) == 1 for t in effects.nodes) else []
    if single and all(isinstance(place, Site) for place in single):
        if (maps := maps_of(single, effects.tokens)) is not None:
            return draw_maps(maps, mean.tolist(), hover, heading, facts)
    elif (grid := Grid.of(single)) is not None:
        drawn = figure(heading, facts, height=grid.height)
        values = grid.fill(dict(zip(single, mean.tolist(), strict=True)))
        return draw_grid(drawn, grid, values, grid.texts(dict(zip(single, hover, strict=True))))
    order = np.argsort(-np.abs(mean), kind="stable")[:top]
    facts.append("" if len(order) == len(mean) else f"largest {len(order)} of {count(len(mean), 'intervention')}")
    drawn = figure(heading, facts, height=bars_height(len(order)))
    names, texts = [escaped(effects.labels[i]) for i in order], [hover[i] for i in order]
    return draw_bars(drawn, names, mean[order], texts, escaped(unit), low=low[order], high=high[order])


def _repaired(repair: list[float] | None, index: int) -> str:
    return "" if repair is None else f"<br>made up for by later parts {number(repair[index])}"


def _shares(effects: Effects) -> list[str]:
    """The share of the way to the other run, where it is defined."""
    try:
        return [f"<br>{share:.1%} of the way to the other run" for share in effects.normalised().tolist()]
    except InputError:
        return [""] * len(effects.nodes)
