"""Causal tracing: noise hides the subject, one clean activation is restored - where does the answer come back?

    base run    clean prompts whose subject's embeddings carry noise of `noise` standard deviations
    restored    an activation of the clean run, at one layer and position (MLP and attention: in a window of layers)

The standard deviation is that of the subjects' own token embeddings. Effects are means over `draws` of noise,
per prompt; the same noise for every restoration. Source: Meng et al. 2022, section 2.1. Cost: `draws` times a sweep
over layers x positions. Sign: `normalised` is 1 where a restoration gives all of the clean run's metric.
Known failure: the size of the noise decides what is seen; noise is off the model's distribution.

    >>> lt.interventions.causal_trace(model, prompts, ["S2"], what="mlp_out", positions=["S2", "END"], draws=2)
    Effects(causal tracing on probability: 8 interventions, 4 prompts, before 0.539; mlp_out 0@S2 +0.448, mlp_out 3@END
    +0.267, mlp_out 2@S2 +0.171)
"""

from __future__ import annotations

from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from llmtrace.errors import InputError, require_one_of
from llmtrace.interventions.effects import Effects
from llmtrace.interventions.engine.changes import Add, Change, FromOther
from llmtrace.interventions.engine.places import Masks, every_position, mask_at, require_site
from llmtrace.interventions.engine.sweep import Sweep
from llmtrace.interventions.knockout import layer_windows
from llmtrace.interventions.rows import OF_LAYER
from llmtrace.metrics import MetricLike
from llmtrace.models import TraceModel, describe
from llmtrace.models.hook_names import kind_of
from llmtrace.models.memory import Memory
from llmtrace.nodes import Site
from llmtrace.plan import Declaration, declares
from llmtrace.prompts import PromptSet, metric_of
from llmtrace.prompts.choice import Choice
from llmtrace.shapes import PositionMask


@declares
def causal_trace(
    model: TraceModel,
    prompts: PromptSet,
    subject: Choice,
    *,
    what: str = "resid_post",
    window: int = 1,
    positions: Choice | None = None,
    noise: float = 3.0,
    draws: int = 10,
    seed: int = 0,
    metric: MetricLike | None = "probability",
    memory: Memory = "auto",
    resume: str | Path | None = None,
) -> Declaration[Effects]:
    """Restore each (layer, position) of `what` in a run whose `subject` is hidden by noise.

    subject     positions of the subject, names or indices
    what        resid_pre, resid_mid, resid_post, attn_out or mlp_out
    window      how many layers are restored together around each layer (10 in the paper, for MLPs and attention)
    positions   where to restore (default: all tokens; the named positions where prompts differ in length)
    metric      default: probability of the answer
    resume      a file for partial results, taken up where it is there

    Raises InputError for a subject that is nowhere, no noise, or fewer than one sample.
    """
    arch, bound = describe(model), metric_of(model, prompts, metric)
    what = kind_of(what)
    require_one_of("what", OF_LAYER, what)
    subject = prompts.chosen(subject, "positions as subject")
    if not noise > 0 or draws < 1:
        raise InputError(f"Expected noise above 0 and at least one draw, got noise={noise} and draws={draws}.")
    hidden = mask_at(prompts, subject)
    at = every_position(prompts) if positions is None else prompts.chosen(positions)
    require_site(Site(what, 0), arch)
    windows = layer_windows(arch, window)
    rows = [tuple(Site(what, layer, (position,)) for layer in cut) for cut in windows for position in at]
    drawn_noise = noises(model, prompts, hidden, noise, draws, seed).flatten(0, 1)
    everyone = list(range(len(prompts))) * draws  # draw after draw
    drawn = prompts[everyone]
    masks = Masks(drawn)
    return Sweep(
        model=model, prompts=drawn, metric=bound[everyone], base=drawn.clean, other=drawn.clean, draws=draws,
        base_changes=[Change(Site("resid_pre", 0), Add(drawn_noise), hidden[everyone])],
        variants=[[Change(site, FromOther(), masks[site.at]) for site in row] for row in rows],
        nodes=tuple((Site(what, layer, (position,)),) for layer in range(arch.n_layers) for position in at),
        method="causal tracing",
        options={
            "subject": "+".join(map(str, subject)), "noise": noise, "draws": draws, "noise_seed": seed,
            "window": window,
        },
        memory=memory, resume=resume, label="tracing",
    )  # fmt: skip


def noises(
    model: TraceModel, prompts: PromptSet, hidden: PositionMask, noise: float, draws: int, seed: int
) -> Float[Tensor, "draw batch pos d_model"]:
    """One draw per sample, on the CPU so that a seed gives the same noise on every device."""
    std = noise * model.W_E[prompts.clean[hidden].to(model.W_E.device)].detach().double().std().item()
    generator = torch.Generator().manual_seed(seed)
    noise_of = torch.empty(draws, *prompts.clean.shape, describe(model).d_model, dtype=torch.float64)
    for draw in noise_of:
        torch.randn(draw.shape, generator=generator, out=draw)
    return noise_of.mul_(std)
