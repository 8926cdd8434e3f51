"""An intervention is a frozen value: which node, replaced by what."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from llmtrace.nodes import Head, Mlp


@dataclass(frozen=True, eq=False)
class Replace:
    """The output of a node becomes `value` on all positions: z of a head (d_head), or what an MLP writes (d_model)."""

    node: Head | Mlp
    value: Float[Tensor, "batch pos d"]
