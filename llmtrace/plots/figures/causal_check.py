"""`CausalCheck`: rank correlations with their intervals, and the deletion and insertion curves, a colour per method."""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from llmtrace.errors import InputError
from llmtrace.influence import NodeScores, SpanInfluence, TokenInfluence
from llmtrace.plots.drawing.style import INK, MUTED, POSITIVE, array, dress, room_for_panel_titles, source, words
from llmtrace.plots.drawing.text import escaped, number
from llmtrace.validation import CausalCheck, Validation, name_of
from llmtrace.validation.causal_check import STATISTICS

# Okabe and Ito's colours, which colour-blind readers tell apart; the oracle is ink, chance is grey.
COLOURS = (POSITIVE, "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a4f9a", "#8c6d31")
DASHES = {"score": "solid", "oracle": "dash", "baseline": "dot"}


def plot_causal_check(check: CausalCheck, *, level: float = 0.95) -> go.Figure:
    """Methods above each other at the left; beside them the metric while things are removed, and put back, in order."""
    height = max(340, 34 * len(check.methods) + 130)
    facts = [
        *source(check.provenance, len(check.loss)),
        f"{level:.0%} bootstrap intervals over prompts",
        f"{check.passes:.0f} forward passes",
        "" if check.has_scale else "no curves: all together make no sure difference",
    ]
    titles = ("rank correlation with the loss", "deletion: lower is better", "insertion: higher is better")
    drawn = make_subplots(1, 3, subplot_titles=titles, column_widths=[0.34, 0.33, 0.33], horizontal_spacing=0.07)
    colours = _colours(check)
    curves = {kind: tuple(map(array, check.curve(kind, level=level))) for kind in ("deletion", "insertion")}
    for index, (method, role) in enumerate(zip(check.methods, check.roles, strict=True)):
        name, colour = escaped(words(method)), colours[index]
        value, low, high = check.estimate("rank_correlation", method, level=level)
        own: dict[str, Any] = {"name": name, "legendgroup": str(index), "hoverinfo": "text"}
        drawn.add_scatter(
            x=[value], y=[index], mode="markers", marker={"size": 10, "color": colour}, showlegend=False,
            error_x={"array": [high - value], "arrayminus": [value - low], "color": colour, "thickness": 2},
            hovertext=f"{name} ({role})<br>{_estimates(check, method, level)}", row=1, col=1, **own,
        )  # fmt: skip
        for column, (kind, (values, lows, highs)) in enumerate(curves.items(), 2):
            shares = np.linspace(0, 1, values.shape[1])
            drawn.add_scatter(
                x=shares, y=values[index], mode="lines+markers", marker={"size": 4}, showlegend=column == 2,
                line={"color": colour, "width": 2, "dash": DASHES[role]}, row=1, col=column, **own,
                hovertext=[
                    f"{name}<br>{share:.0%} {'removed' if kind == 'deletion' else 'there'}<br>"
                    f"{number(v)}  [{number(low)}, {number(high)}]"
                    for share, v, low, high in zip(shares, values[index], lows[index], highs[index], strict=True)
                ],
            )  # fmt: skip
    dress(drawn, f"Is it true? {check.what.capitalize()} against {check.test} on {check.metric}", facts, height=height)
    drawn.update_yaxes(
        tickmode="array", tickvals=list(range(len(check.methods))), autorange="reversed", row=1, col=1,
        ticktext=[escaped(words(method)) for method in check.methods],
    )  # fmt: skip
    drawn.add_vline(x=0, line={"color": MUTED, "width": 1, "dash": "dot"}, row=1, col=1)
    for column, what in ((2, "removed"), (3, "put back")):
        drawn.update_xaxes(title=f"share of the {check.what} {what}", tickformat=".0%", row=1, col=column)
    drawn.update_yaxes(title=f"{escaped(check.metric)}: 1 whole, 0 nothing left", row=1, col=2)
    return room_for_panel_titles(drawn.update_layout(legend={"orientation": "h", "y": -0.22}))


def check_facts(
    validation: CausalCheck | Validation | None, scores: TokenInfluence | SpanInfluence | NodeScores
) -> list[str]:
    """What the check says of these scores, as a fact below the heading of its figure. Raises NotFoundError where it was
    another method that was checked."""
    if validation is None:
        return []
    if isinstance(validation, CausalCheck):
        return [validation.line(name_of(scores))]
    if not isinstance(validation, Validation):
        raise InputError(f"Expected validation= as validate(...) gives it, got {type(validation).__name__}.")
    if validation.method != scores.method:
        raise InputError(
            f"Expected a validation of {scores.method}, got one of {validation.method}; validate these scores."
        )
    return [f"rank correlation with {words(validation.test)} {number(validation.rank_correlation)}"]


def _colours(check: CausalCheck) -> list[str]:
    fixed = {"random": MUTED, check.methods[check.roles.index("oracle")] if "oracle" in check.roles else "": INK}
    free = iter(COLOURS * len(check.methods))
    return [fixed[method] if method in fixed else next(free) for method in check.methods]


def _estimates(check: CausalCheck, method: str, level: float) -> str:
    return "<br>".join(
        "{} {}  [{}, {}]".format(words(name), *map(number, check.estimate(name, method, level=level)))
        for name in STATISTICS
    )
