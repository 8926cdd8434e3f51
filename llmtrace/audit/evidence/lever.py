"""Levers: what an intervention takes hold of, to see whether what is watched does anything."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from llmtrace.nodes import Node


@dataclass(frozen=True, eq=False)
class Nodes:
    """Heads, MLPs or neurons that are ablated together."""

    nodes: tuple[Node, ...]


@dataclass(frozen=True, eq=False)
class Direction:
    """A vector that is taken away from what leaves a layer, at the last token: the way from one class to the other."""

    layer: int
    vector: Float[Tensor, " d_model"]


@dataclass(frozen=True)
class Words:
    """A span that is taken out of the prompt."""

    span: str


Lever = Nodes | Direction | Words
