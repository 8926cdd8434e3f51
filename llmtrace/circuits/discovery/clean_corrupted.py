"""EAP whose gradient is the mean of those at the clean and the corrupted run: integrated gradients from its two ends.

    score(u -> v) = < a_u(corrupted) - a_u(clean), (d metric / d x_v at clean + d metric / d x_v at corrupted) / 2 >

Source: Hanna, Pezzelle & Belinkov 2024 (`clean-corrupted`). Cost: 2 F + 2 W.
Known failure: a plateau at both ends hides what happens in between.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from llmtrace.circuits.discovery.batches import change_of_writes, scored
from llmtrace.circuits.gradients import edge_products, reader_gradients
from llmtrace.circuits.graph import Graph
from llmtrace.circuits.scores import EdgeScores
from llmtrace.interventions import Memory
from llmtrace.metrics import Metric, MetricLike
from llmtrace.models import TraceModel, embedding
from llmtrace.prompts import PromptSet


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
    """Scores of every edge, per prompt; both runs ride in one batch."""

    def of_batch(graph: Graph, some: PromptSet, read: Metric) -> Float[Tensor, "batch node port"]:
        ends = torch.cat([embedding(model, some.side(side))[0] for side in ("clean", "corrupted")])
        gradients = reader_gradients(model, graph, some, read, inputs=ends, rule=rule)
        return edge_products(gradients, change_of_writes(model, graph, some))

    return scored(
        "clean-corrupted", of_batch, model, prompts, metric, graph, batch_size=batch_size, memory=memory, points=2,
        passes="4 forward, 2 backward", options={"rule": rule},
    )  # fmt: skip
