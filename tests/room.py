"""As many bytes as hold so many prompts: for tests that split a batch, where memory is spent differently and no number
changes."""

from __future__ import annotations

from typing import Any

from llmtrace.circuits import Graph
from llmtrace.circuits.running.needed_memory import bytes_to_run, bytes_to_score
from llmtrace.influence.tokens.attention.pattern_batches import pattern_bytes
from llmtrace.models import describe
from llmtrace.models.memory import bytes_per_position
from llmtrace.prompts import PromptSet


def for_passes(model: Any, n: int, width: int) -> int:
    """Of plain passes over `n` prompts of `width` tokens."""
    return n * width * bytes_per_position(describe(model), width, model.W_E.element_size())


def for_patterns(model: Any, n: int, prompts: PromptSet, *, layers: int = 1) -> int:
    """Of passes that keep the patterns of so many layers."""
    return n * pattern_bytes(model, prompts, layers=layers)


def to_score(model: Any, prompts: PromptSet, n: int, *, buffers: int = 1, points: int = 1) -> int:
    """Bytes in which the edges of n prompts are scored at once."""
    each, result = bytes_to_score(model, Graph.of(model), prompts, buffers=buffers, points=points)
    return result + n * each


def to_run(model: Any, prompts: PromptSet, n: int, ablation: str) -> int:
    """Bytes in which a circuit runs on n prompts at once."""
    ground, each = bytes_to_run(model, Graph.of(model), prompts, buffers=1 if ablation == "resample" else 2)
    return (len(prompts) if ablation == "mean" else n) * ground + n * each
