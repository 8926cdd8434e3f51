"""Ablation: what the metric is without a node, everything downstream free to react.

    zero       its output becomes 0
    mean       its output becomes the mean over a reference set, per position and per template group (Wang et al. 2022)
    resample   its output becomes what it is on the corrupted prompt

Cost, for every node of a model in turn: one pass for the cache, then each node restarts at its own layer from the
cached residual stream, several nodes to a batch - about nodes / 2 passes. Sign: negative change = the node supports
the metric. Known failure: later heads may make up for what is missing (self-repair), and zero is far from anything
the model has seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from llmtrace.errors import InputError
from llmtrace.interventions.effects import Effects
from llmtrace.interventions.hooks import hooks_of
from llmtrace.interventions.values import Replace
from llmtrace.metrics import MetricLike
from llmtrace.models import Hook, TraceModel, describe, final_residual, is_bridge, provenance, resume
from llmtrace.nodes import Head, Mlp
from llmtrace.progress import track
from llmtrace.prompts import PromptSet, metric_of
from llmtrace.signals.sites import site_name

MODES = ("zero", "mean", "resample")
Target = Head | Mlp


@torch.no_grad()
def ablate(
    model: TraceModel,
    prompts: PromptSet,
    nodes: Sequence[Target] | None = None,
    *,
    mode: Literal["zero", "mean", "resample"] = "mean",
    together: bool = False,
    reference: str = "corrupted",
    metric: MetricLike | None = None,
    batch_size: int = 256,
) -> Effects:
    """Ablate each node in turn (default: all heads and MLPs), or all of `nodes` together.

    mode         "zero", "mean" or "resample"
    reference    the side whose mean is taken: "corrupted" or "clean" (mean only)
    batch_size   prompts in one forward pass, counted over the nodes that are stacked (one node's prompts run together
                 whatever it says)

    Raises InputError for an unknown mode, a node the model does not have, no node at all, or prompts without the
    corruption that the mode reads.
    """
    arch = describe(model)
    if mode not in MODES:
        raise InputError(f"Expected mode to be one of {', '.join(MODES)}, got {mode!r}; choose one.")
    targets: tuple[Target, ...] = (
        (*arch.heads, *arch.mlps) if nodes is None else arch.require_all(nodes, (Head, Mlp), "to ablate")
    )
    metric = metric_of(model, prompts, metric)
    prompts.side(reference)
    prompts.batches(batch_size)  # refuses a size that means nothing
    if mode == "resample" or (mode == "mean" and reference == "corrupted"):
        prompts.require_corruption(f"{mode.capitalize()} ablation")
    resid, clean_final = _cached_residuals(model, prompts.clean)
    replacements = _replacements(model, prompts, targets, mode, reference)
    variants = [targets] if together else [(node,) for node in targets]
    stack = max(1, batch_size // len(prompts))
    before = metric.of_residual(model, metric.here(clean_final)).cpu()
    after = before.new_empty(len(variants), len(prompts))
    layer_passes = 0
    for chunk in track(_chunks(variants, stack), "ablating"):
        first = min(node.layer for i in chunk for node in variants[i])
        stacked = resid[first].repeat(len(chunk), 1, 1)
        hooks = hooks_of([[replacements[node] for node in variants[i]] for i in chunk], len(prompts))
        final = resume(model, stacked, first, hooks).unflatten(0, (len(chunk), len(prompts)))
        after[chunk] = metric.of_residual(model, metric.here(final)).cpu()
        layer_passes += len(chunk) * (arch.n_layers - (0 if is_bridge(model) else first))
    return Effects(
        nodes=tuple(variants),
        before=before,
        after=after,
        corrupted=metric.of_residual(model, metric.here(final_residual(model, prompts.corrupted))).cpu()
        if prompts.has_corruption
        else None,
        method=f"{mode} ablation",
        metric=metric.name,
        provenance=provenance(model).as_dict(),
        passes=1 + (mode != "zero") + prompts.has_corruption + layer_passes / arch.n_layers,
        options={"mode": mode, "together": together, "reference": reference, "seed": prompts.seed},
    )


def _cached_residuals(model: TraceModel, tokens: Tensor) -> tuple[dict[int, Tensor], Tensor]:
    """resid_pre of every layer, and the final residual."""
    kept: dict[int, Tensor] = {}

    def keep(layer: int) -> Hook:
        return site_name("resid_pre", layer), lambda value: kept.__setitem__(layer, value)

    final = final_residual(model, tokens, [keep(layer) for layer in range(describe(model).n_layers)])
    return kept, final


def _replacements(
    model: TraceModel, prompts: PromptSet, targets: Sequence[Target], mode: str, reference: str
) -> dict[Target, Replace]:
    """What each node's output becomes."""
    if mode == "zero":
        arch = describe(model)
        width = {Head: arch.d_head, Mlp: arch.d_model}
        return {node: Replace(node, torch.zeros(*prompts.clean.shape, width[type(node)])) for node in targets}
    outputs = _outputs(model, prompts.side(reference if mode == "mean" else "corrupted"), targets)
    if mode == "mean":
        outputs = {node: group_means(value, prompts) for node, value in outputs.items()}
    return {node: Replace(node, value) for node, value in outputs.items()}


def _outputs(model: TraceModel, tokens: Tensor, targets: Sequence[Target]) -> dict[Target, Tensor]:
    kept: dict[Target, Tensor] = {}

    def keep(node: Target) -> Hook:
        def keep_output(value: Tensor) -> None:
            kept[node] = value[:, :, node.head].clone() if isinstance(node, Head) else value

        return site_name("z" if isinstance(node, Head) else "mlp_out", node.layer), keep_output

    final_residual(model, tokens, [keep(node) for node in dict.fromkeys(targets)])
    return kept


def group_means(value: Float[Tensor, "batch pos d"], prompts: PromptSet) -> Float[Tensor, "batch pos d"]:
    """Each prompt's row becomes the mean over the prompts of its template group, per position, padding left out."""
    groups, real = prompts.groups.to(value.device), prompts.mask.to(value)
    same = (groups[:, None] == groups[None, :]).to(value)
    total = torch.einsum("ab,bp,bpd->apd", same, real, value)
    count = torch.einsum("ab,bp->ap", same, real).clamp(min=1)
    return total / count[..., None]


def _chunks(variants: Sequence[Sequence[Target]], stack: int) -> list[list[int]]:
    """Up to `stack` variants at a time, those of one first layer together so that each restarts as late as it may."""
    chunks: list[list[int]] = []
    by_layer: dict[int, list[int]] = {}
    for index, nodes in enumerate(variants):
        by_layer.setdefault(min(node.layer for node in nodes), []).append(index)
    for indices in by_layer.values():
        chunks += [indices[start : start + stack] for start in range(0, len(indices), stack)]
    return chunks
