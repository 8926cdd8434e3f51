"""The map of a model: layers upward, heads across, then MLPs and the rest. Shared by scores and effects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go

from llmtrace.nodes import Bias, Embed, Head, Mlp, Node
from llmtrace.plots.drawing.style import colour_bar, colours, gaps, ticks
from llmtrace.plots.drawing.text import escaped

READABLE = 14  # numbers are written into the cells of maps up to this many columns


@dataclass(frozen=True)
class Grid:
    """Which cell belongs to which node. Rows run upward: input below layer 0, constants of the unembedding on top."""

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    cell: dict[Node, tuple[int, int]]
    n_heads: int

    @classmethod
    def of(cls, nodes: Sequence[Node]) -> Grid | None:
        """None where the nodes do not make a map: neurons, a node twice, or a few scattered nodes of a large model."""
        kinds = (Head, Mlp, Embed, Bias)
        if not nodes or not all(isinstance(node, kinds) for node in nodes) or len(set(nodes)) < len(nodes):
            return None
        below = [node for node in nodes if isinstance(node, Embed)]
        above = [node for node in nodes if isinstance(node, Bias) and node.name == "unembedding"]
        layered = [node for node in nodes if node not in (*below, *above)]
        layers = sorted({node.layer for node in layered if isinstance(node, Head | Mlp | Bias)})
        heads = max((node.head + 1 for node in layered if isinstance(node, Head)), default=0)
        others = list(dict.fromkeys(_column(node) for node in (*layered, *below, *above) if not isinstance(node, Head)))
        columns = [str(head) for head in range(heads)] + others
        span = list(range(layers[0], layers[-1] + 1)) if layers else []
        rows = [node.label for node in below] + [str(layer) for layer in span] + [node.name for node in above]
        if len(layered) < 0.3 * len(span) * max(1, len(columns)):
            return None
        row_of = {label: i for i, label in enumerate(rows)}
        cell = {}
        for node in nodes:
            layer = node.label if node in below else node.name if node in above else str(getattr(node, "layer", ""))
            column = node.head if isinstance(node, Head) else columns.index(_column(node), heads)
            cell[node] = (row_of[layer], column)
        return cls(tuple(rows), tuple(columns), cell, heads)

    def fill(self, values: dict[Node, float]) -> np.ndarray:
        drawn = np.full((len(self.rows), len(self.columns)), np.nan)
        for node, value in values.items():
            drawn[self.cell[node]] = value
        return drawn

    def texts(self, texts: dict[Node, str]) -> list[list[str]]:
        drawn = [["" for _ in self.columns] for _ in self.rows]
        for node, text in texts.items():
            row, column = self.cell[node]
            drawn[row][column] = text
        return drawn

    @property
    def height(self) -> int:
        return max(220, min(900, 34 * len(self.rows) + 90))


def _column(node: Node) -> str:
    return node.name if isinstance(node, Bias) and node.name != "unembedding" else "MLP"


def draw_grid(drawn: go.Figure, grid: Grid, values: np.ndarray, hover: list[list[str]]) -> go.Figure:
    """The heatmap: numbers in the cells where they fit, a rule between heads and the rest."""
    fits = len(grid.columns) <= READABLE
    drawn.add_heatmap(
        z=values, hovertext=hover, hoverinfo="text", hoverongaps=False, **gaps(*values.shape),
        texttemplate="%{z:.2f}" if fits else None, textfont={"size": 11} if fits else None,
        colorbar=colour_bar(grid.height),
        **colours(values, signed=True),
    )  # fmt: skip
    columns = [label if i < grid.n_heads else escaped(label) for i, label in enumerate(grid.columns)]
    drawn.update_xaxes(**ticks(columns), title="head" if grid.n_heads else None)
    drawn.update_yaxes(**ticks([escaped(row) for row in grid.rows], room=grid.height), title="layer")
    if 0 < grid.n_heads < len(grid.columns):
        drawn.add_vline(x=grid.n_heads - 0.5, line={"width": 5, "color": "white"})
    return drawn
