"""How many prompts go through the model together: bounded by the attention patterns of one layer."""

from __future__ import annotations

from llmtrace.models import TraceModel, describe
from llmtrace.prompts import PromptSet

PATTERNS = 2**25  # numbers: 128 MiB in float32


def prompt_batches(model: TraceModel, prompts: PromptSet, batch_size: int | None) -> list[slice]:
    """Slices of at most `batch_size` prompts; None: as many as have patterns of PATTERNS numbers in a layer."""
    per_prompt = describe(model).n_heads * prompts.clean.shape[1] ** 2
    return prompts.batches(max(1, PATTERNS // per_prompt) if batch_size is None else batch_size)
