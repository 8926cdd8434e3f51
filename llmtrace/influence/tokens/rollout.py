"""Attention rollout: attention multiplied through the layers, half of each step staying where it is.

    A^_l = 1/2 mean_h A_l + 1/2 I,     rollout = A^_L ... A^_2 A^_1

Source: Abnar & Zuidema 2020. Cost: one forward pass; memory one layer's patterns and [layer query key].
Sign: a share, from 0 to 1. Laws: rows sum to one (law 49); with A = I it is I (law 52).
Known failure: it sees neither what values carry nor MLPs, and the half is a convention.

    >>> found = lt.influence.rollout(model, prompts)
    >>> found.labels[0][found.values[0, -1].argmax()]
    '<bos>'
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from llmtrace.influence.tokens.attention.pattern_batches import prompt_batches
from llmtrace.influence.tokens.results.token_influence import TokenInfluence
from llmtrace.models import TraceModel, describe
from llmtrace.models.memory import Memory
from llmtrace.progress import track
from llmtrace.prompts import PromptSet, as_prompts
from llmtrace.signals.each_layer import each_layer


@torch.no_grad()
def rollout(model: TraceModel, prompts: PromptSet | str | Sequence[str], *, memory: Memory = "auto") -> TokenInfluence:
    """[batch target source]: share of each final position that comes from each input position.

    `per_layer` holds A^ of every layer.
    """
    prompts = as_prompts(model, prompts)
    chunks = track(prompt_batches(model, prompts, memory), "rollout")
    steps = torch.cat([half_steps(model, prompts.clean[chunk]) for chunk in chunks], 1)
    return TokenInfluence.of(
        model, prompts, product(steps), "rollout", rows_sum_to_one=not describe(model).sinks, per_layer=steps
    )


def half_steps(model: TraceModel, tokens: Tensor) -> Float[Tensor, "layer batch query key"]:
    """A^ of every layer, from one pass that keeps no patterns."""
    steps: list[Tensor] = []
    each_layer(model, tokens, ("pattern",), lambda _, found: steps.append(half_step(found["pattern"])))
    return torch.stack(steps)


def half_step(pattern: Float[Tensor, "batch head query key"]) -> Float[Tensor, "batch query key"]:
    """A^: the mean over heads, half of it, and half of the identity."""
    step = pattern.mean(1) / 2
    step.diagonal(dim1=1, dim2=2).add_(0.5)
    return step


def product(steps: Float[Tensor, "layer batch query key"]) -> Float[Tensor, "batch query key"]:
    """What the layers do one after another."""
    rolled = steps[0]
    for step in steps[1:]:
        rolled = step @ rolled
    return rolled


def roll(patterns: Float[Tensor, "layer batch head query key"]) -> Float[Tensor, "batch query key"]:
    """Rollout from given patterns."""
    return product(torch.stack([half_step(pattern) for pattern in patterns]))
