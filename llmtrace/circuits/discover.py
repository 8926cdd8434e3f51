"""`discover`: score the edges, select, and hand back a circuit."""

from __future__ import annotations

from typing import Any

from llmtrace.circuits.circuit import Circuit
from llmtrace.circuits.discovery import METHODS
from llmtrace.circuits.selection import select
from llmtrace.metrics import Metric
from llmtrace.models import TraceModel
from llmtrace.prompts import PromptSet


def discover(
    model: TraceModel,
    prompts: PromptSet,
    *,
    n_edges: int,
    method: str = "eap",
    selection: str = "greedy",
    metric: str | Metric | None = None,
    **options: Any,
) -> Circuit:
    """The circuit of `n_edges` edges that `method` ranks highest. `options` go to the method.

    A circuit is a claim: `evaluate` it, on prompts that did not choose it where you can.
    """
    scores = METHODS[method].function(model, prompts, metric=metric, **options)
    return select(scores, n_edges, selection=selection)
