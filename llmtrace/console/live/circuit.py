"""A circuit: edges by score, which of them are kept, and how faithful circuits of growing size are, each run alone."""

from __future__ import annotations

from collections.abc import Iterable
from inspect import Parameter, signature

from llmtrace.circuits import METHODS, Circuit, Graph, evaluate, faithfulness_curve, select
from llmtrace.console.live.run import LiveRun
from llmtrace.console.live.sweep import Emit
from llmtrace.console.schemas import CircuitEdge, CircuitNode, CircuitView
from llmtrace.errors import not_one_of
from llmtrace.models import TraceModel
from llmtrace.nodes import Edge, Node
from llmtrace.progress import track

SENT = 2000  # edges
SHARES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


def edge_methods() -> dict[str, str]:
    """Methods that need nothing said, and that do not look for a circuit of one size by running it."""
    rows = {name: row for name, row in METHODS.items() if name not in ("exact", "edge_pruning")}
    needs = {
        name: [p for p in signature(row.function).parameters.values() if p.kind is p.KEYWORD_ONLY]
        for name, row in rows.items()
    }
    free = [name for name in rows if all(p.default is not Parameter.empty for p in needs[name])]
    return {name: rows[name].summary for name in free}


def circuit(model: TraceModel, run: LiveRun, method: str, edges: int, *, emit: Emit) -> CircuitView:
    if method not in edge_methods():
        raise not_one_of("method", edge_methods(), method[:40])
    steps = track(("scores", "circuit", "curve"), f"looking for a circuit by {method}")
    next(steps)
    scores = METHODS[method](model, run.prompts)
    size = min(edges, scores.graph.n_edges)
    next(steps)
    found = select(scores, size)
    faithfulness = evaluate(model, run.prompts, found, draws=0).faithfulness
    next(steps)
    curve = faithfulness_curve(model, run.prompts, scores, shares=SHARES).df()
    next(steps, None)
    nodes, sent = drawn(found, scores.top(SENT))
    return CircuitView(
        run=run.id, method=method, nodes=nodes, edges=sent, edges_total=found.graph.n_edges,
        edges_cut=found.graph.n_edges - len(sent), faithfulness=faithfulness,
        curve=list(zip(curve["edges"].tolist(), curve["faithfulness"].tolist(), strict=True)),
        python=run.program.of(
            f"scores = lt.circuits.METHODS[{method!r}](model, prompts)",
            f"circuit = lt.circuits.select(scores, {size})",
            "faithfulness = lt.evaluate(model, prompts, circuit, draws=0).faithfulness",
            "result = [faithfulness, *(value for _, value in scores.top(100))]",
        ),
    )  # fmt: skip


def drawn(found: Circuit, top: Iterable[tuple[Edge, float]]) -> tuple[list[CircuitNode], list[CircuitEdge]]:
    """The largest edges, those of the circuit always among them, and the nodes at their ends."""
    ranked = [*top]
    there = {edge for edge, _ in ranked}
    left = [edge for edge in found.edges if edge not in there]
    cut = ranked[: max(0, SENT - len(left))]
    scored = [*cut, *((edge, _score(found, edge)) for edge in left)]
    edges = [
        CircuitEdge(sender=str(edge.writer), receiver=str(edge.port), score=score, kept=edge in found)
        for edge, score in sorted(scored, key=lambda each: -abs(each[1]))
    ]
    ends = dict.fromkeys(node for edge, _ in scored for node in (edge.writer, edge.port.node))
    roles = {node: role for role, nodes in found.roles.items() for node in nodes}
    return [_node(node, found.graph, roles.get(node)) for node in sorted(ends, key=lambda n: (n.stage, str(n)))], edges


def _score(found: Circuit, edge: Edge) -> float:
    return 0.0 if found.scores is None else found.scores[found.graph.index(edge)].item()


def _node(node: Node, graph: Graph, role: str | None) -> CircuitNode:
    """Heads stand in their order, an MLP at the right, what has its layer for itself in the middle."""
    index = getattr(node, "index", None)
    counts = {"n_heads": graph.n_heads, "n_kv_heads": graph.n_kv_heads}
    of = counts.get(node.counted or "")
    x = (index + 0.5) / (of + 1) if index is not None and of else 1.0 if node.in_mlp else 0.5
    return CircuitNode(name=str(node), layer=graph.n_layers if node.depth is None else node.depth, x=x, role=role)
