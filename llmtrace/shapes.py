"""The axis glossary. Every annotation in the package is made of these words.

    batch      prompts                         pos        token positions of a prompt, BOS included
    layer      transformer blocks              head       query heads of a layer
    kv_head    key-value heads (GQA: fewer)    group      query heads that share one key-value head
    query, key the two position axes of attention; query attends to key
    d_model    residual stream                 d_head     one head's q, k, v, z
    d_mlp      MLP neurons                     d_vocab    tokens of the vocabulary
    node       writers into the residual stream           port   readers from it
    sender     nodes whose effect is measured  n          vocabulary rows that a metric reads
    variant    interventions, stacked in a batch          rows       variants x prompts, stacked
    path       chains of edges                 slot       positions at which a change is followed
    direction  rows of a basis                 draw       random resamples

Shapes are checked by jaxtyping's import hook under pytest and are free for users.
"""

from __future__ import annotations

from jaxtyping import Bool, Float, Int
from torch import Tensor

Tokens = Int[Tensor, "batch pos"]
Positions = Int[Tensor, " batch"]
PositionMask = Bool[Tensor, "batch pos"]
PerPrompt = Float[Tensor, " batch"]
Logits = Float[Tensor, "batch pos d_vocab"]

__all__ = [
    "Bool", "Float", "Int", "Logits", "PerPrompt", "PositionMask", "Positions", "Tensor", "Tokens",
]  # fmt: skip
