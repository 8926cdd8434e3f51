"""Attention as bytes: a square-root scale in 8 bits, causal rows one after another, pooled views. NumPy alone.

u8 = round(255 sqrt(a))        a = (u8 / 255)^2, within .004
"""

from __future__ import annotations

from typing import Any

import numpy as np

POOLED = 64  # rows and columns of a pooled view, at most


def to_bytes(attention: Any) -> Any:
    """Shares from 0 to 1 as whole numbers from 0 to 255."""
    return np.rint(255 * np.sqrt(np.clip(attention, 0, 1))).astype(np.uint8)


def packed(patterns: Any) -> Any:
    """[... query key] to [... n(n+1)/2]: of each query the keys up to itself."""
    queries, keys = np.tril_indices(patterns.shape[-1])
    return to_bytes(patterns[..., queries, keys])


def pooled(patterns: Any, size: int = POOLED) -> Any:
    """[... query key] to at most [... size size]: the largest of each block."""
    n = patterns.shape[-1]
    block = -(-n // size)
    blocks = -(-n // block)
    wide = np.zeros((*patterns.shape[:-2], blocks * block, blocks * block), patterns.dtype)
    wide[..., :n, :n] = patterns
    return to_bytes(wide.reshape(*patterns.shape[:-2], blocks, block, blocks, block).max((-3, -1)))


def safetensors(tensors: dict[str, Any]) -> bytes:
    """Arrays as one file in memory: the same arrays, the same bytes."""
    from safetensors.numpy import save

    return save({name: np.ascontiguousarray(value) for name, value in tensors.items()})
