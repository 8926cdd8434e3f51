"""Directions: the residual stream without its part along a direction or in a subspace, everything later free to react.

    x := x - (x . u) u    for every u of an orthonormal basis of what was given

Source: Ravfogel et al. 2020 (projecting out), Arditi et al. 2024 (directional ablation). Cost: one kept pass, then each
place from its layer on; all together one pass. Sign: negative change = the metric needs what is in that direction.
Known failure: what is written there again by a later layer is back, unless all layers are projected together.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from llmtrace.errors import InputError
from llmtrace.interventions.declared import Declared
from llmtrace.interventions.effects import Effects
from llmtrace.interventions.engine import Sweep
from llmtrace.interventions.places import OF_LAYER, mask_of, require_site
from llmtrace.interventions.values import Change, ProjectOut
from llmtrace.metrics import MetricLike
from llmtrace.models import TraceModel, describe
from llmtrace.models.budget import Memory
from llmtrace.nodes import Position, Site
from llmtrace.prompts import PromptSet, metric_of


def project_out(
    model: TraceModel,
    prompts: PromptSet,
    directions: Float[Tensor, "direction d_model"] | Float[Tensor, " d_model"],
    *,
    what: str = "resid_post",
    layers: Sequence[int] | None = None,
    positions: Sequence[Position] | None = None,
    together: bool = False,
    metric: MetricLike | None = None,
    memory: Memory = "auto",
    resume: str | Path | None = None,
) -> Effects:
    """Remove a direction, or the subspace of several, from `what` of each layer in turn, or of all `layers` together.

    directions   need not be of unit length or orthogonal; together they span the subspace that is removed
    what         resid_pre, resid_mid, resid_post, attn_out or mlp_out
    positions    only there, names or indices (default: everywhere)

    Raises InputError for directions of another width, of length 0, or that depend on each other.
    """
    return plan_project_out(
        model, prompts, directions, what=what, layers=layers, positions=positions, together=together, metric=metric,
        memory=memory,
    ).run(resume)  # fmt: skip


def plan_project_out(
    model: TraceModel,
    prompts: PromptSet,
    directions: Float[Tensor, "direction d_model"] | Float[Tensor, " d_model"],
    *,
    what: str = "resid_post",
    layers: Sequence[int] | None = None,
    positions: Sequence[Position] | None = None,
    together: bool = False,
    metric: MetricLike | None = None,
    memory: Memory = "auto",
) -> Declared:
    """The same, to be looked at before it is run: `.plan` says passes and memory, `.run()` gives the effects."""
    arch = describe(model)
    if what not in OF_LAYER:
        raise InputError(f"Expected what to be one of {', '.join(OF_LAYER)}, got {what!r}: they are d_model wide.")
    new = ProjectOut(orthonormal(directions, arch.d_model))
    bound, at = metric_of(model, prompts, metric), tuple(positions or ())
    where = mask_of(prompts, at)
    sites = [require_site(Site(what, layer, at), arch) for layer in arch.require_layers(layers)]
    changes = [Change(site, new, where) for site in sites]
    variants = [changes] if together else [[change] for change in changes]
    sweep = Sweep(model, prompts, bound, variants, prompts.clean, None, memory=memory, label="projecting out")
    nodes = (tuple(sites),) if together else tuple((site,) for site in sites)
    return Declared(sweep, nodes, "projection", {"what": what, "directions": len(new.basis), "together": together})


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
