"""`discover`: score the edges, select, and hand back a circuit."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from llmtrace.circuits.circuit import Circuit
from llmtrace.circuits.discovery import METHODS
from llmtrace.circuits.graph import Graph
from llmtrace.circuits.selection import require_size, select, selection_of
from llmtrace.errors import InputError
from llmtrace.methods import Method
from llmtrace.metrics import MetricLike
from llmtrace.models import TraceModel
from llmtrace.prompts import PromptSet

# For options that a method cannot do without.
HINTS = {"tau": "try tau=0.01, in units of the metric", "n_edges": "say how many edges shall be left"}


def discover(
    model: TraceModel,
    prompts: PromptSet,
    *,
    n_edges: int | None = None,
    threshold: float | None = None,
    method: str = "eap-ig",
    selection: str | None = None,
    prune: bool | None = None,
    pnr: float | None = None,
    metric: MetricLike | None = None,
    **options: Any,
) -> Circuit:
    """The circuit of `n_edges` edges that `method` ranks highest, or of those whose |score| is `threshold` or more.

    method                  a row of `METHODS`; the default is the cheapest of those that found the best circuits of
                            language models in `benchmarks/truth_discovery.py`
    selection, prune, pnr   as in `select`
    options                 of the method, such as steps=5 (eap-ig) or tau=0.01 (acdc)

    ACDC decides itself: with neither n_edges nor threshold its circuit is every edge that moved the metric by tau or
    more, and dead ends are pruned only if asked for.

    A circuit is a claim: `evaluate` it, on prompts that did not choose it where you can. Raises NotFoundError for an
    unknown method or selection, InputError for a size outside 1..all edges or an option the method does not have.
    """
    if n_edges is not None and "n_edges" in inspect.signature(METHODS[method].function).parameters:
        options["n_edges"] = n_edges  # a method that looks for a circuit of that size
    row = method_of(method, options)
    if decides := n_edges is None and threshold is None and "tau" in options:
        threshold = options["tau"]
    selection_of(selection, n_edges=n_edges, threshold=threshold, pnr=pnr)
    if n_edges is not None:
        require_size(options.get("graph") or Graph.of(model), n_edges)
    scores = row(model, prompts, metric=metric, **options)
    pruned = not decides if prune is None else prune
    return select(scores, n_edges, threshold=threshold, selection=selection, prune=pruned, pnr=pnr)


def method_of(method: str, options: Mapping[str, Any]) -> Method:
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
