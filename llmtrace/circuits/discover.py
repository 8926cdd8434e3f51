"""`discover`: score the edges, select, and hand back a circuit."""

from __future__ import annotations

from typing import Any

from llmtrace.circuits.circuit import Circuit
from llmtrace.circuits.discovery import METHODS
from llmtrace.circuits.graph import Graph
from llmtrace.circuits.selection import SELECTIONS, require_size, select
from llmtrace.metrics import MetricLike
from llmtrace.models import TraceModel
from llmtrace.prompts import PromptSet


def discover(
    model: TraceModel,
    prompts: PromptSet,
    *,
    n_edges: int,
    method: str = "eap",
    selection: str = "greedy",
    metric: MetricLike | None = None,
    **options: Any,
) -> Circuit:
    """The circuit of `n_edges` edges that `method` ranks highest. `options` go to the method.

    A circuit is a claim: `evaluate` it, on prompts that did not choose it where you can. Raises NotFoundError for an
    unknown method or selection, InputError for a size outside 1..all edges or an option the method does not have.
    """
    row = METHODS[method]
    row.require_options(options)
    SELECTIONS[selection]  # an unknown one is refused before the scores are computed, and so is a size
    require_size(Graph.of(model), n_edges)
    scores = row(model, prompts, metric=metric, **options)
    return select(scores, n_edges, selection=selection)
