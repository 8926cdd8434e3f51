"""What gradient methods share: prompts go through in batches that fit the memory, scores come out per prompt."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from time import perf_counter
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from llmtrace.circuits.edge_scores import EdgeScores
from llmtrace.circuits.graph import Graph
from llmtrace.circuits.running.needed_memory import scored_at_once
from llmtrace.interventions import Memory
from llmtrace.metrics import Metric, MetricLike
from llmtrace.models import TraceModel, final_residual, provenance
from llmtrace.progress import track
from llmtrace.prompts import PromptSet, metric_of
from llmtrace.signals import node_writes
from llmtrace.signals.node_writes import Recorder

OfBatch = Callable[[Graph, PromptSet, Metric], Float[Tensor, "batch node port"]]


def scored(
    method: str,
    of_batch: OfBatch,
    model: TraceModel,
    prompts: PromptSet,
    metric: MetricLike | None,
    graph: Graph | None,
    *,
    memory: Memory,
    passes: str,
    options: Mapping[str, Any],
    points: int = 1,
    buffers: int = 1,
    held: int = 0,
    contrast: bool = True,
) -> EdgeScores:
    """`of_batch` over the prompts.

    points     how many runs of a prompt ride in one batch, down and back
    buffers    how many of all nodes' writes there are at the peak
    held       bytes that the method keeps beside them
    contrast   the method runs the corrupted prompts, so they must differ from the clean ones
    """
    graph, bound = Graph.of(model) if graph is None else graph, metric_of(model, prompts, metric)
    if contrast:
        prompts.require_corruption(method.upper())
    at_once = scored_at_once(model, graph, prompts, memory, buffers=buffers, points=points, held=held)
    started = perf_counter()
    found = model.W_E.new_empty(len(prompts), len(graph.nodes), len(graph.ports))
    for rows in track(prompts.batches(at_once), "scoring edges"):
        found[rows] = of_batch(graph, prompts[rows], bound[rows])
    return EdgeScores(
        graph=graph, per_prompt=found, method=method, metric=bound.name,
        higher_is_better=bound.higher_is_better, provenance=provenance(model).as_dict(), passes=passes,
        options={"seed": prompts.seed, **options}, seconds=perf_counter() - started, fingerprints=prompts.fingerprints,
    )  # fmt: skip


def change_of_writes(
    model: TraceModel, graph: Graph, prompts: PromptSet, removed: Float[Tensor, "node batch pos d_model"] | None = None
) -> Float[Tensor, "node batch pos d_model"]:
    """a_u(removed) - a_u(clean), where what is removed carries the corrupted run unless it is given.

    Two forward passes, or one; `removed` is turned into the differences."""
    removed = writes_of(model, graph, prompts.corrupted) if removed is None else removed
    record = recorder_of(model, graph, taken_from=removed)
    with torch.no_grad():
        final_residual(model, prompts.clean, record.hooks)
    return record.values


def recorder_of(
    model: TraceModel, graph: Graph, *, taken_from: Float[Tensor, "node batch pos d_model"] | None = None
) -> Recorder:
    """Hooks that keep what the nodes of this graph write, on a pass that is made anyway; or turn the writes of another
    pass into the differences, which need no second buffer."""
    return Recorder(model, split_embed=graph.split_embed, neurons=graph.neurons, taken_from=taken_from)


def writes_of(
    model: TraceModel, graph: Graph, tokens: Int[Tensor, "batch pos"]
) -> Float[Tensor, "node batch pos d_model"]:
    """What the nodes of this graph write on `tokens`. One forward pass."""
    return node_writes(model, tokens, split_embed=graph.split_embed, received=True, neurons=graph.neurons).values
