"""`Removal`: things that can be taken out of a run - tokens, spans, nodes - and the metric without a set of them.

Everything that the check measures is the metric without some sets: one thing, the first k of an order, all but the
first k. `token_removal.py` and `node_removal.py` say what "without" means.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from llmtrace.errors import InputError


class Removal(ABC):
    """What is there to be removed, per prompt, and how.

    there    which things a prompt has: the others are padding
    names    what they are called, per prompt
    ablation what takes the place of what is removed, as in `validate`; `method` is what tables call it
    passes   full forward passes that were spent so far
    """

    there: Bool[Tensor, "batch unit"]
    names: tuple[tuple[str, ...], ...]
    ablation: str
    passes: float = 0.0

    @property
    @abstractmethod
    def method(self) -> str: ...

    @abstractmethod
    def without(self, sets: Bool[Tensor, "variant batch unit"]) -> Float[Tensor, "variant batch"]:
        """The metric without each set."""

    def singles(self) -> Float[Tensor, "batch unit"]:
        """What the metric loses without each one alone, before - after: a variant for each, and one with all there."""
        alone = torch.eye(self.there.shape[1], dtype=torch.bool)[:, None] & self.there
        clean, *after = self.without(torch.cat([torch.zeros_like(alone[:1]), alone]))
        return (clean - torch.stack(after)).T


def require_two(there: Bool[Tensor, "batch unit"], what: str) -> None:
    """An order of one thing says nothing."""
    few = (there.sum(1) < 2).nonzero()[:, 0].tolist()
    if few:
        raise InputError(
            f"Expected at least two {what} to rank in every prompt, got {int(there[few[0]].sum())} in prompt {few[0]}; "
            "take longer prompts, or leave it out."
        )
