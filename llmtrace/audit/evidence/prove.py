"""The causal step: intervene on what is watched, and see whether the model still does what is watched for.

    effect = mean over True prompts of   behaviour(with the intervention) - behaviour(without)
    behaviour = logit(wrong) - logit(correct), or log p(wrong) where no answer is correct

By its lever (`lever.py`): nodes are ablated together (their mean over the prompts), a direction is walked back at the
last token, a span is taken out. Beside it `draws` interventions of the same size on what was drawn by lot: as many
other heads of the model, vectors of the same length, as many other tokens.

    p = (1 + draws whose |effect| is at least as large) / (1 + draws)            Phipson & Smyth 2010

"causal": it weakens the behaviour for sure (the interval over prompts is below 0) and more than lot does (p <=
`LEVEL`). "the other way": as sure, and strengthens it. "correlate": what is watched goes along with the behaviour, and
does nothing that lot would not. "untested": nothing to take hold of, or fewer than `FEWEST` True prompts.
Cost: (1 + draws) F over the True prompts.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from math import nan

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from llmtrace.audit.evidence.lever import Direction, Lever, Nodes
from llmtrace.audit.evidence.without import without
from llmtrace.audit.labelled import LabelledPrompts
from llmtrace.interventions import ablate, steer
from llmtrace.models import TraceModel, describe, final_residual
from llmtrace.nodes import Head
from llmtrace.prompts import PromptSet
from llmtrace.statistics import bootstrap_interval

FEWEST, LEVEL = 4, 0.05


@dataclass(frozen=True)
class Proof:
    """`effect` with its interval over prompts, what lot does (mean |effect|), and what follows."""

    verdict: str
    effect: float = nan
    low: float = nan
    high: float = nan
    by_lot: float = nan
    p: float = nan
    why: str = ""


def prove(model: TraceModel, lever: Lever | None, rows: LabelledPrompts, *, draws: int = 19, seed: int = 0) -> Proof:
    """Intervene on the True prompts of `rows`. With 19 draws p is at best 0.05."""
    if lever is None:
        return Proof("untested", why="nothing to take hold of")
    true = rows[rows.labels] if int(rows.labels.sum()) >= FEWEST else None
    if true is None:
        return Proof("untested", why=f"fewer than {FEWEST} True prompts")
    if not all(true.prompts.wrong):
        return Proof("untested", why="no answers by which to measure what the model does")
    asked = replace(true, prompts=behaviour_of(true.prompts))
    draw = random.Random(seed)
    own = _effects(model, lever, asked)
    if own is None:
        return Proof("untested", why="the prompts do not have the span")
    lots = [_effects(model, _by_lot(model, lever, draw), asked, by_lot=draw) for _ in range(draws)]
    chance = [float(found.mean()) for found in lots if found is not None]
    effect = float(own.mean())
    low, high = (float(end) for end in bootstrap_interval(own, seed=seed))
    p = (1 + sum(abs(one) >= abs(effect) for one in chance)) / (1 + len(chance))
    sure = p <= LEVEL + 1e-9 and (high < 0 or low > 0)
    verdict = "correlate" if not sure else "causal" if effect < 0 else "the other way"
    return Proof(verdict, effect, low, high, sum(map(abs, chance)) / max(1, len(chance)), p)


def behaviour_of(prompts: PromptSet) -> PromptSet:
    """The same prompts, whose metric grows with what is watched for."""
    metric = "logit_diff" if all(prompts.correct) else "log_probability"
    return replace(prompts, correct=prompts.wrong, wrong=prompts.correct, default_metric=metric)


def behaviour(model: TraceModel, prompts: PromptSet) -> Float[Tensor, " batch"]:
    """The metric of `behaviour_of`'s prompts. Cost: 1 F."""
    metric = prompts.metric()
    return metric.of_residual(model, metric.here(final_residual(model, prompts.clean))).float().cpu()


@torch.no_grad()
def _effects(
    model: TraceModel, lever: Lever, rows: LabelledPrompts, *, by_lot: random.Random | None = None
) -> Float[Tensor, " batch"] | None:
    """What the intervention changes, per prompt; None where there is nothing to intervene on."""
    prompts = rows.prompts
    if isinstance(lever, Nodes):
        found = ablate(model, prompts, [*lever.nodes], ablation="mean", over="global", reference="clean", together=True)
        return found.change[0].float().cpu()
    if isinstance(lever, Direction):
        place = f"resid_post.{lever.layer}"
        return steer(model, prompts, -lever.vector.to(model.W_E), places=place, positions="END").change[0].float().cpu()
    gone = rows.spans.members[:, rows.spans.index(lever.span)] if lever.span in rows.spans.names else None
    if gone is not None and by_lot is not None:
        gone = _as_many_others(gone, prompts, by_lot)
    shorter = None if gone is None else without(prompts, rows.spans, gone)
    return None if shorter is None else behaviour(model, shorter[0]) - behaviour(model, prompts)


def _by_lot(model: TraceModel, lever: Lever, draw: random.Random) -> Lever:
    """Something else of the same kind and size."""
    if isinstance(lever, Nodes):
        arch = describe(model)
        pool = arch.heads if isinstance(lever.nodes[0], Head) else arch.mlps
        others = [node for node in pool if node not in lever.nodes]
        return Nodes(tuple(draw.sample(others, min(len(lever.nodes), len(others)))))
    if isinstance(lever, Direction):
        noise = torch.randn(len(lever.vector), generator=torch.Generator().manual_seed(draw.randrange(2**31)))
        return Direction(lever.layer, noise / noise.norm() * lever.vector.norm())
    return lever


def _as_many_others(
    gone: Bool[Tensor, "batch pos"], prompts: PromptSet, draw: random.Random
) -> Bool[Tensor, "batch pos"]:
    """For each prompt as many of its other tokens, BOS and the last one left alone."""
    others = torch.zeros_like(gone)
    for row, length in enumerate(prompts.lengths.tolist()):
        free = [at for at in range(int(prompts.prepend_bos), length - 1) if not gone[row, at]]
        others[row, draw.sample(free, min(len(free), int(gone[row, : length - 1].sum())))] = True
    return others
