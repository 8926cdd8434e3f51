"""How much fits at once: memory by itself, or as many bytes as the user says.

A pass of stacked variants needs, beside the weights and the kept runs, the widest moment of one block. `auto` takes a
quarter of what is free, and on a CPU no more than `CPU_ENOUGH` of it for the stack: a larger one is not faster there.
"""

from __future__ import annotations

import os
import re

import torch

from llmtrace.errors import InputError, LimitError
from llmtrace.models.architecture import Architecture

Memory = int | str  # bytes, "auto", or "512MB"
CPU_ENOUGH = 64 * 2**20
UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 2**10, "mi": 2**20, "gi": 2**30}


def budget(memory: Memory, device: torch.device) -> int:
    """Bytes. Raises InputError for what is no amount of memory."""
    if memory == "auto":
        return free_memory(device) // 4
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?([kmg]i?)?b?", str(memory).lower())
    amount = int(float(match[1]) * UNITS[match[2] or ""]) if match else 0
    if isinstance(memory, bool) or amount < 1:
        raise InputError(f"Expected memory as bytes, 'auto' or a size such as '512MB', got {memory!r}.")
    return amount


def stack_room(total: int, kept: int, memory: Memory, device: torch.device) -> int:
    """Bytes for stacked variants beside the kept runs; on a CPU, unless the user says how much, what is enough."""
    room = total - kept
    return min(room, CPU_ENOUGH) if memory == "auto" and device.type == "cpu" else room


def free_memory(device: torch.device) -> int:
    """Bytes that nobody uses; 2 GB where the system does not tell."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return 2 * 10**9


def bytes_per_position(arch: Architecture, keys: int, itemsize: int) -> int:
    """The widest moment of one block, for one position of one prompt that attends to `keys` positions."""
    attention = 4 * arch.n_heads * arch.d_head + 4 * arch.n_heads * keys
    mlp = (4 if arch.gated else 3) * arch.d_mlp
    return itemsize * (5 * arch.d_model + max(attention, mlp))


def kept_bytes(arch: Architecture, positions: int, itemsize: int) -> int:
    """What one prompt's kept run takes: every residual stream, all keys and values."""
    return itemsize * positions * arch.n_layers * (arch.d_model + 2 * arch.n_kv_heads * arch.d_head)


def at_once(room: int, each: int, most: int, what: str, *, asked: Memory) -> int:
    """How many of `each` bytes fit into `room`, at most `most`. Raises LimitError when not even one does."""
    if room < each and asked != "auto":
        raise LimitError(
            f"Expected room for {what}, which takes {size(each)}, got memory={asked!r}; "
            "allow more, or use shorter prompts."
        )
    return max(1, min(most, room // max(1, each)))


def size(amount: int) -> str:
    """`1.5 GB`."""
    for unit, step in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if amount >= step:
            return f"{amount / step:.3g} {unit}"
    return f"{amount:.0f} bytes"
