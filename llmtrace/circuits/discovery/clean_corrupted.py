"""EAP whose gradient is the mean of those at the clean and the corrupted run: integrated gradients from its two ends.

    score(u -> v) = < a_u(corrupted) - a_u(clean), (d metric / d x_v at clean + d metric / d x_v at corrupted) / 2 >

Source: Hanna, Pezzelle & Belinkov 2024 (`clean-corrupted`). Cost: 2 F + 2 W; memory as EAP, with the
gradients of one run more.
Known failure: a plateau at both ends hides what happens in between.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from llmtrace.circuits.discovery.batches import recorder_of, scored
from llmtrace.circuits.gradients import edge_products, reader_gradients, require_slope
from llmtrace.circuits.graph import Graph
from llmtrace.circuits.scores import EdgeScores
from llmtrace.interventions import Memory
from llmtrace.metrics import Metric, MetricLike
from llmtrace.models import TraceModel
from llmtrace.prompts import PromptSet

SIDES = ("clean", "corrupted")


def clean_corrupted(
    model: TraceModel,
    prompts: PromptSet,
    *,
    metric: MetricLike | None = None,
    graph: Graph | None = None,
    rule: str = "standard",
    batch_size: int | None = None,
    memory: Memory = "auto",
) -> EdgeScores:
    """Scores of every edge, per prompt."""

    def of_batch(graph: Graph, some: PromptSet, read: Metric) -> Float[Tensor, "batch node port"]:
        ends = [recorder_of(model, graph) for _ in SIDES]
        gradients = [
            reader_gradients(model, graph, some, read, tokens=some.side(side), hooks=record.hooks, rule=rule, flat=True)
            for side, record in zip(SIDES, ends, strict=True)
        ]
        require_slope(read, max(one.slope for one in gradients), model.W_E.dtype)  # at one of the ends it may be flat
        clean, corrupted = (record.values for record in ends)
        change = corrupted.sub_(clean)
        at_clean, at_corrupted = (edge_products(one, change) for one in gradients)
        return (at_clean + at_corrupted) / 2

    return scored(
        "clean-corrupted", of_batch, model, prompts, metric, graph, batch_size=batch_size, memory=memory, points=2,
        passes="2 forward, 2 backward", options={"rule": rule},
    )  # fmt: skip
