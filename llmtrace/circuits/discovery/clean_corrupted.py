"""EAP whose gradient is the mean of those at the clean and the corrupted run: integrated gradients from its two ends.

    score(u -> v) = < a_u(corrupted) - a_u(clean), (d metric / d x_v at clean + d metric / d x_v at corrupted) / 2 >

Source: Hanna, Pezzelle & Belinkov 2024 (`clean-corrupted`). Cost: 2 F + 2 W.
Known failure: a plateau at both ends hides what happens in between.
"""

from __future__ import annotations

from llmtrace.circuits.discovery.batches import scored
from llmtrace.circuits.discovery.eap_ig import along_inputs
from llmtrace.circuits.graph import Graph
from llmtrace.circuits.scores import EdgeScores
from llmtrace.interventions import Memory
from llmtrace.metrics import MetricLike
from llmtrace.models import TraceModel
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
    of_batch = along_inputs(model, (1.0, 0.0), rule)
    return scored(
        "clean-corrupted", of_batch, model, prompts, metric, graph, batch_size=batch_size, memory=memory, points=2,
        passes="4 forward, 2 backward", options={"rule": rule},
    )  # fmt: skip
