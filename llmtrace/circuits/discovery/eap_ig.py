"""EAP with integrated gradients, along the inputs: the gradient is the mean over a straight path of embeddings.

    score(u -> v) = < a_u(corrupted) - a_u(clean), mean_k d metric / d x_v at e' + t_k (e - e') >,   t_k = (k - 1/2) / K

e, e': clean and corrupted embeddings. With `ablation="zero"` or "mean" the removed edges carry that, and so does e'.
Source: Hanna, Pezzelle & Belinkov 2024 (ours takes midpoints).
Sign: as EAP, negative = patching the edge lowers the metric.
Cost: 2 F + K (F + W); the K points ride in one batch where memory allows.
Law 32: the edges out of `input` sum to m(corrupted) - m(clean) as K grows.
Known failure: the path of embeddings need not pass where the model works; the difference of writes is that of the ends.
From 0 (`ablation="zero"`) the path only scales the embeddings, and a norm takes scale away: no point sees the change.

    >>> lt.circuits.eap_ig(model, prompts)
    EdgeScores(eap_ig (resample) of logit_diff: 1,519 edges; input->m0 -7.09, m0->a3.h3<v> +4.42)
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from llmtrace.circuits.discovery.scoring.edge_scoring import edge_products, reader_gradients
from llmtrace.circuits.discovery.scoring.prompt_scores import OfBatch, scored
from llmtrace.circuits.discovery.scoring.removed_writes import RemovedWrites, removed_writes
from llmtrace.circuits.edge_scores import EdgeScores
from llmtrace.circuits.graph import Graph
from llmtrace.circuits.running.background import Ablation, ablation_name
from llmtrace.errors import InputError
from llmtrace.interventions import Memory
from llmtrace.metrics import Metric, MetricLike
from llmtrace.models import TraceModel, embedding
from llmtrace.prompts import PromptSet


def eap_ig(
    model: TraceModel,
    prompts: PromptSet,
    *,
    metric: MetricLike | None = None,
    graph: Graph | None = None,
    rule: str = "standard",
    steps: int = 5,
    ablation: Ablation = "resample",
    memory: Memory = "auto",
) -> EdgeScores:
    """Scores of every edge, per prompt, from `steps` points of the path.

    ablation   what removed edges carry: "resample", "zero", "mean" (of the corrupted prompts) or a `Mean(...)`

    Raises InputError for less than one step, and for prompts without the corruption that the ablation reads.
    """
    graph = Graph.of(model) if graph is None else graph
    times, removed = midpoints(steps), removed_writes(model, graph, prompts, ablation, memory, method="eap_ig")
    return scored(
        "eap_ig", along_inputs(model, times, rule, removed), model, prompts, metric, graph, memory=memory, points=steps,
        held=removed.held, contrast=False,
        passes=f"{(1 if ablation == 'zero' else 2) + steps} forward, {steps} backward",
        options={"rule": rule, "steps": steps, "ablation": ablation_name(ablation)},
    )  # fmt: skip


def along_inputs(model: TraceModel, times: Sequence[float], rule: str, removed: RemovedWrites) -> OfBatch:
    """The gradient averaged over e' + t (e - e') at these times, which ride in one batch."""

    def of_batch(graph: Graph, some: PromptSet, read: Metric) -> Float[Tensor, "batch node port"]:
        clean, other = embedding(model, some.clean)[0], removed.inputs(some)
        points = torch.cat([other + t * (clean - other) for t in times])
        gradients = reader_gradients(model, graph, some, read, inputs=points, rule=rule)
        return edge_products(gradients, removed.change(some))

    return of_batch


def midpoints(steps: int) -> list[float]:
    """(k - 1/2) / K."""
    if not isinstance(steps, int) or steps < 1:
        raise InputError(f"Expected a whole number of steps from 1 on, got {steps!r}; 5 is the default.")
    return [(k + 0.5) / steps for k in range(steps)]
