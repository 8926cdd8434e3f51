"""Running only circuits: every edge outside them carries the ablated value, exactly.

A circuit costs what it is made of: the whole graph about one forward pass and, per layer, one product [ports x writers]
with the writes; a hundred edges a small part of that (`live.py`). Several circuits run as one batch where that pays.
Memory: nodes x batch x pos x d_model for each circuit that runs at once, and twice that for the background.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from llmtrace.circuits.background import background
from llmtrace.circuits.circuit import Circuit
from llmtrace.circuits.graph import Graph
from llmtrace.circuits.ground import Ablation, Background
from llmtrace.circuits.live import Masks, circuit_residuals
from llmtrace.errors import InputError
from llmtrace.interventions import Memory, budget
from llmtrace.metrics import Metric, MetricLike
from llmtrace.models import TraceModel, embedding
from llmtrace.progress import track
from llmtrace.prompts import PromptSet, metric_of

BUFFERS = 3  # of all nodes' writes: what a method holds at its peak, beside the points of its path
TOKENS_AT_ONCE = 256  # more rows in one batch are not faster on a CPU


def run_circuit(
    model: TraceModel,
    circuit: Circuit,
    prompts: PromptSet,
    *,
    ablation: Ablation | Background = "resample",
    metric: MetricLike | None = None,
) -> Float[Tensor, " batch"]:
    """The metric, per prompt, when only the circuit's edges carry the clean prompts.

    ablation   what the others carry; a `background(...)` of these prompts serves many calls

    Raises MismatchError for a circuit of another model.
    """
    return run_circuits(model, [circuit], prompts, ablation=ablation, metric=metric)[0]


@torch.no_grad()
def run_circuits(
    model: TraceModel,
    circuits: Sequence[Circuit],
    prompts: PromptSet,
    *,
    ablation: Ablation | Background = "resample",
    metric: MetricLike | None = None,
    batch_size: int | None = None,
    memory: Memory = "auto",
) -> Float[Tensor, "circuit batch"]:
    """Several circuits on the same prompts. `memory` bounds how many prompts, or `batch_size` says it; the numbers do
    not depend on it. Mean ablation holds the writes of the whole set."""
    if not circuits:
        raise InputError("Expected at least one circuit, got none; give [circuit].")
    for circuit in {circuit.graph: circuit for circuit in circuits}.values():
        circuit.require_model(model)
    graph, metric = circuits[0].graph, metric_of(model, prompts, metric)
    masks = torch.stack([circuit.mask for circuit in circuits])
    return run_masks(model, graph, masks, prompts, metric, ablation, batch_size=batch_size, memory=memory)


def run_masks(
    model: TraceModel,
    graph: Graph,
    masks: Masks,
    prompts: PromptSet,
    metric: Metric,
    ablation: Ablation | Background,
    *,
    batch_size: int | None = None,
    memory: Memory = "auto",
) -> Float[Tensor, "circuit batch"]:
    """`run_circuits` for masks. Circuits of like size are neighbours in a batch, so that small ones stay cheap."""

    def made(some: PromptSet) -> Background:
        assert not isinstance(ablation, Background)
        return background(model, some, ablation, graph=graph)

    whole = ablation if isinstance(ablation, Background) else None
    if whole is not None:
        whole.require_fits(graph, prompts)
    elif ablation not in ("resample", "zero"):
        whole = made(prompts)
    order = masks.flatten(1).sum(1).argsort()
    found = torch.empty(len(masks), len(prompts), dtype=model.W_E.dtype, device=model.W_E.device)
    rows_at_once = prompts_at_once(model, graph, prompts, memory) if batch_size is None else batch_size
    for rows in track(prompts.batches(rows_at_once), "running circuits"):
        some, read = prompts[rows], metric[rows]
        n, width = some.clean.shape
        ground = made(some) if whole is None else whole.rows(rows, width)
        inputs = embedding(model, some.clean, split=graph.split_embed)
        for chosen in order.split(max(1, TOKENS_AT_ONCE // (n * width))):
            final = circuit_residuals(model, masks[chosen], inputs, ground)
            found[chosen, rows] = read.of_residual(model, read.here(final)).to(found)
    return found


def background_if_it_fits(
    model: TraceModel, graph: Graph, prompts: PromptSet, ablation: Ablation | Background, memory: Memory = "auto"
) -> Ablation | Background:
    """For many calls on the same prompts: what removed edges carry, once, where all prompts fit in memory together."""
    if isinstance(ablation, Background) or prompts_at_once(model, graph, prompts, memory) < len(prompts):
        return ablation
    return background(model, prompts, ablation, graph=graph)


def prompts_at_once(
    model: TraceModel, graph: Graph, prompts: PromptSet, memory: Memory, *, buffers: int = BUFFERS
) -> int:
    """How many prompts' writes fit, `buffers` times over."""
    each = bytes_of_writes(model, graph, prompts, buffers)
    return max(1, min(len(prompts), budget(memory, model.W_E.device) // each))


def bytes_of_writes(model: TraceModel, graph: Graph, prompts: PromptSet, buffers: int) -> int:
    """One prompt's, `buffers` times over."""
    return buffers * len(graph.nodes) * prompts.clean.shape[1] * model.cfg.d_model * model.W_E.element_size()
