"""`discover`: score the edges, select, and hand back a circuit.

Its cost is that of the scores. Each method's passes stand in its row, as `passes`; memory is buffers of all nodes'
writes and what backward passes keep, batch by batch (`needed_memory.py`).

    >>> lt.circuits.discover(model, prompts, n_edges=150)
    Circuit(150 of 1,519 edges, 26 nodes)
    >>> lt.circuits.discover(model, prompts, n_edges=150, method="eap", selection="top")
    Circuit(149 of 1,519 edges, 26 nodes)
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from llmtrace.circuits.circuit import DEFAULT_SIZE, Circuit
from llmtrace.circuits.graph import Graph
from llmtrace.circuits.rows import METHODS, Discovery, Passes
from llmtrace.circuits.running.needed_memory import bytes_to_score, scored_at_once
from llmtrace.circuits.selection.select import require_size, select, selection_of
from llmtrace.errors import InputError
from llmtrace.metrics import MetricLike
from llmtrace.models import TraceModel
from llmtrace.plan import Declaration, Plan, declares
from llmtrace.prompts import PromptSet

# For options that a method cannot do without.
HINTS = {"tau": "try tau=0.01, in units of the metric"}


@declares
def discover(
    model: TraceModel,
    prompts: PromptSet,
    *,
    n_edges: int | None = None,
    threshold: float | None = None,
    method: str = "eap_ig",
    selection: str | None = None,
    prune: bool | None = None,
    pnr: float | None = None,
    metric: MetricLike | None = None,
    **options: Any,
) -> Declaration[Circuit]:
    """The circuit of `n_edges` edges that `method` ranks highest, or of those whose |score| is `threshold` or more.

    n_edges                 without it and without a threshold, a tenth of the model's edges, which the circuit says
    method                  a row of `METHODS`; the default is the cheapest of those that found the best circuits of
                            language models in `benchmarks/truth_discovery.py`
    selection, prune, pnr   as in `select`
    options                 of the method, such as steps=5 (eap_ig) or tau=0.01 (acdc)

    ACDC decides itself: with neither n_edges nor threshold its circuit is every edge that moved the metric by tau or
    more, and dead ends are pruned only if asked for.

    A circuit is a claim: `evaluate` it, on prompts that did not choose it where you can. Raises NotFoundError for an
    unknown method or selection, InputError for a size outside 1..all edges or an option the method does not have.
    """
    if unsized := n_edges is None and threshold is None and "tau" not in options:
        n_edges = max(1, round((options.get("graph") or Graph.of(model)).n_edges / 10))
    if n_edges is not None and "n_edges" in inspect.signature(METHODS[method].function).parameters:
        options["n_edges"] = n_edges  # a method that looks for a circuit of that size
    options |= {} if metric is None else {"metric": metric}
    row = method_of(method, options)
    options = row.read_options(options)
    if decides := n_edges is None and threshold is None and "tau" in options:
        threshold = options["tau"]
    how = {"threshold": threshold, "selection": selection, "pnr": pnr, "prune": not decides if prune is None else prune}
    return Discovering(model, prompts, row, options, n_edges, how, unsized)


@dataclass(frozen=True)
class DiscoveryPlan(Plan):
    """What a discovery will cost: passes over the prompts, or at most so many."""

    method: str
    edges: int
    forward: int
    backward: int
    at_most: bool

    @property
    def work(self) -> str:
        bound = "at most " if self.at_most else ""
        passes = f"{bound}{self.forward:,} forward and {self.backward:,} backward passes"
        return f"{self.method} over {self.edges:,} edges: {passes}"


@dataclass(frozen=True, eq=False)
class Discovering(Declaration[Circuit]):
    """A discovery that is declared and not yet made. `options` are the method's, `how` is how edges are selected,
    `unsized` whether nobody said how many."""

    model: TraceModel
    prompts: PromptSet
    row: Discovery
    options: Mapping[str, Any]
    n_edges: int | None
    how: Mapping[str, Any]
    unsized: bool = False

    @property
    def plan(self) -> DiscoveryPlan:
        """The cost of the method, from shapes alone."""
        cost, what = self._cost, (self.model, self._graph, self.prompts)
        each, result = bytes_to_score(*what, buffers=cost.buffers, points=cost.points)
        memory = self.options.get("memory", "auto")
        batch = scored_at_once(*what, memory, buffers=cost.buffers, points=cost.points)
        return DiscoveryPlan(
            bytes=batch * each + result,
            prompts_at_once=batch,
            method=self.row.name,
            edges=self._graph.n_edges,
            forward=cost.forward,
            backward=cost.backward,
            at_most=cost.at_most,
        )

    def run(self) -> Circuit:
        selection_of(self.how["selection"], n_edges=self.n_edges, threshold=self.how["threshold"], pnr=self.how["pnr"])
        if self.n_edges is not None:
            require_size(self._graph, self.n_edges)
        scores = self.row(self.model, self.prompts, **self.options)
        circuit = select(scores, self.n_edges, **self.how)
        return replace(circuit, options={**circuit.options, DEFAULT_SIZE: True}) if self.unsized else circuit

    @cached_property
    def _graph(self) -> Graph:
        return self.options.get("graph") or Graph.of(self.model)

    @property
    def _cost(self) -> Passes:
        if self.row.passes is None:
            known = ", ".join(name for name, row in METHODS.items() if row.passes is not None)
            raise InputError(f"Expected a method whose cost is known ({known}), got {self.row.name!r}; just run it.")
        defaults = {p.name: p.default for p in inspect.signature(self.row.function).parameters.values()}
        return self.row.passes(self._graph, defaults | dict(self.options))


def method_of(method: str, options: Mapping[str, Any]) -> Discovery:
    """The row of `METHODS`. Refuses options that the method does not have, and the lack of one that it cannot do
    without, before anything is computed."""
    row = METHODS[method]
    row.require_options(options)
    for option in inspect.signature(row.function).parameters.values():
        if option.kind is option.KEYWORD_ONLY and option.default is option.empty and option.name not in options:
            raise InputError(
                f"Expected {option.name} for the method {method}, got none; {HINTS.get(option.name, 'give it')}."
            )
    return row
