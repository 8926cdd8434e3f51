"""`CircuitReport`: faithfulness with its uncertainty, against random circuits; beside it the three runs by prompt."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from llmtrace.circuits import CircuitReport
from llmtrace.plots.drawing.style import INK, MUTED, NEGATIVE, POSITIVE, array, count, dress, source, ticks
from llmtrace.plots.drawing.text import escaped


def plot_circuit_report(report: CircuitReport) -> go.Figure:
    """0 is the empty circuit, 1 the whole model. A prompt whose two runs agree has no ratio and is not drawn."""
    per_prompt, chance = (
        array(report.per_prompt),
        array(report.random_faithfulness) if len(report.random) else np.empty(0),
    )
    low, high = report.interval()
    drawn = make_subplots(1, 2, column_widths=[0.42, 0.58], horizontal_spacing=0.1)
    _faithfulness(drawn, per_prompt, report.faithfulness, (low, high), chance)
    axis, outside = _range(per_prompt, [low, high, 0.0, 1.0, *chance.tolist()])
    _runs(drawn, report)
    circuit = report.circuit
    facts = [
        *source(report.provenance, len(per_prompt)),
        f"{circuit.n_edges:,} of {count(circuit.graph.n_edges, 'edge')}",
        f"{report.ablation} ablation of the rest",
        f"95% bootstrap interval over prompts [{low:.2f}, {high:.2f}]"
        if np.isfinite(low + high)
        else "no interval: a resample has no ratio",
        f"mean of {count(len(chance), 'random circuit')} {round(chance.mean(), 2) + 0.0:.2f}" if len(chance) else "",
        f"{count(outside, 'prompt')} outside the axis" if outside else "",
        *report.caveats,
    ]
    dress(drawn, f"Faithfulness {report.faithfulness:.2f} on {report.metric}", facts, height=420)
    for level, name in ((0.0, "empty"), (1.0, "model")):
        drawn.add_hline(y=level, line={"color": MUTED, "width": 1, "dash": "dot"}, row=1, col=1)
        drawn.add_annotation(x=1.48, y=level, text=name, showarrow=False, xanchor="right", yanchor="bottom",
                             font={"size": 10, "color": MUTED}, row=1, col=1)  # fmt: skip
    names = ["this circuit", *(["random circuits"] if len(chance) else [])]
    drawn.update_xaxes(**ticks(names), range=[-0.5, len(names) - 0.5], row=1, col=1)
    drawn.update_yaxes(title="faithfulness", range=axis, row=1, col=1)
    drawn.update_xaxes(
        **ticks([str(i) for i in range(len(per_prompt))], room=500, least=20), title="prompt", row=1, col=2
    )
    drawn.update_yaxes(title=escaped(report.metric), row=1, col=2)
    drawn.update_layout(legend={"orientation": "h", "x": 1, "xanchor": "right", "y": 1.02, "yanchor": "bottom"})
    return drawn


def _faithfulness(
    drawn: go.Figure, per_prompt: np.ndarray, ratio: float, interval: tuple[float, float], chance: np.ndarray
) -> None:
    drawn.add_scatter(
        x=_spread(len(per_prompt), 0.22), y=per_prompt, mode="markers", name="per prompt", showlegend=False,
        marker={"color": POSITIVE, "size": 7, "opacity": 0.45}, hoverinfo="text",
        hovertext=[f"prompt {i}<br>faithfulness {value:.4g}" for i, value in enumerate(per_prompt.tolist())],
        row=1, col=1,
    )  # fmt: skip
    drawn.add_scatter(
        x=[0], y=[ratio], mode="markers", name="ratio of means", showlegend=False, row=1, col=1,
        marker={"color": INK, "size": 13, "symbol": "diamond"}, hoverinfo="text",
        hovertext=[f"faithfulness {ratio:.4g}, ratio of means<br>[{interval[0]:.4g}, {interval[1]:.4g}]"],
        error_y={"array": [interval[1] - ratio], "arrayminus": [ratio - interval[0]], "width": 8, "color": INK},
    )  # fmt: skip
    drawn.add_scatter(
        x=1 + _spread(len(chance), 0.22), y=chance, mode="markers", name="random circuits", showlegend=False,
        marker={"color": MUTED, "size": 8, "symbol": "x"}, hoverinfo="text", row=1, col=1,
        hovertext=[f"random circuit {i}<br>faithfulness {value:.4g}" for i, value in enumerate(chance.tolist())],
    )  # fmt: skip


def _runs(drawn: go.Figure, report: CircuitReport) -> None:
    for values, name, colour, symbol in (
        (report.model, "model", INK, "line-ew-open"),
        (report.alone, "circuit alone", POSITIVE, "circle"),
        (report.empty, "no edges", NEGATIVE, "circle-open"),
    ):
        y = array(values)
        drawn.add_scatter(
            x=np.arange(len(y)), y=y, mode="markers", name=name, row=1, col=2, hoverinfo="text",
            marker={"color": colour, "symbol": symbol, "size": 9, "line": {"width": 2, "color": colour}},
            hovertext=[f"prompt {i}<br>{name}: {value:.4g}" for i, value in enumerate(y.tolist())],
        )  # fmt: skip


def _spread(n: int, width: float) -> np.ndarray:
    """Points side by side around 0, in their order: nothing random."""
    return np.linspace(-width, width, n) if n > 1 else np.zeros(n)


def _range(per_prompt: np.ndarray, wanted: list[float]) -> tuple[list[float], int]:
    """An axis that holds what is `wanted`; a prompt with a tiny denominator must not flatten the rest."""
    finite = per_prompt[np.isfinite(per_prompt)]
    wanted = [value for value in wanted if np.isfinite(value)]
    reach = max(max(wanted) - min(wanted), 1e-6)
    kept = finite[(finite > min(wanted) - reach) & (finite < max(wanted) + reach)]
    low, high = min([*wanted, *kept.tolist()]), max([*wanted, *kept.tolist()])
    pad = 0.06 * (high - low)
    return [low - pad, high + pad], len(per_prompt) - len(kept)
