"""Which positions are explained: a row of `TokenInfluence` each."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from llmtrace.errors import InputError
from llmtrace.prompts import PromptSet


def target_positions(prompts: PromptSet, targets: Sequence[str | int] | None) -> Int[Tensor, "batch target"]:
    """Named positions or indices of each prompt; None: END, the last real token, where the answer is predicted."""
    if isinstance(targets, str | int):
        raise InputError(f"Expected a list of targets, got {targets!r} alone; put it in a list: [{targets!r}].")
    places = ["END"] if targets is None else list(targets)
    if not places:
        raise InputError("Expected at least one target, got none; leave targets out for END.")
    return torch.stack([prompts.position(place) for place in places], 1)
