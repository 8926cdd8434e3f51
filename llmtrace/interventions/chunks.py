"""Which variants share a pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Chunk:
    """Variants that run together, from layer `layer` and position `first` on."""

    variants: tuple[int, ...]
    layer: int
    first: int


def chunks_of(starts: Sequence[tuple[int, int, int]], stack: Sequence[int], small: Sequence[int]) -> tuple[Chunk, ...]:
    """Which variants share a pass. `starts`: (variant, its first layer, its first position).

    stack, small   how many variants fit, and how many are hardly slower than fewer, when they start at that position

    Variants of one layer go together; those of an earlier start join while the pass is small, since then a pass costs
    more for being one more than for being longer.
    """
    chunks: list[Chunk] = []
    for layer in sorted({layer for _, layer, _ in starts}):
        waiting = sorted(((first, variant) for variant, at, first in starts if at == layer), reverse=True)
        some: list[int] = []
        reached = waiting[0][0]
        for first, variant in waiting:
            n = len(some) + 1
            if some and (n > stack[first] or (first < reached and n > small[first])):
                chunks.append(Chunk(tuple(some), layer, reached))
                some = []
            some.append(variant)
            reached = first
        chunks.append(Chunk(tuple(some), layer, reached))
    return tuple(chunks)
