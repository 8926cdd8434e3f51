"""`PromptSet`: its table."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from llmtrace.plots.drawing.style import FAINT, count, figure, words
from llmtrace.plots.drawing.text import escaped, token_text
from llmtrace.prompts import PromptSet

WIDTHS = {"prompt": 0.8, "text": 3.2, "corrupted_text": 3.2, "correct": 0.9, "wrong": 0.9, "group": 2.4, "tokens": 0.8}


def plot_prompts(prompts: PromptSet, *, rows: int = 40) -> go.Figure:
    """The first `rows` prompts: clean and corrupted text, answers, group, length in tokens."""
    table = prompts.df().head(rows)
    facts = [
        prompts.name,
        f"corruption {prompts.corruption}" if prompts.corruption else "",
        count(len(prompts), "prompt"),
        f"first {len(table)} drawn" if len(table) < len(prompts) else "",
        "" if prompts.seed is None else f"seed {prompts.seed}",
        *(f"left out: {n} {what}" for what, n in prompts.left_out.items()),
    ]
    show = {"correct": lambda text: token_text(text, limit=60), "wrong": lambda text: token_text(text, limit=60)}
    drawn = figure(f"Prompts: {prompts.name}", facts[1:], height=60 + _height(table))
    drawn.add_table(
        columnwidth=[WIDTHS.get(name, 1.0) for name in table.columns],
        header={
            "values": [f"<b>{escaped(words(name))}</b>" for name in table.columns],
            "align": "left", "fill": {"color": "#eef1f4"}, "line": {"color": FAINT}, "height": 28,
        },
        cells={
            "values": [[show.get(name, escaped)(value) for value in table[name].tolist()] for name in table.columns],
            "align": "left", "fill": {"color": "white"}, "line": {"color": FAINT}, "height": 26,
        },
    )  # fmt: skip
    drawn.update_layout(margin={"l": 8, "r": 8, "b": 8})
    return drawn


def _height(table: pd.DataFrame) -> int:
    """px that the rows need: a line of text is about 17 px, and a unit of `WIDTHS` holds about 11 letters."""
    lines = [
        max(1 + len(str(value)) // int(11 * WIDTHS.get(name, 1.0)) for name, value in row.items())
        for row in table.to_dict("records")
    ]
    return min(2400, sum(12 + 17 * n for n in lines))
