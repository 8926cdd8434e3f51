"""The direct effect of a change: what its places wrote to the final residual stream is exchanged, nothing reacts.

    resid_final + sum over changed places of (new - old) W            W: W_O of a head, W_out of a neuron, 1 of an MLP

read at the metric's position through the final norm. Held against the effect of the whole change it shows self-repair:
what later parts make up for. Source: McGrath et al. 2023; Rushing and Nanda 2024. Cost: no forward pass.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from einops import einsum
from jaxtyping import Float
from torch import Tensor

from llmtrace.interventions.hooks import apply, name_of, part
from llmtrace.interventions.values import Change, Variant
from llmtrace.metrics import Metric
from llmtrace.models import TraceModel, attention_weights, mlp_weights

WRITERS = ("z", "mlp_out", "mlp_post", "attn_out")  # kinds of activations that are written to the residual stream
AT_ONCE = 32  # variants whose logits are read together


def direct_metrics(
    model: TraceModel,
    metric: Metric,
    variants: Sequence[Variant],
    base: Mapping[str, Tensor],
    final: Float[Tensor, "batch pos d_model"],
    other: Mapping[str, Tensor],
) -> Float[Tensor, "variant batch"]:
    """The metric after each variant's direct effect alone. `base`, `other`: activations of the two runs by name."""
    read = metric.here(final)
    found = []
    for start in range(0, len(variants), AT_ONCE):
        moved = []
        for variant in variants[start : start + AT_ONCE]:
            writes = [_moved(model, metric, change, base, other) for change in variant]
            moved.append(read + torch.stack(writes).sum(0))
        found.append(metric.of_residual(model, torch.stack(moved)).cpu())
    return torch.cat(found)


def _moved(
    model: TraceModel, metric: Metric, change: Change, base: Mapping[str, Tensor], other: Mapping[str, Tensor]
) -> Float[Tensor, "batch d_model"]:
    """What the write at the metric's position differs by."""
    site, name = change.site, name_of(change.site)
    old = part(base[name], site)
    new = old.clone()
    apply(change, new, other.get(name), 0)
    moved = metric.here((new - old).reshape(*old.shape[:2], -1))
    match site.kind, site.index:
        case "z", None:
            W_O = attention_weights(model, site.layer).W_O.flatten(0, 1)
            return einsum(moved, W_O, "batch d_z, d_z d_model -> batch d_model")
        case "z", head:
            W_O = attention_weights(model, site.layer).W_O[head]
            return einsum(moved, W_O, "batch d_head, d_head d_model -> batch d_model")
        case "mlp_post", None:
            return einsum(moved, mlp_weights(model, site.layer).W_out, "batch d_mlp, d_mlp d_model -> batch d_model")
        case "mlp_post", neuron:
            return moved * mlp_weights(model, site.layer).W_out[neuron]
    return moved
