"""Exact edge effects: every edge patched in a run of its own. The oracle that other methods are measured against.

    score(u -> v) = m(all edges but u->v live) - m(clean)

Source: Wang et al. 2022; Conmy et al. 2023. Cost: one circuit run per edge - for small models only (limit `max_edges`).
Known failure: one edge at a time sees neither backup (OR) nor synergy beyond the first edge removed.
"""

from __future__ import annotations

import torch

from llmtrace.circuits.graph import Graph
from llmtrace.circuits.running import Ablation, ablated_writes, circuit_residual
from llmtrace.circuits.scores import EdgeScores
from llmtrace.errors import LimitError
from llmtrace.metrics import MetricLike
from llmtrace.models import TraceModel, final_residual, provenance
from llmtrace.progress import track
from llmtrace.prompts import PromptSet, metric_of


@torch.no_grad()
def exact_edges(
    model: TraceModel,
    prompts: PromptSet,
    *,
    metric: MetricLike | None = None,
    ablation: Ablation = "resample",
    max_edges: int = 5000,
) -> EdgeScores:
    """Effect of removing each edge alone, per prompt. Raises LimitError over `max_edges` edges."""
    graph = Graph.of(model)
    if graph.n_edges > max_edges:
        raise LimitError(
            f"Expected at most {max_edges:,} edges for the exact method (one run each), got {graph.n_edges:,}; "
            "use method='eap' or raise max_edges."
        )
    metric = metric_of(model, prompts, metric)
    writes = ablated_writes(model, prompts, ablation)

    def value(final: torch.Tensor) -> torch.Tensor:
        return metric.of_residual(model, metric.here(final))

    before = value(final_residual(model, prompts.clean))
    scores = before.new_zeros(len(prompts), *graph.real.shape)
    for row, column in track(graph.real.nonzero().tolist(), "patching edges"):
        mask = graph.real.clone()
        mask[row, column] = False
        scores[:, row, column] = value(circuit_residual(model, graph, mask, prompts.clean, writes)) - before
    return EdgeScores(
        graph=graph, per_prompt=scores, method="exact", metric=metric.name, provenance=provenance(model).as_dict(),
        passes=f"{graph.n_edges + 2} forward", options={"ablation": ablation, "seed": prompts.seed},
    )  # fmt: skip
