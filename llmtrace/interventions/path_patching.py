"""Path patching to the final logits, in closed form: what each sender tells the logits directly.

The sender's write is taken from the corrupted run; every head's attention output stays as in the clean run.

    mlps="frozen"       nothing between sender and final norm changes:  resid_final(clean) + d_h, all senders at once
    mlps="recomputed"   MLPs see the change (the definition of Wang et al. 2022). With attention frozen every position
                        is independent, so only the metric's position is carried up through the MLPs, for all senders at
                        once; senders of layer l join at layer l (after MLP l where attention and MLP are parallel).

with d_h = a_h(corrupted) - a_h(clean). Both equal one hooked forward pass per sender (the slow twin in the tests).
Source: Wang et al. 2022, section 3.1; Goldowsky-Dill et al. 2023. Cost: two forward passes without unembedding, and
for recomputed MLPs about senders / (2 pos) further passes' worth of MLPs. Sign: negative change = the sender carried
the metric.
Known failure: paths through other heads are not seen; ablation sees those.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Literal

import torch
from einops import einsum
from jaxtyping import Float
from torch import Tensor

from llmtrace.errors import InputError
from llmtrace.interventions.effects import Effects
from llmtrace.metrics import Metric, MetricLike
from llmtrace.models import (
    Architecture,
    Hook,
    TraceModel,
    attention_weights,
    describe,
    final_residual,
    provenance,
    require_additive,
    run_mlp,
)
from llmtrace.nodes import Embed, Head, Mlp, Node
from llmtrace.prompts import PromptSet, metric_of
from llmtrace.signals.sites import site_name


@torch.no_grad()
def path_patch(
    model: TraceModel,
    prompts: PromptSet,
    *,
    senders: Sequence[Head | Mlp | Embed] | None = None,
    mlps: Literal["recomputed", "frozen"] = "recomputed",
    metric: MetricLike | None = None,
) -> Effects:
    """The effect of each sender's direct path to the logits (default: all heads), per prompt.

    Raises InputError for a sender that cannot send or runs that do not differ, UnsupportedError on post-norm models.
    """
    if mlps not in ("recomputed", "frozen"):
        raise InputError(f"Expected mlps='recomputed' (Wang et al.) or 'frozen', got {mlps!r}; choose one.")
    arch = describe(model)
    require_additive(model, "Path patching in closed form")
    senders = arch.heads if senders is None else arch.require_all(senders, (Head, Mlp, Embed), "as senders")
    metric = metric_of(model, prompts, metric)
    prompts.require_corruption("Path patching")
    clean = _run_at(model, prompts.clean, metric)
    corrupted = _run_at(model, prompts.corrupted, metric)
    changes = _changes(model, arch, clean, corrupted)
    patched = _through_mlps if mlps == "recomputed" and not arch.attn_only else _straight
    by_node = patched(model, arch, clean, changes, set(senders))
    return Effects(
        nodes=tuple((sender,) for sender in senders),
        before=metric.of_residual(model, clean.final).cpu(),
        after=metric.of_residual(model, torch.stack([by_node[sender] for sender in senders])).cpu(),
        other=metric.of_residual(model, corrupted.final).cpu(),
        method="path_patch",
        metric=metric.name,
        provenance=provenance(model).as_dict(),
        passes=2.0,
        options={"receiver": "logits", "mlps": mlps, "seed": prompts.seed},
    )


@dataclass(frozen=True, eq=False)
class _Run:
    """One run at the metric's position."""

    start: Float[Tensor, "batch d_model"]
    z: Float[Tensor, "layer batch head d_head"]
    attn_out: Float[Tensor, "layer batch d_model"]
    mlp_out: Float[Tensor, "layer batch d_model"] | None
    final: Float[Tensor, "batch d_model"]


def _run_at(model: TraceModel, tokens: Tensor, metric: Metric) -> _Run:
    arch = describe(model)
    kept: dict[str, Tensor] = {}

    def keeper(name: str) -> Hook:
        def keep(value: Tensor) -> None:
            kept[name] = metric.here(value.flatten(2)).unflatten(-1, value.shape[2:])

        return name, keep

    kinds = ("z", "attn_out") if arch.attn_only else ("z", "attn_out", "mlp_out")
    names = {kind: [site_name(kind, layer) for layer in range(arch.n_layers)] for kind in kinds}
    start = site_name("resid_pre", 0)
    final = final_residual(model, tokens, [keeper(name) for name in (start, *chain(*names.values()))])
    stacked = {kind: torch.stack([kept[name] for name in found]) for kind, found in names.items()}
    return _Run(
        start=kept[start],
        z=stacked["z"],
        attn_out=stacked["attn_out"],
        mlp_out=stacked.get("mlp_out"),
        final=metric.here(final),
    )


def _changes(model: TraceModel, arch: Architecture, clean: _Run, corrupted: _Run) -> dict[Node, Tensor]:
    """d_u = a_u(corrupted) - a_u(clean) at the metric's position, for every node."""
    changes: dict[Node, Tensor] = {Embed(): corrupted.start - clean.start}
    for layer, difference in enumerate(corrupted.z - clean.z):
        W_O = attention_weights(model, layer).W_O
        written = einsum(difference, W_O, "batch head d_head, head d_head d_model -> head batch d_model")
        changes |= {Head(layer, head): write for head, write in enumerate(written)}
        if clean.mlp_out is not None and corrupted.mlp_out is not None:
            changes[Mlp(layer)] = corrupted.mlp_out[layer] - clean.mlp_out[layer]
    return changes


def _straight(
    model: TraceModel, arch: Architecture, clean: _Run, changes: dict[Node, Tensor], senders: set[Node]
) -> dict[Node, Tensor]:
    return {sender: clean.final + changes[sender] for sender in senders}


def _through_mlps(
    model: TraceModel, arch: Architecture, clean: _Run, changes: dict[Node, Tensor], senders: set[Node]
) -> dict[Node, Tensor]:
    """Carry the residual stream of the metric's position for all senders that have joined, block by block."""
    assert clean.mlp_out is not None
    joined: list[Node] = [Embed()] if Embed() in senders else []
    streams = [clean.start + changes[node] for node in joined]
    carried = torch.stack(streams) if streams else clean.start.new_empty(0, *clean.start.shape)
    resid = clean.start
    for layer in range(arch.n_layers):
        heads: list[Node] = [h for h in (Head(layer, i) for i in range(arch.n_heads)) if h in senders]
        after_attention = resid + clean.attn_out[layer]
        entering = _joining(after_attention, heads, changes)
        if arch.parallel:
            carried = carried + clean.attn_out[layer] + run_mlp(model, layer, carried)
            carried = torch.cat([carried, entering + clean.mlp_out[layer]])
        else:
            carried = torch.cat([carried + clean.attn_out[layer], entering])
            carried = carried + run_mlp(model, layer, carried)
        resid = after_attention + clean.mlp_out[layer]
        mlp: list[Node] = [Mlp(layer)] if Mlp(layer) in senders else []
        carried = torch.cat([carried, _joining(resid, mlp, changes)])
        joined += [*heads, *mlp]
    return dict(zip(joined, carried, strict=True))


def _joining(stream: Tensor, nodes: list[Node], changes: dict[Node, Tensor]) -> Float[Tensor, "node batch d_model"]:
    if not nodes:
        return stream.new_empty(0, *stream.shape)
    return stream + torch.stack([changes[node] for node in nodes])
