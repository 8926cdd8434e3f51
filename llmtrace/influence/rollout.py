"""Attention rollout: attention multiplied through the layers, half of each step staying where it is.

    A^_l = 1/2 mean_h A_l + 1/2 I,     rollout = A^_L ... A^_2 A^_1

Source: Abnar & Zuidema 2020. Cost: one forward pass. Laws: rows sum to one (49); with A = I it is I (52).
Known failure: it sees neither what values carry nor MLPs, and the half is a convention.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from llmtrace.influence.scores import TokenInfluence
from llmtrace.models import TraceModel, describe, provenance
from llmtrace.prompts import PromptSet, as_prompts
from llmtrace.signals import attention_pattern, capture


@torch.no_grad()
def rollout(model: TraceModel, prompts: PromptSet | str | Sequence[str]) -> TokenInfluence:
    """[batch target source]: share of each final position that comes from each input position."""
    prompts = as_prompts(model, prompts)
    trace = capture(model, prompts, what="pattern")
    patterns = torch.stack([attention_pattern(trace, layer) for layer in range(describe(model).n_layers)])
    return TokenInfluence(
        values=roll(patterns), labels=trace.labels, lengths=trace.lengths, method="rollout", layer=None,
        rows_sum_to_one=not describe(model).sinks, provenance=provenance(model).as_dict(),
    )  # fmt: skip


def roll(patterns: Float[Tensor, "layer batch head query key"]) -> Float[Tensor, "batch query key"]:
    """The product itself, from given patterns."""
    identity = torch.eye(patterns.shape[-1], dtype=patterns.dtype, device=patterns.device)
    steps = (patterns.mean(2) + identity) / 2
    product = identity.expand_as(steps[0])
    for step in steps:
        product = step @ product
    return product
