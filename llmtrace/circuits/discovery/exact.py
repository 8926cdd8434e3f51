"""Exact edge effects: every edge patched in a run of its own. The oracle that other methods are measured against.

    score(u -> v) = m(all edges but u->v live) - m(clean)

Source: Wang et al. 2022; Conmy et al. 2023. Cost: one circuit run per edge - for small models only (limit `max_edges`).
Sign: negative = patching the edge lowers the metric.
Known failure: one edge at a time sees neither backup (OR) nor synergy beyond the first edge removed.

    >>> small = lt.load("induction")
    >>> lt.circuits.exact(small, lt.prompts.induction(small, n=2, length=5))
    EdgeScores(exact (resample) of logit_diff: 12 edges; input->a0.h0<v> -3, input->a1.h0<v> -3)
"""

from __future__ import annotations

from time import perf_counter

import torch

from llmtrace.circuits.edge_scores import EdgeScores
from llmtrace.circuits.graph import Graph
from llmtrace.circuits.running.background import Ablation, Background, ablation_name
from llmtrace.circuits.running.run_circuit import run_masks
from llmtrace.errors import LimitError
from llmtrace.interventions import Memory
from llmtrace.metrics import MetricLike
from llmtrace.models import TraceModel, provenance
from llmtrace.prompts import PromptSet, metric_of


@torch.no_grad()
def exact(
    model: TraceModel,
    prompts: PromptSet,
    *,
    metric: MetricLike | None = None,
    graph: Graph | None = None,
    ablation: Ablation | Background = "resample",
    max_edges: int = 5000,
    memory: Memory = "auto",
) -> EdgeScores:
    """Effect of removing each edge alone, per prompt. Raises LimitError over `max_edges` edges."""
    graph = Graph.of(model) if graph is None else graph
    if graph.n_edges > max_edges:
        raise LimitError(
            f"Expected at most {max_edges:,} edges for the exact method (one run each), got {graph.n_edges:,}; "
            "use method='eap' or raise max_edges."
        )
    metric, started = metric_of(model, prompts, metric), perf_counter()
    edges = graph.real.nonzero()
    removed = graph.real.expand(len(edges), -1, -1).clone()
    removed[torch.arange(len(edges)), edges[:, 0], edges[:, 1]] = False
    masks = torch.cat([graph.real[None], removed])
    values = run_masks(model, graph, masks, prompts, metric, ablation, memory=memory)
    scores = values.new_zeros(len(prompts), *graph.real.shape)
    scores[:, edges[:, 0], edges[:, 1]] = (values[1:] - values[0]).T
    return EdgeScores(
        graph=graph, per_prompt=scores, method="exact", metric=metric.name,
        higher_is_better=metric.higher_is_better, provenance=provenance(model).as_dict(),
        passes=f"{graph.n_edges + 2} forward", options={"ablation": ablation_name(ablation), "seed": prompts.seed},
        seconds=perf_counter() - started, fingerprints=prompts.fingerprints,
    )  # fmt: skip
