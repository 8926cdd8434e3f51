"""`Circuit`: a drawing. Layers upward, heads across, the MLP of a layer above its heads, single neurons right of it.

An edge leaves its writer upward and enters its reader from below. Colour is the sign of its score, width the magnitude,
dash the port that it enters by (q on the left of a head, v on the right); hover text along it says all three.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import plotly.graph_objects as go

from llmtrace.circuits import Circuit, Graph
from llmtrace.nodes import Edge, Embed, Head, KvHead, Logits, Mlp, Neuron, Node
from llmtrace.plots.drawing.style import FAINT, INK, MUTED, NEGATIVE, POSITIVE, count, figure, source, ticks
from llmtrace.plots.drawing.text import escaped, number

DASHES = {"q": "dot", "k": "dash", "v": "solid", "": "solid"}
ENTRIES = {"q": -1, "k": 0, "v": 1, "": 0}
WIDTHS = (0.7, 1.3, 2.3, 3.8)  # px, by quarters of the largest magnitude
WIDTH = 900  # px that the heads of a layer have, about
STEPS = np.linspace(0, 1, 25)
TOLD = (6, 10, 14, 18)  # the steps of a curve where the pointer finds its hover text

Scored = tuple[Edge, float | None]


def plot_circuit(circuit: Circuit, *, max_edges: int = 60) -> go.Figure:
    """The circuit's edges, at most the `max_edges` of largest score (more are a tangle); the title says how many were
    left out."""
    edges = _ranked(circuit)
    drawn_edges, left_out = edges[:max_edges], max(0, len(edges) - max_edges)
    graph = circuit.graph
    facts = [
        *source(circuit.provenance),
        *(f"{name} {circuit.options[name]}" for name in ("method", "selection") if name in circuit.options),
        f"{len(edges):,} of {count(graph.n_edges, 'edge')}",
        f"{left_out:,} of smallest score not drawn" if left_out else "",
    ]
    spacing = layer_spacing(graph)
    metric = circuit.options.get("metric")
    drawn = figure(
        f"Circuit for {metric}" if metric else "Circuit",
        facts,
        height=spacing * (graph.n_layers + 1) + 100,
        showlegend=True,
    )
    drawn.add_traces(_lines(graph, drawn_edges))
    drawn.add_trace(_hover_points(graph, drawn_edges))
    drawn.add_traces(
        _nodes(
            circuit,
            drawn_edges,
        )
    )
    drawn.add_traces(_legend(drawn_edges))
    columns = [str(head) for head in range(graph.n_heads)]
    drawn.update_xaxes(**ticks(columns), title="head", range=[-0.7, graph.n_heads - 0.3])
    drawn.update_yaxes(
        **ticks([str(layer) for layer in range(graph.n_layers)], room=spacing * graph.n_layers),
        title="layer",
        range=[-0.95, graph.n_layers + 0.3],
    )
    drawn.update_layout(
        legend={"orientation": "h", "x": 0, "y": 0, "yref": "container", "yanchor": "bottom", "itemclick": False}
    )
    return drawn


def _ranked(circuit: Circuit) -> list[Scored]:
    """Edges by magnitude of their score, in the graph's order where there is none."""
    edges = circuit.edges
    if circuit.scores is None:
        return [(edge, None) for edge in edges]
    score = {edge: circuit.scores[circuit.graph.index(edge)].item() for edge in edges}
    return [(edge, score[edge]) for edge in sorted(edges, key=lambda edge: -abs(score[edge]))]


def layer_spacing(graph: Graph) -> int:
    """px between layers."""
    return max(60, min(130, 2200 // (graph.n_layers + 1)))


def node_size(graph: Graph) -> int:
    """px across a node."""
    return max(14, min(34, 620 // (graph.n_heads + 2), int(0.34 * layer_spacing(graph))))


def place_of(node: Node | KvHead, graph: Graph) -> tuple[float, float]:
    """Where a node is drawn. Key-value heads stand just below the query heads of their group."""
    if isinstance(node, Head):
        return float(node.head), float(node.layer)
    if isinstance(node, KvHead):
        group = graph.n_heads / graph.n_kv_heads
        return node.head * group + (group - 1) / 2, node.layer - 0.22
    if isinstance(node, Mlp):
        return (graph.n_heads - 1) / 2, node.layer + 0.5
    if isinstance(node, Neuron):
        beside = graph.neurons_of(node.layer)
        share = (beside.index(node.index) + 1) / (len(beside) + 1)
        return (graph.n_heads - 1) / 2 + share * graph.n_heads / 2, node.layer + 0.5
    return (graph.n_heads - 1) / 2, graph.n_layers + 0.05 if isinstance(node, Logits) else -0.7


def _curve(graph: Graph, edge: Edge) -> tuple[np.ndarray, np.ndarray]:
    """An S from writer to reader. Long edges straight up bow aside, or they would run through the nodes between."""
    (x0, y0), (x1, y1) = place_of(edge.writer, graph), place_of(edge.port.node, graph)
    x1 += 0.32 * node_size(graph) * graph.n_heads / WIDTH * ENTRIES[edge.port.slot or ""]
    rise = y1 - y0
    middle = (graph.n_heads - 1) / 2
    free = 0.75 if x0 == middle and graph.n_heads % 2 else 1.25  # a head stands between MLPs where their number is odd
    if abs(x1 - x0) < 0.3 and rise > free:
        bow = min(0.5 * (rise - 0.5), 0.3 * max(2, graph.n_heads)) * (-1 if x0 > middle else 1)
    else:
        bow = 0.0
    s, r = STEPS, 1 - STEPS
    weights = np.stack([r**3, 3 * r**2 * s, 3 * r * s**2, s**3], axis=1)  # of a cubic Bezier curve
    return weights @ [x0, x0 + bow, x1 + bow, x1], weights @ [y0, y0 + 0.45 * rise, y1 - 0.45 * rise, y1]


def _colour(score: float | None) -> str:
    return MUTED if score is None else NEGATIVE if score < 0 else POSITIVE


def _lines(graph: Graph, edges: list[Scored]) -> list[go.Scatter]:
    """One trace per look; curves of one look are parted by gaps."""
    largest = max((abs(score) for _, score in edges if score is not None), default=0.0) or 1.0
    looks: dict[tuple[str, float, str], list[Edge]] = defaultdict(list)
    for edge, score in edges:
        width = 1.0 if score is None else WIDTHS[min(3, int(4 * abs(score) / largest))]
        looks[_colour(score), width, DASHES[edge.port.slot or ""]].append(edge)
    found = []
    for (colour, width, dash), alike in sorted(looks.items(), key=lambda look: look[0][1]):
        curves = [_curve(graph, edge) for edge in alike]
        found.append(
            go.Scatter(
                x=np.concatenate([np.append(x, np.nan) for x, _ in curves]),
                y=np.concatenate([np.append(y, np.nan) for _, y in curves]),
                mode="lines", line={"color": colour, "width": width, "dash": dash}, opacity=0.55,
                hoverinfo="skip", showlegend=False, name="edges",
            )
        )  # fmt: skip
    return found


def _hover_points(graph: Graph, edges: list[Scored]) -> go.Scatter:
    """What an edge says of itself, along its curve: lines have no hover text of their own."""
    curves = [_curve(graph, edge) for edge, _ in edges]
    told = [escaped(edge) + ("" if score is None else f"<br>score {number(score, digits=4)}") for edge, score in edges]
    return go.Scatter(
        x=[x[step] for x, _ in curves for step in TOLD], y=[y[step] for _, y in curves for step in TOLD],
        hovertext=[text for text in told for _ in TOLD], hoverinfo="text",
        mode="markers", name="scores", showlegend=False,
        marker={"size": 6, "color": [_colour(score) for _, score in edges for _ in TOLD], "opacity": 0},
    )  # fmt: skip


def _nodes(circuit: Circuit, edges: list[Scored]) -> list[go.Scatter]:
    """Nodes that the drawn edges touch, labelled; the rest of the model as faint dots."""
    graph = circuit.graph
    outgoing: dict[Node | KvHead, int] = defaultdict(int)
    incoming: dict[Node | KvHead, int] = defaultdict(int)
    for edge, _ in edges:
        outgoing[edge.writer] += 1
        incoming[edge.port.node] += 1
    roles: dict[Node | KvHead, list[str]] = defaultdict(list)
    for role, members in circuit.roles.items():
        for member in members:
            roles[member].append(role)
    used = sorted({*outgoing, *incoming}, key=str)
    idle = [node for node in (*graph.nodes, Logits()) if node not in outgoing and node not in incoming]
    size = node_size(graph)
    rest, touched = [place_of(node, graph) for node in idle], [place_of(node, graph) for node in used]
    return [
        go.Scatter(
            x=[x for x, _ in rest], y=[y for _, y in rest], mode="markers", name="not in the circuit",
            marker={"size": 6, "color": FAINT}, hovertext=[escaped(node.label) for node in idle], hoverinfo="text",
            showlegend=bool(idle),
        ),
        go.Scatter(
            x=[x for x, _ in touched], y=[y for _, y in touched], mode="markers+text", name="nodes", showlegend=False,
            marker={
                "size": [size * 0.6 if isinstance(node, KvHead) else size for node in used],
                "color": "white", "opacity": 1,
                "line": {"color": INK, "width": 1.2},
                "symbol": ["circle" if isinstance(node, Head | KvHead) else "square" for node in used],
            },
            text=["" if isinstance(node, KvHead) else _short(node) for node in used],
            textfont={"size": max(7, min(11, size // 2.6)), "color": INK},
            hovertext=[
                f"{escaped(node.label)}<br>{incoming[node]} edges in, {outgoing[node]} out"
                + "".join(f"<br>{escaped(role)}" for role in roles[node])
                for node in used
            ],
            hoverinfo="text",
        ),
    ]  # fmt: skip


def _short(node: Node) -> str:
    return f"m{node.layer}" if isinstance(node, Mlp) else "in" if node == Embed() else escaped(node.label)


def _legend(edges: list[Scored]) -> list[go.Scatter]:
    """What colours and dashes mean, for those that occur."""
    signs = {_colour(score) for _, score in edges}
    slots = {edge.port.slot or "MLP, logits" for edge, _ in edges}
    shown = [(POSITIVE, "solid", "positive score"), (NEGATIVE, "solid", "negative score")]
    shown = [row for row in shown if row[0] in signs]
    shown += [(MUTED, DASHES[slot], f"into {slot}") for slot in "qk" if slot in slots]
    if straight := [slot for slot in ("v", "MLP, logits") if slot in slots]:
        shown.append((MUTED, "solid", f"into {', '.join(straight)}"))
    return [
        go.Scatter(x=[None], y=[None], mode="lines", line={"color": colour, "dash": dash, "width": 2}, name=name)
        for colour, dash, name in shown
    ]
