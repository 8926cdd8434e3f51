"""Which positions are explained: a row of `TokenInfluence` each."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Int
from torch import Tensor

from llmtrace.prompts import PromptSet


def target_positions(prompts: PromptSet, targets: Sequence[str | int] | None) -> Int[Tensor, "batch target"]:
    """Named positions or indices of each prompt; None: END, the last real token, where the answer is predicted."""
    return prompts.places(["END"] if targets is None else targets, "targets")
