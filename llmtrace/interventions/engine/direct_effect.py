"""The direct effect of a change: what its places wrote to the final residual stream is exchanged, nothing reacts.

    resid_final + sum over changed places of (new - old) W            W: W_O of a head, W_out of a neuron, 1 of an MLP

read at the metric's position through the final norm. Held against the effect of the whole change it shows self-repair:
what later parts make up for. Source: McGrath et al. 2023; Rushing and Nanda 2024. Cost: no forward pass.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from llmtrace.interventions.engine.changes import Change
from llmtrace.interventions.engine.hooks import apply, name_of, part
from llmtrace.interventions.engine.ports import written
from llmtrace.metrics import Metric
from llmtrace.models import TraceModel

AT_ONCE = 32  # variants whose logits are read together


def direct_metrics(
    model: TraceModel,
    metric: Metric,
    variants: Sequence[Sequence[Change]],
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
    name = name_of(change.site)
    old = part(base[name], change.site)
    new = old.clone()
    apply(change, new, other.get(name), 0)
    return metric.here(written(model, change.site, new - old))
