"""Directions: the residual stream without its part along a direction or in a subspace, everything later free to react.

    x := x - (x . u) u    for every u of an orthonormal basis of what was given

Source: Ravfogel et al. 2020 (projecting out), Arditi et al. 2024 (directional ablation). Cost: one kept pass, then each
place from its layer on; all together one pass. Sign: negative change = the metric needs what is in that direction.
Known failure: what is written there again by a later layer is back, unless all layers are projected together.

    >>> direction = model.W_U[:, prompts.correct[0][0]] - model.W_U[:, prompts.wrong[0][0]]
    >>> lt.interventions.project_out(model, prompts, direction)
    Effects(projection on logit_diff: 4 interventions, 4 prompts, before 8.72; resid_post 3 -3.33, resid_post 2 -0.581,
    resid_post 0 +0.185)
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from llmtrace.errors import InputError
from llmtrace.interventions.effects import Effects
from llmtrace.interventions.engine.changes import Change, ProjectOut
from llmtrace.interventions.engine.places import mask_of, require_site
from llmtrace.interventions.engine.sweep import Sweep
from llmtrace.interventions.rows import OF_LAYER
from llmtrace.metrics import MetricLike
from llmtrace.models import TraceModel, describe
from llmtrace.models.hook_names import kind_of
from llmtrace.models.memory import Memory
from llmtrace.nodes import Site
from llmtrace.plan import Declaration, declares
from llmtrace.prompts import PromptSet, metric_of
from llmtrace.prompts.choice import Choice


@declares
def project_out(
    model: TraceModel,
    prompts: PromptSet,
    directions: Float[Tensor, "direction d_model"] | Float[Tensor, " d_model"],
    *,
    what: str = "resid_post",
    layers: Sequence[int] | None = None,
    positions: Choice | None = None,
    together: bool = False,
    metric: MetricLike | None = None,
    memory: Memory = "auto",
    resume: str | Path | None = None,
) -> Declaration[Effects]:
    """Remove a direction, or the subspace of several, from `what` of each layer in turn, or of all `layers` together.

    directions   need not be of unit length or orthogonal; together they span the subspace that is removed
    what         resid_pre, resid_mid, resid_post, attn_out or mlp_out
    positions    only there, names or indices (default: everywhere)

    Raises InputError for directions of another width, of length 0, or that depend on each other.
    """
    arch = describe(model)
    what = kind_of(what)
    if what not in OF_LAYER:
        raise InputError(f"Expected what to be one of {', '.join(OF_LAYER)}, got {what!r}: they are d_model wide.")
    new = ProjectOut(orthonormal(directions, arch.d_model))
    bound = metric_of(model, prompts, metric)
    at = () if positions is None else prompts.chosen(positions)
    where = mask_of(prompts, at)
    sites = [require_site(Site(what, layer, at), arch) for layer in arch.require_layers(layers)]
    changes = [Change(site, new, where) for site in sites]
    variants = [changes] if together else [[change] for change in changes]
    nodes = (tuple(sites),) if together else tuple((site,) for site in sites)
    options = {"what": what, "directions": len(new.basis), "together": together}
    return Sweep(
        model=model, prompts=prompts, metric=bound, base=prompts.clean, variants=variants, nodes=nodes,
        method="projection", options=options, memory=memory, resume=resume, label="projecting out",
    )  # fmt: skip


def orthonormal(directions: Tensor, d_model: int) -> Float[Tensor, "direction d_model"]:
    """An orthonormal basis of the span, in float64 inside. Refuses what spans less than it has rows."""
    if not isinstance(directions, Tensor) or directions.ndim not in (1, 2) or directions.shape[-1] != d_model:
        got = list(directions.shape) if isinstance(directions, Tensor) else type(directions).__name__
        raise InputError(f"Expected directions of shape [{d_model}] or [n, {d_model}], got {got}.")
    rows = directions.detach().double().reshape(-1, d_model)
    if not bool(rows.isfinite().all()) or bool((rows.norm(dim=1) == 0).any()):
        raise InputError("Expected directions of a length above 0, got one of length 0 or with NaN; leave it out.")
    unit = rows / rows.norm(dim=1, keepdim=True)
    basis, triangle = torch.linalg.qr(unit.T)
    if len(rows) > d_model or bool((triangle.diagonal().abs() < 1e-6).any()):
        raise InputError(
            f"Expected directions that do not depend on each other, got {len(rows)} that span fewer; leave some out."
        )
    return basis.T
