"""Raw attention: the pattern of a layer, averaged over heads, or of one head; or the mean over all layers.

Source: the model's own patterns. Sign: a share, from 0 to 1.
Cost: one forward pass; memory one layer's patterns and what is returned. Law: rows sum to one (less with attention
sinks), nothing attends forward (law 5).
Known failure: attention is not attribution. A head may look at a token and write nothing of it.

    >>> found = lt.influence.raw_attention(model, prompts, layer=3, head=2)
    >>> found.labels[0][found.values[0, -1].argmax()]
    'Sam'
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from llmtrace.errors import InputError
from llmtrace.influence.tokens.attention.pattern_batches import prompt_batches
from llmtrace.influence.tokens.results.token_influence import TokenInfluence
from llmtrace.models import TraceModel, describe
from llmtrace.models.memory import Memory
from llmtrace.nodes import Head
from llmtrace.progress import track
from llmtrace.prompts import PromptSet, as_prompts
from llmtrace.signals.each_layer import Layer, each_layer


@torch.no_grad()
def raw_attention(
    model: TraceModel,
    prompts: PromptSet | str | Sequence[str],
    *,
    layer: int | None = None,
    head: int | None = None,
    memory: Memory = "auto",
) -> TokenInfluence:
    """[batch target source]: how much each token attends to each earlier one, in one head, in the mean of a layer, or
    in the mean of all layers (then `per_layer` holds each)."""
    prompts = as_prompts(model, prompts)
    if layer is None and head is not None:
        raise InputError(f"Expected a layer for head {head}, got none; say layer= as well.")
    chosen = None if layer is None else [describe(model).require_layer(layer)]
    describe(model).require(Head(layer or 0, head or 0))
    found: list[Tensor] = []
    for chunk in track(prompt_batches(model, prompts, memory), "raw_attention"):
        steps: list[Tensor] = []

        def keep(_: int, seen: Layer, steps: list[Tensor] = steps) -> None:
            pattern = seen["pattern"]
            steps.append(pattern.mean(1) if head is None else pattern[:, head].clone())

        each_layer(model, prompts.clean[chunk], ("pattern",), keep, chosen)
        found.append(torch.stack(steps))
    per_layer = torch.cat(found, 1)
    return TokenInfluence.of(
        model, prompts, per_layer.mean(0), "raw_attention", layer=layer, rows_sum_to_one=not describe(model).sinks,
        per_layer=per_layer if layer is None else None,
    )  # fmt: skip
