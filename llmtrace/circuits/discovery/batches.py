"""What gradient methods share: prompts go through in batches that fit the memory, scores come out per prompt."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from time import perf_counter
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from llmtrace.circuits.graph import Graph
from llmtrace.circuits.running import BUFFERS, prompts_at_once
from llmtrace.circuits.scores import EdgeScores
from llmtrace.interventions import Memory
from llmtrace.metrics import Metric, MetricLike
from llmtrace.models import TraceModel, provenance
from llmtrace.progress import track
from llmtrace.prompts import PromptSet, metric_of
from llmtrace.signals import node_writes
from llmtrace.signals.writes import Recorder

OfBatch = Callable[[Graph, PromptSet, Metric], Float[Tensor, "batch node port"]]


def scored(
    method: str,
    of_batch: OfBatch,
    model: TraceModel,
    prompts: PromptSet,
    metric: MetricLike | None,
    graph: Graph | None,
    *,
    batch_size: int | None,
    memory: Memory,
    passes: str,
    options: Mapping[str, Any],
    points: int = 1,
    contrast: bool = True,
) -> EdgeScores:
    """`of_batch` over the prompts.

    points     how many runs of a prompt ride in one batch
    contrast   the method runs the corrupted prompts, so they must differ from the clean ones
    """
    graph, bound = Graph.of(model) if graph is None else graph, metric_of(model, prompts, metric)
    if contrast:
        prompts.require_corruption(method.upper())
    if batch_size is None:
        batch_size = prompts_at_once(model, graph, prompts, memory, buffers=BUFFERS + points)
    started = perf_counter()
    parts = [
        of_batch(graph, prompts[rows], bound[rows]) for rows in track(prompts.batches(batch_size), "scoring edges")
    ]
    return EdgeScores(
        graph=graph, per_prompt=torch.cat(parts), method=method, metric=bound.name,
        provenance=provenance(model).as_dict(), passes=passes, options={"seed": prompts.seed, **options},
        seconds=perf_counter() - started, fingerprints=prompts.fingerprints,
    )  # fmt: skip


def change_of_writes(model: TraceModel, graph: Graph, prompts: PromptSet) -> Float[Tensor, "node batch pos d_model"]:
    """a_u(corrupted) - a_u(clean). Two forward passes."""
    clean, corrupted = (writes_of(model, graph, prompts.side(side)) for side in ("clean", "corrupted"))
    return corrupted.sub_(clean)


def recorder_of(model: TraceModel, graph: Graph) -> Recorder:
    """Hooks that keep what the nodes of this graph write, on a pass that is made anyway."""
    return Recorder(model, split_embed=graph.split_embed, neurons=graph.neurons)


def writes_of(
    model: TraceModel, graph: Graph, tokens: Int[Tensor, "batch pos"]
) -> Float[Tensor, "node batch pos d_model"]:
    """What the nodes of this graph write on `tokens`. One forward pass."""
    return node_writes(model, tokens, split_embed=graph.split_embed, received=True, neurons=graph.neurons).values
