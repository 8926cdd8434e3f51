"""Running only a circuit: every edge outside it carries the ablated value, exactly.

Before layer l, each port reads   x = resid + M (ablated - live)[:before l],   M the 0/1 row of its *removed* edges,
through the norm and its own weights; q, k, v and the MLP's pre-activations are overwritten with the result. Nothing
is split inside TransformerLens. The live residual stream is that of the run itself, so biases stay.

    resample   the writes of the corrupted run         zero   0         mean   group means over the corrupted prompts

Cost: one forward pass and, per layer, one product [ports x writers] with the writes; one more pass for the ablated
writes, which serve every circuit. Memory: nodes x batch x pos x d_model, twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from einops import einsum
from jaxtyping import Bool, Float
from torch import Tensor

from llmtrace.circuits.circuit import Circuit
from llmtrace.circuits.graph import Graph
from llmtrace.errors import InputError, MismatchError
from llmtrace.interventions import group_means
from llmtrace.metrics import MetricLike
from llmtrace.models import (
    Hook,
    Norm,
    Reader,
    TraceModel,
    attention_weights,
    describe,
    final_residual,
    head_readers,
    mlp_norm,
    mlp_readers,
)
from llmtrace.progress import track
from llmtrace.prompts import PromptSet, metric_of
from llmtrace.signals import node_writes
from llmtrace.signals.sites import site_name

Ablation = Literal["resample", "zero", "mean"]
Buffer = Float[Tensor, "node batch pos d_model"]


def ablated_writes(model: TraceModel, prompts: PromptSet, ablation: Ablation = "resample") -> Buffer:
    """What removed edges carry. One pass; reuse it for every circuit on the same prompts."""
    if ablation not in ("resample", "zero", "mean"):
        raise InputError(f"Expected ablation 'resample', 'zero' or 'mean', got {ablation!r}; choose one.")
    if ablation != "zero":
        prompts.require_corruption(f"{ablation.capitalize()} ablation of edges")
    values = node_writes(model, prompts.corrupted).values
    if ablation == "zero":
        return torch.zeros_like(values)
    return values if ablation == "resample" else torch.stack([group_means(write, prompts) for write in values])


@torch.no_grad()
def run_circuit(
    model: TraceModel,
    circuit: Circuit,
    prompts: PromptSet,
    *,
    ablation: Ablation = "resample",
    metric: MetricLike | None = None,
    removed_writes: Buffer | None = None,
) -> Float[Tensor, " batch"]:
    """The metric, per prompt, when only the circuit's edges carry the clean prompts.

    `removed_writes`: what removed edges carry, from `ablated_writes` on these prompts; `ablation` is then not used.

    Raises MismatchError for a circuit of another model, UnsupportedError for post-norm models.
    """
    circuit.require_model(model)
    metric = metric_of(model, prompts, metric)
    writes = ablated_writes(model, prompts, ablation) if removed_writes is None else removed_writes
    if writes.shape[:3] != (expected := (len(circuit.graph.nodes), *prompts.clean.shape)):
        raise MismatchError(
            f"Expected removed writes of shape {[*expected, model.cfg.d_model]}, got {list(writes.shape)}; "
            "make them with ablated_writes(model, prompts) on these prompts."
        )
    final = circuit_residual(model, circuit.graph, circuit.mask, prompts.clean, writes)
    return metric.of_residual(model, metric.here(final))


def run_circuits(
    model: TraceModel,
    circuits: Sequence[Circuit],
    prompts: PromptSet,
    *,
    ablation: Ablation = "resample",
    metric: MetricLike | None = None,
    batch_size: int | None = None,
) -> Float[Tensor, "circuit batch"]:
    """Several circuits on the same prompts: the ablated writes are computed once. `batch_size` prompts at a time
    (default: all) bounds the memory, except that mean ablation needs the writes of the whole set."""
    metric = metric_of(model, prompts, metric)
    means = ablated_writes(model, prompts, ablation) if ablation == "mean" else None
    parts = []
    for rows in prompts.batches(batch_size):
        some, read = prompts[rows], metric[rows]
        writes = ablated_writes(model, some, ablation) if means is None else means[:, rows, : some.clean.shape[1]]
        runs = [
            run_circuit(model, circuit, some, ablation=ablation, metric=read, removed_writes=writes)
            for circuit in track(circuits, "running circuits")
        ]
        parts.append(torch.stack(runs))
    return torch.cat(parts, dim=1)


def circuit_residual(
    model: TraceModel, graph: Graph, mask: Bool[Tensor, "node port"], tokens: Tensor, ablated: Buffer
) -> Float[Tensor, "batch pos d_model"]:
    """The final residual stream that the logits read when only the edges of `mask` are live."""
    arch = describe(model)
    removed = (graph.real & ~mask).to(ablated)
    difference = torch.empty_like(ablated)  # ablated - live, filled as the pass goes on
    live: dict[str, Tensor] = {}

    def read(stream: Tensor, columns: slice, sources: int) -> Float[Tensor, "port batch pos d_model"]:
        """What each port of `columns` reads: the live stream with its removed edges exchanged."""
        swap = einsum(
            removed[:sources, columns],
            difference[:sources],
            "node port, node batch pos d_model -> port batch pos d_model",
        )
        return stream + swap

    def project(x: Tensor, norm: Norm, reader: Reader) -> Float[Tensor, "batch pos port d_out"]:
        bias = reader.bias[None, None]
        return (
            einsum(norm(x), reader.weight, "port batch pos d_model, port d_model d_out -> batch pos port d_out") + bias
        )

    def hooks_of_layer(layer: int) -> list[Hook]:
        w, first, sources = attention_weights(model, layer), graph.before(layer), graph.before(layer)
        readers = head_readers(model, layer)

        def enter(stream: Tensor) -> None:
            if layer == 0:
                difference[0] = ablated[0] - stream
            live["pre"] = stream

        def overwrite(slot: str) -> Hook:
            columns = graph.head_columns(layer, slot)
            reader = readers[slot]
            return reader.hook, lambda _: project(read(live["pre"], columns, sources), w.norm, reader)

        def heads_wrote(z: Tensor) -> None:
            written = einsum(z, w.W_O, "batch pos head d_head, head d_head d_model -> head batch pos d_model")
            rows = slice(first, first + arch.n_heads)
            difference[rows] = ablated[rows] - written

        return [
            (site_name("resid_pre", layer), enter),
            *(overwrite(slot) for slot in ("q", "k", "v")),
            (site_name("z", layer), heads_wrote),
            *(() if arch.attn_only else mlp_hooks(layer)),
        ]

    def mlp_hooks(layer: int) -> list[Hook]:
        column, row = graph.mlp_column(layer), graph.before(layer) + arch.n_heads
        norm = mlp_norm(model, layer)

        def overwrite(reader: Reader) -> Hook:
            def value(_: Tensor) -> Tensor:
                stream = live["pre"] if arch.parallel else live["mid"]
                x = read(stream, slice(column, column + 1), graph.mlp_sources(layer))
                return project(x, norm, reader).squeeze(2)

            return reader.hook, value

        def wrote(write: Tensor) -> None:
            difference[row] = ablated[row] - write

        mid = [] if arch.parallel else [(site_name("resid_mid", layer), lambda stream: live.__setitem__("mid", stream))]
        return [*mid, *map(overwrite, mlp_readers(model, layer)), (site_name("mlp_out", layer), wrote)]

    hooks: Sequence[Hook] = [hook for layer in range(arch.n_layers) for hook in hooks_of_layer(layer)]
    final = final_residual(model, tokens, hooks)
    return read(final, slice(len(graph.ports) - 1, len(graph.ports)), len(graph.nodes))[0]
