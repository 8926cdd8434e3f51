"""Causal tracing: noise hides the subject, one clean activation is restored - where does the answer come back?

    base run    clean prompts whose subject's embeddings carry noise of `noise` standard deviations
    restored    an activation of the clean run, at one layer and position (MLP and attention: in a window of layers)

The standard deviation is that of the subjects' own token embeddings. Effects are means over `samples` draws of noise,
per prompt; the same noise for every restoration. Source: Meng et al. 2022, section 2.1. Cost: `samples` times a sweep
over layers x positions. Sign: `normalised` is 1 where a restoration gives all of the clean run's metric.
Known failure: the size of the noise decides what is seen; noise is off the model's distribution.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from llmtrace.errors import InputError
from llmtrace.interventions.checkpoint import partial_results
from llmtrace.interventions.declared import Declared
from llmtrace.interventions.effects import Effects
from llmtrace.interventions.engine import Outcome, Plan, Sweep
from llmtrace.interventions.knockout import layer_windows
from llmtrace.interventions.places import OF_LAYER, Masks, every_position, mask_of, require_site
from llmtrace.interventions.values import Add, Change, FromOther
from llmtrace.metrics import MetricLike
from llmtrace.models import TraceModel, describe
from llmtrace.models.budget import Memory
from llmtrace.nodes import Position, Site
from llmtrace.progress import track
from llmtrace.prompts import PromptSet, metric_of
from llmtrace.shapes import PositionMask


def causal_trace(
    model: TraceModel,
    prompts: PromptSet,
    subject: Sequence[Position],
    *,
    what: str = "resid_post",
    window: int = 1,
    positions: Sequence[Position] | None = None,
    noise: float = 3.0,
    samples: int = 10,
    seed: int = 0,
    metric: MetricLike | None = "probability",
    memory: Memory = "auto",
    resume: str | Path | None = None,
) -> Effects:
    """Restore each (layer, position) of `what` in a run whose `subject` is hidden by noise.

    subject     positions of the subject, names or indices
    what        resid_pre, resid_mid, resid_post, attn_out or mlp_out
    window      how many layers are restored together around each layer (10 in the paper, for MLPs and attention)
    positions   where to restore (default: all tokens; the named positions where prompts differ in length)
    metric      default: probability of the answer
    resume      a file for partial results, taken up where it is there

    Raises InputError for a subject that is nowhere, no noise, or fewer than one sample.
    """
    return plan_causal_trace(
        model, prompts, subject, what=what, window=window, positions=positions, noise=noise, samples=samples, seed=seed,
        metric=metric, memory=memory,
    ).run(resume)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Tracing:
    """One declared sweep per draw of noise."""

    draws: tuple[Declared, ...]

    @property
    def plan(self) -> Plan:
        """Passes of all draws, memory of one."""
        one = self.draws[0].plan
        return replace(one, passes=one.passes * len(self.draws))

    def run(self, resume: str | Path | None = None) -> Effects:
        """Means over the draws, per prompt. `resume`: a file for the draws that are done."""
        first = self.draws[0].sweep
        n = 2 + len(first.variants)  # the noised run, the clean run, every restoration
        width = torch.promote_types(first.model.W_E.dtype, torch.float32)
        table = torch.empty(len(self.draws) * n, len(first.base), dtype=width)
        about = [draw.sweep.about for draw in self.draws]
        everyone = slice(None)
        with partial_results(resume, about, table) as partial:
            for i, draw in enumerate(track(self.draws, "tracing")):
                rows = range(i * n, (i + 1) * n)
                if not partial.has(rows, everyone):
                    found = draw.sweep.run()
                    assert found.other is not None
                    partial.put(rows, everyone, torch.cat([found.before[None], found.other[None], found.after]))
            before, other, *after = partial.values.view(len(self.draws), n, -1).mean(0)
        effects = self.draws[0].effects(Outcome(before, torch.stack(after), other, None))
        return replace(effects, passes=self.plan.passes)


def plan_causal_trace(
    model: TraceModel,
    prompts: PromptSet,
    subject: Sequence[Position],
    *,
    what: str = "resid_post",
    window: int = 1,
    positions: Sequence[Position] | None = None,
    noise: float = 3.0,
    samples: int = 10,
    seed: int = 0,
    metric: MetricLike | None = "probability",
    memory: Memory = "auto",
) -> Tracing:
    """The same, to be looked at before it is run: `.plan` says passes and memory, `.run()` gives the effects."""
    arch, bound = describe(model), metric_of(model, prompts, metric)
    if what not in OF_LAYER:
        raise InputError(f"Expected what to be one of {', '.join(OF_LAYER)}, got {what!r}; choose one.")
    if isinstance(subject, str | int) or not subject:
        raise InputError(f"Expected a list of positions as subject, got {subject!r}; write ['S1'].")
    if not noise > 0 or samples < 1:
        raise InputError(f"Expected noise above 0 and at least one sample, got noise={noise} and samples={samples}.")
    hidden = mask_of(prompts, tuple(subject))
    assert hidden is not None
    at = every_position(prompts) if positions is None else tuple(positions)
    masks, windows = Masks(prompts), layer_windows(arch, window)
    require_site(Site(what, 0), arch)
    rows = [tuple(Site(what, layer, (position,)) for layer in cut) for cut in windows for position in at]
    variants = [[Change(site, FromOther(), masks[site.at]) for site in row] for row in rows]
    centres = tuple((Site(what, layer, (position,)),) for layer in range(arch.n_layers) for position in at)
    options = {
        "subject": "+".join(map(str, subject)),
        "noise": noise,
        "samples": samples,
        "noise_seed": seed,
        "window": window,
    }
    draws = []
    for drawn in noises(model, prompts, hidden, noise, samples, seed):
        hide = Change(Site("resid_pre", 0), Add(drawn), hidden)
        sweep = Sweep(
            model, prompts, bound, variants, prompts.clean, prompts.clean, base_changes=[hide], memory=memory, label="",
        )  # fmt: skip
        draws.append(Declared(sweep, centres, "causal tracing", options))
    return Tracing(tuple(draws))


def noises(
    model: TraceModel, prompts: PromptSet, hidden: PositionMask, noise: float, samples: int, seed: int
) -> list[Float[Tensor, "batch pos d_model"]]:
    """One draw per sample, on the CPU so that a seed gives the same noise on every device."""
    std = noise * model.W_E[prompts.clean[hidden].to(model.W_E.device)].detach().double().std().item()
    generator = torch.Generator().manual_seed(seed)
    shape = *prompts.clean.shape, describe(model).d_model
    return [std * torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(samples)]
