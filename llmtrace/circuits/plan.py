"""What a discovery will cost, before anything is run: passes over the prompts, and memory beside the weights.

Each method's passes are those of its docstring. Memory is buffers of all nodes' writes, batch by batch: what
`prompts_at_once` reckons with.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from llmtrace.circuits.discover import method_of
from llmtrace.circuits.graph import Graph
from llmtrace.circuits.running import BUFFERS, bytes_of_writes, prompts_at_once
from llmtrace.errors import InputError
from llmtrace.models import TraceModel
from llmtrace.models.budget import Memory, size
from llmtrace.prompts import PromptSet

Options = Mapping[str, Any]


@dataclass(frozen=True)
class Cost:
    """Forward and backward passes over all prompts (at most so many, where the run decides), and how many points of a
    path ride in one batch with each prompt."""

    forward: int
    backward: int
    points: int = 1
    at_most: bool = False


@dataclass(frozen=True)
class DiscoveryPlan:
    """What `discover` with these options would take."""

    method: str
    edges: int
    forward: int
    backward: int
    at_most: bool
    prompts_at_once: int
    bytes: int

    def __str__(self) -> str:
        bound = "at most " if self.at_most else ""
        return (
            f"{self.method} over {self.edges:,} edges: {bound}{self.forward:,} forward and {self.backward:,} backward "
            f"passes, {self.prompts_at_once} prompts at once, about {size(self.bytes)} beside the weights"
        )


def _activations(graph: Graph, options: Options) -> Cost:
    groups = 1 + graph.n_layers * (1 if graph.attn_only else 2)
    return Cost(4 + options["steps"] * groups, options["steps"] * groups, options["steps"])


def _atp_star(graph: Graph, options: Options) -> Cost:
    return Cost(2, 1 + (graph.n_layers if options["grad_drop"] else 0), 3)


COSTS: dict[str, Callable[[Graph, Options], Cost]] = {
    "eap": lambda graph, options: Cost(2, 1),
    "eap-ig": lambda graph, options: Cost(2 + options["steps"], options["steps"], options["steps"]),
    "clean-corrupted": lambda graph, options: Cost(2, 2, 2),
    "eap-ig-activations": _activations,
    "atp-star": _atp_star,
    "ifr": lambda graph, options: Cost(1, 0),
    "hisp": lambda graph, options: Cost(1, 1),
    "acdc": lambda graph, options: Cost(3 + graph.n_edges, 0, at_most=True),
    "edge-pruning": lambda graph, options: Cost(2 + options["steps"], options["steps"]),
    "exact": lambda graph, options: Cost(2 + graph.n_edges, 0),
}


def plan_discover(
    model: TraceModel,
    prompts: PromptSet,
    *,
    method: str = "eap-ig",
    graph: Graph | None = None,
    memory: Memory = "auto",
    **options: Any,
) -> DiscoveryPlan:
    """The cost of a method, from shapes alone: no pass is run. `options` are the method's own.

    Raises InputError for a method that is not of the package, and what `discover` raises for its options.
    """
    row = method_of(method, options)
    if method not in COSTS:
        raise InputError(f"Expected a method whose cost is known ({', '.join(COSTS)}), got {method!r}; just run it.")
    graph = Graph.of(model) if graph is None else graph
    defaults = {p.name: p.default for p in inspect.signature(row.function).parameters.values()}
    cost = COSTS[method](graph, defaults | options)
    buffers = BUFFERS + cost.points
    at_once = options.get("batch_size") or prompts_at_once(model, graph, prompts, memory, buffers=buffers)
    return DiscoveryPlan(
        method, graph.n_edges, cost.forward, cost.backward, cost.at_most, at_once,
        at_once * bytes_of_writes(model, graph, prompts, buffers),
    )  # fmt: skip
