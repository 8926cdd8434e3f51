"""How many prompts go through together (bounded by the patterns of one layer), and which positions are explained."""

from __future__ import annotations

from jaxtyping import Int
from torch import Tensor

from llmtrace.models import TraceModel, describe
from llmtrace.models.memory import Memory, at_once, budget, bytes_per_position
from llmtrace.prompts import PromptSet
from llmtrace.prompts.choice import Choice

PATTERNS = 2**25  # numbers, 128 MiB in float32: more of them at once are not faster


def prompt_batches(model: TraceModel, prompts: PromptSet, memory: Memory, *, layers: int = 1) -> list[slice]:
    """Slices of as many prompts as fit, with the patterns of so many layers kept at a time.

    Under "auto" the patterns of a layer are at most PATTERNS numbers. Raises LimitError when no prompt fits.
    """
    room, each = budget(memory, model.W_E.device), pattern_bytes(model, prompts, layers=layers)
    size = at_once(room, each, len(prompts), "one prompt's patterns", asked=memory)
    in_a_layer = describe(model).n_heads * prompts.clean.shape[1] ** 2
    return prompts.batches(min(size, max(1, PATTERNS // in_a_layer)) if memory == "auto" else size)


def pattern_bytes(model: TraceModel, prompts: PromptSet, *, layers: int = 1) -> int:
    """Of one prompt: the widest moment of a pass, and per layer its patterns, its stream and its MLP's activations."""
    arch, width, itemsize = describe(model), prompts.clean.shape[1], model.W_E.element_size()
    kept = arch.n_heads * width + arch.d_model + (0 if arch.attn_only else 2 * arch.d_mlp)
    return width * (bytes_per_position(arch, width, itemsize) + layers * itemsize * kept)


def target_positions(prompts: PromptSet, positions: Choice | None) -> Int[Tensor, "batch target"]:
    """Named positions or indices of each prompt; None: END, the last real token, where the answer is predicted."""
    return prompts.places(["END"] if positions is None else positions, "positions")
