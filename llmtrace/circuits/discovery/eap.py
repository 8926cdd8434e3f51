"""Edge attribution patching: the first-order effect of every edge, from two forward passes and one backward pass.

    score(u -> v) = < a_u(corrupted) - a_u(clean), d metric / d x_v at clean >

x_v is what port v reads before its norm. q, k, v and MLP pre-activations each feed one family of ports, so one backward
pass gives all gradients; each goes back to residual space through its weights and the norm, and one matrix product
per layer makes the scores. Nothing is split inside TransformerLens, key-value heads are those that exist.

Source: Syed, Rager & Conmy 2023; Nanda 2023. Memory: nodes x batch x pos x d_model, and one layer's ports of it.
Sign: negative = patching the edge lowers the metric. Laws: clean = corrupted gives 0 (35); the edges out of a node
sum to its attribution patching score (29); edges into logits are exact without a final norm (31).
Known failure: where the clean run sits on a plateau (an OR gate's dead ReLU, a saturated softmax) every score is 0.
And a circuit of its best edges can miss the one that matters: look at faithfulness over several sizes and prompt sets.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from einops import einsum, rearrange
from jaxtyping import Float
from torch import Tensor

from llmtrace.circuits.graph import Graph
from llmtrace.circuits.scores import EdgeScores
from llmtrace.errors import InputError, UnsupportedError
from llmtrace.metrics import Metric, MetricLike
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
    provenance,
)
from llmtrace.progress import track
from llmtrace.prompts import PromptSet, metric_of
from llmtrace.signals import node_writes
from llmtrace.signals.sites import site_name
from llmtrace.signals.writes import Recorder

# Slopes below this are rounding: the metric's gradient at the answer position times the residual stream's length.
FLAT = {torch.float64: 1e-9, torch.float32: 1e-3, torch.bfloat16: 1e-2, torch.float16: 1e-2}


def eap(
    model: TraceModel, prompts: PromptSet, *, metric: MetricLike | None = None, batch_size: int | None = None
) -> EdgeScores:
    """Scores of every edge, per prompt. Cost: 2 forward passes and 1 backward pass, `batch_size` prompts at a time
    (default: all); the scores do not depend on it.

    Raises InputError for a metric whose gradient vanishes at the clean run (KL to the clean run), UnsupportedError on
    post-norm models.
    """
    graph = Graph.of(model)
    metric = metric_of(model, prompts, metric)
    prompts.require_corruption("EAP")
    batches = track(prompts.batches(batch_size), "scoring edges")
    scores = [_scores(model, graph, prompts[rows], metric[rows]) for rows in batches]
    return EdgeScores(
        graph=graph, per_prompt=torch.cat(scores), method="eap", metric=metric.name,
        provenance=provenance(model).as_dict(), passes="2 forward, 1 backward", options={"seed": prompts.seed},
    )  # fmt: skip


def _scores(model: TraceModel, graph: Graph, prompts: PromptSet, metric: Metric) -> Float[Tensor, "batch node port"]:
    clean = Recorder(model)
    gradients = reader_gradients(model, prompts, metric, also=clean.hooks)
    change = node_writes(model, prompts.corrupted).values.sub_(clean.values)
    difference = rearrange(change, "node batch pos d_model -> batch node (pos d_model)")
    scores = difference.new_zeros(len(prompts), len(graph.nodes), len(graph.ports))

    def fill(columns: slice, sources: int, gradient: Float[Tensor, "port batch pos d_model"]) -> None:
        along = rearrange(gradient, "port batch pos d_model -> batch (pos d_model) port")
        scores[:, :sources, columns] = difference[:, :sources] @ along

    arch = describe(model)
    for layer in range(arch.n_layers):
        norm = attention_weights(model, layer).norm
        stream = gradients[site_name("resid_pre", layer)]
        for slot, reader in head_readers(model, layer).items():
            fill(graph.head_columns(layer, slot), graph.before(layer), _to_residual(gradients, [reader], norm, stream))
        if not arch.attn_only:
            column = graph.mlp_column(layer)
            stream = stream if arch.parallel else gradients[site_name("resid_mid", layer)]
            back = _to_residual(gradients, mlp_readers(model, layer), mlp_norm(model, layer), stream)
            fill(slice(column, column + 1), graph.mlp_sources(layer), back)
    last = len(graph.ports) - 1
    fill(slice(last, last + 1), len(graph.nodes), gradients["final"][None])
    return scores


def reader_gradients(
    model: TraceModel, prompts: PromptSet, metric: Metric, *, also: Sequence[Hook] = ()
) -> dict[str, Tensor]:
    """d metric / d activation for every reader's hook and the final residual (`"final"`), on the clean prompts.

    Also holds, without gradient, the residual stream that each family of ports reads (resid_pre, resid_mid), because
    pulling back through a norm needs it. The one leaf is the input of layer 0; no gradient of parameters is asked for.
    `also`: hooks that ride on the same pass.
    """
    arch = describe(model)
    reading: dict[str, Tensor] = {}
    streams: dict[str, Tensor] = {}

    def leaf(value: Tensor) -> Tensor:
        streams[site_name("resid_pre", 0)] = value.detach()
        return value.detach().requires_grad_(True)

    def keep(name: str, into: dict[str, Tensor]) -> Hook:
        def hook(value: Tensor) -> Tensor:
            into[name] = value if into is reading else value.detach()
            return value  # a bridge stays on the autograd path only when the hook returns its tensor

        return name, hook

    hooks: list[Hook] = [(site_name("resid_pre", 0), leaf)]
    for layer in range(arch.n_layers):
        hooks += [keep(reader.hook, reading) for reader in head_readers(model, layer).values()]
        hooks += [] if layer == 0 else [keep(site_name("resid_pre", layer), streams)]
        if not arch.attn_only:
            hooks += [keep(reader.hook, reading) for reader in mlp_readers(model, layer)]
            hooks += [] if arch.parallel else [keep(site_name("resid_mid", layer), streams)]
    with torch.enable_grad():
        final = final_residual(model, prompts.clean, [*hooks, *also])
        total = metric.of_residual(model, metric.here(final)).sum()
        if not total.requires_grad:
            raise InputError(
                f"Expected a metric with a gradient, got {metric.name}, which has none (a count or an argmax?); "
                "use 'logit_diff' or 'probability'."
            )
        tensors = [*reading.values(), final]
        found = torch.autograd.grad(total, tensors, allow_unused=True)
    gradients = dict(zip([*reading, "final"], found, strict=True))
    if off := [name for name, gradient in gradients.items() if gradient is None]:
        raise UnsupportedError(
            f"No gradient reaches {off[0]}, so its edges would be scored 0; use method='exact', or a HookedTransformer."
        )
    _require_slope(metric, gradients["final"], final)
    return {**streams, **{name: gradient.detach() for name, gradient in gradients.items()}}


def _require_slope(metric: Metric, gradient: Tensor, final: Tensor) -> None:
    """KL to the clean run has its minimum at the clean run: every score would be 0 (law 34)."""
    slope = (metric.here(gradient).norm(dim=-1) * metric.here(final).norm(dim=-1)).max()
    if slope < FLAT[gradient.dtype]:
        raise InputError(
            f"Expected a task metric for EAP: the gradient of {metric.name} is zero at the clean run, as that of KL to "
            "the clean run always is, so every score would be 0 (law 34); use 'logit_diff' or 'probability'."
        )


def _to_residual(
    gradients: dict[str, Tensor], readers: list[Reader] | tuple[Reader, ...], norm: Norm, stream: Tensor
) -> Float[Tensor, "port batch pos d_model"]:
    """From the readers' activations back through their weights and the norm; an MLP's two readers add up."""
    after_norm = sum(
        einsum(
            _per_port(gradients[r.hook]), r.weight, "batch pos port d_out, port d_model d_out -> port batch pos d_model"
        )
        for r in readers
    )
    assert isinstance(after_norm, Tensor)
    return norm.pull_back(stream, after_norm)


def _per_port(gradient: Tensor) -> Float[Tensor, "batch pos port d_out"]:
    return gradient if gradient.ndim == 4 else gradient[:, :, None]
