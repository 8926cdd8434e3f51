"""EAP whose gradient is the mean of those at the clean and the corrupted run: integrated gradients from its two ends.

    score(u -> v) = < a_u(corrupted) - a_u(clean), (d metric / d x_v at clean + d metric / d x_v at corrupted) / 2 >

Source: Hanna, Pezzelle & Belinkov 2024 (`clean_corrupted`). Cost: 2 F + 2 W; memory as EAP, with the
gradients of one run more.
Sign: as EAP, negative = patching the edge lowers the metric.
Known failure: a plateau at both ends hides what happens in between.

    >>> lt.circuits.clean_corrupted(model, prompts)
    EdgeScores(clean_corrupted of logit_diff: 1,519 edges; a3.h2->logits -3.24, m0->a3.h3<v> +2.88)
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from llmtrace.circuits.discovery.scoring.edge_scoring import Gradients, edge_products, reader_gradients, require_slope
from llmtrace.circuits.discovery.scoring.prompt_scores import recorder_of, scored
from llmtrace.circuits.edge_scores import EdgeScores
from llmtrace.circuits.graph import Graph
from llmtrace.interventions import Memory
from llmtrace.metrics import Metric, MetricLike
from llmtrace.models import TraceModel
from llmtrace.prompts import PromptSet

SIDES = ("corrupted", "clean")


def clean_corrupted(
    model: TraceModel,
    prompts: PromptSet,
    *,
    metric: MetricLike | None = None,
    graph: Graph | None = None,
    rule: str = "standard",
    memory: Memory = "auto",
) -> EdgeScores:
    """Scores of every edge, per prompt."""

    def of_batch(graph: Graph, some: PromptSet, read: Metric) -> Float[Tensor, "batch node port"]:
        change, gradients = None, list[Gradients]()
        for side in SIDES:
            record = recorder_of(model, graph, taken_from=change)
            gradients.append(
                reader_gradients(
                    model, graph, some, read, tokens=some.side(side), hooks=record.hooks, rule=rule, flat=True
                )
            )
            change = record.values
        require_slope(read, max(one.slope for one in gradients), model.W_E.dtype)  # at one of the ends it may be flat
        at_corrupted, at_clean = (edge_products(one, record.values) for one in gradients)
        return at_clean.add_(at_corrupted).div_(2)

    return scored(
        "clean_corrupted", of_batch, model, prompts, metric, graph, memory=memory, points=2,
        passes="2 forward, 2 backward", options={"rule": rule},
    )  # fmt: skip
