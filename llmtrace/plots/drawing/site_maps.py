"""Sweeps over sites as the maps that the field draws: layer x position, layer x head, head x position, query x key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from llmtrace.nodes import Neuron, Position, Site
from llmtrace.plots.drawing.style import colour_bar, colours, dress, gaps, ticks
from llmtrace.plots.drawing.text import escaped, token_text

LEAST = 0.3  # share of a map's cells that must be filled; fewer are a list, not a map
CELL, ACROSS = 26, 3  # px of a row, facets side by side


@dataclass(frozen=True)
class SiteMap:
    """The sites of one kind on two axes. `cell`: which row and column each site's index belongs to."""

    kind: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    row_title: str
    column_title: str
    cell: Mapping[int, tuple[int, int]]

    def fill(self, values: Sequence[float]) -> np.ndarray:
        drawn = np.full((len(self.rows), len(self.columns)), np.nan)
        for index, at in self.cell.items():
            drawn[at] = values[index]
        return drawn

    def texts(self, texts: Sequence[str]) -> list[list[str]]:
        drawn = [["" for _ in self.columns] for _ in self.rows]
        for index, (row, column) in self.cell.items():
            drawn[row][column] = texts[index]
        return drawn


def maps_of(sites: Sequence[Site], tokens: Mapping[Position, str]) -> list[SiteMap] | None:
    """One map per kind; None where the sites make none (neurons, several positions at once, a few scattered places)."""
    if len(set(sites)) < len(sites) or any(isinstance(site.place, Neuron) or len(site.at) > 1 for site in sites):
        return None
    found = []
    for kind in dict.fromkeys(site.kind for site in sites):
        drawn = _map(kind, {i: site for i, site in enumerate(sites) if site.kind == kind}, tokens)
        if drawn is None:
            return None
        found.append(drawn)
    return found


def _map(kind: str, sites: Mapping[int, Site], tokens: Mapping[Position, str]) -> SiteMap | None:
    """Axes by what the sites have: keys, positions, heads."""
    entries = list(sites.values())
    shapes = {(site.index is None, bool(site.at), len(site.keys)) for site in entries}
    if len(shapes) > 1 or len(entries) < 2:
        return None
    places: dict[int, tuple[Any, Any]]
    ((whole, placed, keys),) = shapes
    if keys == 1 and placed and len({site.place for site in entries}) == 1:
        places = {i: (site.at[0], site.keys[0]) for i, site in sites.items()}
        titles, row_names = ("query", "key"), _positions
    elif not keys and placed:
        places = {i: (site.layer if whole else (site.layer, site.index), site.at[0]) for i, site in sites.items()}
        titles, row_names = ("layer" if whole else "head", "position"), _numbers
    elif not keys and not whole:
        places = {i: (site.layer, site.index) for i, site in sites.items()}
        titles, row_names = ("layer", "head"), _numbers
    else:
        return None
    rows, columns = (list(dict.fromkeys(pair[axis] for pair in places.values())) for axis in (0, 1))
    if len(places) < LEAST * len(rows) * len(columns):
        return None
    column_names = _numbers if titles[1] == "head" else _positions
    cell = {i: (rows.index(row), columns.index(column)) for i, (row, column) in places.items()}
    return SiteMap(kind, row_names(rows, tokens), column_names(columns, tokens), *titles, cell)


def _positions(places: Sequence[Any], tokens: Mapping[Position, str]) -> tuple[str, ...]:
    """`10 ·John`, `S2 ·John`."""
    return tuple(f"{escaped(p)} {token_text(tokens[p], limit=12)}" if p in tokens else escaped(p) for p in places)


def _numbers(places: Sequence[Any], tokens: Mapping[Position, str]) -> tuple[str, ...]:
    """Layers and heads; a head of several layers is `9.6`."""
    return tuple(".".join(map(str, place)) if isinstance(place, tuple) else str(place) for place in places)


def draw_maps(
    maps: Sequence[SiteMap], values: Sequence[float], hover: Sequence[str], heading: str, facts: Sequence[str]
) -> go.Figure:
    """Maps side by side, one signed colour scale for all. `hover` is escaped already."""
    across = min(ACROSS, len(maps))
    down = -(-len(maps) // across)
    tallest = max(len(found.rows) for found in maps)
    height = down * max(240, min(900, CELL * tallest + 110))
    titles = [escaped(found.kind.replace("_", " ")) for found in maps] if len(maps) > 1 else None
    drawn = make_subplots(down, across, subplot_titles=titles, horizontal_spacing=0.08, vertical_spacing=0.3 / down)
    shades = colours(np.asarray(list(values)), signed=True)
    for number, found in enumerate(maps):
        at = {"row": number // across + 1, "col": number % across + 1}
        filled = found.fill(values)
        drawn.add_heatmap(
            z=filled, hovertext=found.texts(hover), hoverinfo="text", hoverongaps=False, **gaps(*filled.shape),
            colorbar=colour_bar(height), showscale=number == 0, **shades, **at,
        )  # fmt: skip
        drawn.update_xaxes(**ticks(found.columns, room=900 // across), title=found.column_title, **at)
        upward = {"autorange": "reversed"} if found.row_title == "query" else {}
        drawn.update_yaxes(**ticks(found.rows, room=height // down - 110), title=found.row_title, **upward, **at)
    return dress(drawn, heading, facts, height=height)
