"""Where a change can have an effect at all: what lies outside is not run, and its effect is exactly 0.

In a causal model nothing after the metric's position matters, and before the first token in which two runs differ every
activation is the same in both (law 17). Attention in both directions has no such places, nor has a model with hooks of
the user's on it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool
from torch import Tensor

from llmtrace.interventions.engine.changes import Change, EdgeChange, FromOther, Variant
from llmtrace.shapes import PositionMask, Positions, Tokens


@dataclass(frozen=True, eq=False)
class Reach:
    """Of the runs on `base` and `other` tokens, read at `read`. `noised`: the base run differs at the first token."""

    base: Tokens
    other: Tokens | None
    read: Positions
    causal: bool
    noised: bool = False

    @property
    def width(self) -> int:
        """How many positions need to be run."""
        length = self.base.shape[1]
        return min(int(self.read.max()) + 1, length) if self.causal else length

    def places(self, change: Change | EdgeChange) -> PositionMask:
        """The places of a change that can have an effect."""
        if isinstance(change, EdgeChange):
            return self.places(change.writer)
        key = id(change.where), isinstance(change.new, FromOther)
        if key not in self._places:  # sweeps share few masks among many changes
            possible = self.differs if key[1] else self._matters
            self._places[key] = possible if change.where is None else possible & change.where[:, : self.width]
        return self._places[key]

    def touched(self, variant: Variant) -> Bool[Tensor, " batch"]:
        """Prompts on which a variant can have an effect."""
        nowhere = torch.zeros(len(self.base), dtype=torch.bool)
        return torch.stack([nowhere, *(self.places(change).any(1) for change in variant)]).any(0)

    def first(self, variant: Variant) -> int:
        """The first position that a variant can alter in any prompt."""
        return int(torch.stack([self.places(change).any(0) for change in variant]).any(0).nonzero()[0])

    @cached_property
    def _places(self) -> dict[tuple[int, bool], PositionMask]:
        return {}

    @cached_property
    def _matters(self) -> PositionMask:
        before_read = torch.arange(self.width) <= self.read[:, None]
        return before_read if self.causal else torch.ones_like(before_read)

    @cached_property
    def differs(self) -> PositionMask:
        """The places at which the two runs can differ."""
        if self.other is None or self.noised or not self.causal:
            return self._matters
        unlike = (self.base != self.other)[:, : self.width]
        return self._matters & (unlike.cumsum(1) > 0)
