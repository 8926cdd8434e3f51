"""Running only circuits: every edge outside them carries the ablated value, exactly.

A circuit costs what it is made of: the whole graph one forward pass, half of its edges also one product
[ports x writers] with the writes per layer; a hundred edges a part of a pass (`circuit_pass.py`). Several circuits run
as one batch where that pays. Memory: pos x d_model for each circuit and each writer that some later ports read and
others do not, and twice the writes of all nodes for the background.

    >>> circuit = lt.circuits.discover(model, prompts, n_edges=150)
    >>> round(lt.circuits.run_circuit(model, prompts, circuit).mean().item(), 2)
    8.39
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from llmtrace.circuits.circuit import Circuit
from llmtrace.circuits.graph import Graph
from llmtrace.circuits.running.background import Ablation, Background
from llmtrace.circuits.running.circuit_pass import Masks, circuit_residuals
from llmtrace.circuits.running.empty_circuit import background
from llmtrace.circuits.running.needed_memory import bytes_to_run, run_at_once
from llmtrace.errors import InputError
from llmtrace.interventions import Memory, budget
from llmtrace.metrics import Metric, MetricLike
from llmtrace.models import TraceModel, embedding
from llmtrace.progress import track
from llmtrace.prompts import PromptSet, metric_of


def run_circuit(
    model: TraceModel,
    prompts: PromptSet,
    circuit: Circuit,
    *,
    ablation: Ablation | Background = "resample",
    metric: MetricLike | None = None,
) -> Float[Tensor, " batch"]:
    """The metric, per prompt, when only the circuit's edges carry the clean prompts.

    ablation   what the others carry; a `background(...)` of these prompts serves many calls

    Raises MismatchError for a circuit of another model.
    """
    return run_circuits(model, prompts, [circuit], ablation=ablation, metric=metric)[0]


@torch.no_grad()
def run_circuits(
    model: TraceModel,
    prompts: PromptSet,
    circuits: Sequence[Circuit],
    *,
    ablation: Ablation | Background = "resample",
    metric: MetricLike | None = None,
    memory: Memory = "auto",
) -> Float[Tensor, "circuit batch"]:
    """Several circuits on the same prompts. `memory` bounds how many of both run at once; the numbers do not depend on
    it. Mean ablation holds the writes of the whole set."""
    if not circuits:
        raise InputError("Expected at least one circuit, got none; give [circuit].")
    for circuit in {circuit.graph: circuit for circuit in circuits}.values():
        circuit.require_model(model)
    graph, metric = circuits[0].graph, metric_of(model, prompts, metric)
    masks = torch.stack([circuit.mask for circuit in circuits])
    return run_masks(model, graph, masks, prompts, metric, ablation, memory=memory)


def run_masks(
    model: TraceModel,
    graph: Graph,
    masks: Masks,
    prompts: PromptSet,
    metric: Metric,
    ablation: Ablation | Background,
    *,
    memory: Memory = "auto",
) -> Float[Tensor, "circuit batch"]:
    """`run_circuits` for masks. Circuits of like size are neighbours in a batch, so that small ones stay cheap."""

    def made(some: PromptSet) -> Background:
        assert not isinstance(ablation, Background)
        return background(model, some, ablation, graph=graph)

    whole, buffers, held = None, 1 if ablation == "resample" else 2, 0
    if isinstance(ablation, Background):
        whole, buffers = ablation, 0
        whole.require_fits(graph, prompts)
    elif ablation not in ("resample", "zero"):
        held, buffers = len(prompts) * bytes_to_run(model, graph, prompts, buffers=2)[0], 0
    n_prompts, n_circuits = run_at_once(model, graph, prompts, memory, buffers=buffers, held=held)
    whole = made(prompts) if held else whole
    order = masks.flatten(1).sum(1).argsort()
    found = torch.empty(len(masks), len(prompts), dtype=model.W_E.dtype, device=model.W_E.device)

    def run(rows: slice) -> None:
        """A function of its own, so that what it holds is gone before the next batch is made."""
        some, read = prompts[rows], metric[rows]
        ground = made(some) if whole is None else whole.rows(rows, some.clean.shape[1])
        inputs = embedding(model, some.clean, split=graph.split_embed)
        for chosen in order.split(n_circuits):
            final = circuit_residuals(model, masks[chosen], inputs, ground)
            found[chosen, rows] = read.of_residual(model, read.here(final)).to(found)

    for rows in track(prompts.batches(n_prompts), "running circuits"):
        run(rows)
    return found


def background_if_it_fits(
    model: TraceModel, graph: Graph, prompts: PromptSet, ablation: Ablation | Background, memory: Memory = "auto"
) -> tuple[Ablation | Background, Memory]:
    """For many calls on the same prompts: what removed edges carry, once, where all prompts fit in memory together;
    and the memory that is left for the calls."""
    if isinstance(ablation, Background):
        return ablation, memory
    ground, each = bytes_to_run(model, graph, prompts, buffers=1 if ablation == "resample" else 2)
    left = budget(memory, model.W_E.device) - len(prompts) * ground
    if left < each:
        return ablation, memory
    return background(model, prompts, ablation, graph=graph), "auto" if memory == "auto" else left
