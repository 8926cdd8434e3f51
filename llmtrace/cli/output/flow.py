"""The dependency graph of one prompt, for `influence --graph`: checked, drawn, written, and its largest edges told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llmtrace.cli.output.screen import decimals
from llmtrace.errors import InputError
from llmtrace.nodes import Head, Mlp

if TYPE_CHECKING:
    from llmtrace.cli.output.screen import Screen
    from llmtrace.influence import FlowGraph
    from llmtrace.models import TraceModel
    from llmtrace.plots import Section
    from llmtrace.prompts import PromptSet

METHOD = "flow_routes"
FILE = "flow_graph.json"


def require_one_prediction(method: str, given: dict[str, Any]) -> None:
    """A graph is of one prediction. Refused before a model is loaded."""
    if method != METHOD:
        raise InputError(f"Expected --graph with --method {METHOD}, got it with {method}; add --method {METHOD}.")
    if len(asked := given.get("positions", ["END"])) > 1:
        raise InputError(f"Expected one place in --positions with --graph, got {len(asked)}; run it once for each.")


def graph_of(model: TraceModel, prompts: PromptSet, given: dict[str, Any]) -> FlowGraph:
    """Of the first prompt, by the options of flow_routes."""
    from llmtrace.influence import flow_graph

    (position,) = given.get("positions", ["END"])
    options = {"threshold": given["threshold"]} if "threshold" in given else {}
    return flow_graph(model, prompts[:1], position=position, **options)


def summary_of(graph: FlowGraph, top: int) -> dict[str, Any]:
    """Its size and its largest edges; the file has all."""
    from llmtrace.cli.output.documents import records_of

    return {
        "prompt": 0, "position": graph.at, "edges": len(graph.flow), "places": int((graph.places > 0).sum()),
        "largest": records_of(graph.df().head(top)),
    }  # fmt: skip


def tell(screen: Screen, graph: FlowGraph, top: int) -> None:
    """The largest edges through heads and MLPs: nearly all else only stays where it is, in the residual stream."""
    screen.say(f"\nThe graph behind it: {graph!r}, first prompt.")
    screen.say(
        "What its largest heads and MLPs carry (flow: of the whole prediction; share: of what they write into):\n"
    )
    rows = [
        [
            _part(edge),
            f"{edge.source_token!r} ({edge.source})", f"{edge.target_token!r} ({edge.target})",
            decimals(edge.flow, 3), decimals(edge.share, 3),
        ]
        for edge in graph.df().query("kind != 'residual'").head(top).itertuples()
    ]  # fmt: skip
    screen.table(["part", "from", "to", "flow", "share"], rows)


def _part(edge: Any) -> str:
    """`3.5` or `m3`; a stage is named by its layer, `3_mid`."""
    layer = int(edge.stage.partition("_")[0])
    return str(Mlp(layer)) if edge.kind == "mlp" else Head(layer, int(edge.head)).label


def section(graph: FlowGraph) -> Section:
    from llmtrace.plots import Section, plot

    about = (
        f"What the prediction of the first prompt depends on, from its place (top) down to the tokens. {FILE} has it."
    )
    return Section("Dependency graph", about, figure=plot(graph))
