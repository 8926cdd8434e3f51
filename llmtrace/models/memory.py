"""How much fits at once: memory by itself, or as many bytes as the user says.

A pass of stacked variants needs, beside the weights and the kept runs, the widest moment of one block. `auto` takes a
quarter of what is free, and on a CPU no more than `CPU_ENOUGH` of it for the stack: a larger one is not faster there.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

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
    """Bytes that nobody needs; 2 GB where the system does not tell."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:  # what Linux keeps of files it gives back when asked: after much reading hardly any is free, and all available
        found = re.search(r"MemAvailable: *(\d+) kB", Path("/proc/meminfo").read_text())
    except OSError:
        found = None
    if found:
        return 1024 * int(found[1])
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return 2 * 10**9


def bytes_per_position(arch: Architecture, keys: int, itemsize: int) -> int:
    """The widest moment of one block, for one position of one prompt that attends to `keys` positions."""
    attention = 4 * arch.n_heads * arch.d_head + 4 * arch.n_heads * keys
    mlp = (4 if arch.gated else 3) * arch.d_mlp
    return itemsize * (5 * arch.d_model + max(attention, mlp))


def numbers_kept(arch: Architecture, keys: int) -> int:
    """How many numbers autograd keeps of one position of one layer that attends to `keys` positions, its gradients
    included: as measured on SmolLM2 and GPT-2 small's shape."""
    d, heads, mlp = arch.d_model, arch.n_heads * arch.d_head, (6 if arch.gated else 4) * arch.d_mlp
    return 9 * d + 6 * heads + 4 * arch.n_heads * keys + mlp


def in_one_pass(
    arch: Architecture, positions: int, memory: Memory, weight: torch.Tensor, *, enough: int = 2**62
) -> int:
    """How many prompts of so many positions go through one plain pass; `enough`: bytes that "auto" does not go beyond.

    `weight`: any of the model's, for its type and device. Raises LimitError when not even one prompt does.
    """
    room = budget(memory, weight.device)
    each = positions * bytes_per_position(arch, positions, weight.element_size())
    return at_once(min(room, enough) if memory == "auto" else room, each, 2**31, "one prompt", asked=memory)


def pass_numbers(arch: Architecture, positions: int, keys: int) -> int:
    """How many numbers the widest moment of one block holds, for one prompt's last `positions` of `keys` positions.

    Measured as what torch's allocator holds, over kinds of blocks: while keys and values are joined to those that were
    kept, while attention is computed from scores, or within the MLP.
    """
    d, heads, kv_heads = arch.d_model, arch.n_heads * arch.d_head, arch.n_kv_heads * arch.d_head
    joined = (6 if arch.positional == "rotary" else 3) * kv_heads
    joined = max(joined, 2 * (kv_heads + heads)) if arch.group > 1 else joined
    joining = positions * (6 * d + 2 * arch.n_heads * keys) + keys * joined
    attending = positions * (4 * d + 4 * heads + 4 * arch.n_heads * keys) + keys * 2 * kv_heads
    return max(joining, attending, positions * (6 * d + 4 * arch.d_mlp))


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
