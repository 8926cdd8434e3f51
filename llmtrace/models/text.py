"""Tokens as text, for labels."""

from __future__ import annotations

from typing import Any

from jaxtyping import Int
from torch import Tensor


def token_labels(model: Any, tokens: Int[Tensor, "batch pos"]) -> tuple[tuple[str, ...], ...]:
    """Each token as the text it stands for; its number where the model has no tokenizer."""
    tokenizer = getattr(model, "tokenizer", None)
    distinct = sorted(set(tokens.flatten().tolist()))
    text = {i: str(i) if tokenizer is None else tokenizer.decode([i]) for i in distinct}
    return tuple(tuple(text[i] for i in row) for row in tokens.tolist())
