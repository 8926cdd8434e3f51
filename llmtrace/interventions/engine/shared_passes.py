"""How much goes at once: which prompts share a batch, which variants share a pass, and what memory that takes.

the kept runs of a batch + the larger of   a pass of these prompts alone, which keeps them
                                           a pass of the variants that share one
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from llmtrace.models.memory import CPU_ENOUGH, Memory, at_once, budget

ENOUGH = 512  # token rows: below that a shorter pass is hardly faster
Start = tuple[int, int, int]  # a variant, its first layer, its first position


@dataclass(frozen=True)
class Chunk:
    """Variants that run together, from layer `layer` and position `first` on."""

    variants: tuple[int, ...]
    layer: int
    first: int


@dataclass(frozen=True)
class Shares:
    """`bytes`: at the peak."""

    prompts_at_once: int
    chunks: tuple[Chunk, ...]
    bytes: int


def share(
    starts: Sequence[Start],
    prompts: int,
    *,
    kept: int,
    whole: int,
    variant: Sequence[int],
    tables: int,
    memory: Memory,
    device: torch.device,
) -> Shares:
    """Of one prompt: bytes of its kept runs, of a whole pass, and of a variant that starts at each position. `tables`:
    bytes for all prompts together.

    Raises LimitError where the memory allowed does not hold one prompt.
    """
    total = budget(memory, device) - tables
    n = at_once(
        total, kept + max([whole, *(variant[first] for *_, first in starts)]), prompts, "one prompt", asked=memory
    )
    room = total - n * kept
    if memory == "auto" and device.type == "cpu":  # a larger stack is not faster there
        room = min(room, CPU_ENOUGH)
    stack = [max(1, room // max(1, n * each)) for each in variant]
    chunks = chunks_of(starts, stack, [ENOUGH // (n * (len(variant) - first)) for first in range(len(variant))])
    largest = max((len(chunk.variants) * variant[chunk.first] for chunk in chunks), default=0)
    return Shares(n, chunks, n * (kept + max(largest, whole)) + tables)


def chunks_of(starts: Sequence[Start], stack: Sequence[int], small: Sequence[int]) -> tuple[Chunk, ...]:
    """Which variants share a pass.

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
