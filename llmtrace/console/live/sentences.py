"""Sentences of a prompt as spans, and what a method's scores make of them; nothing where there is one alone."""

from __future__ import annotations

from collections.abc import Sequence

from llmtrace.console.schemas import Span

ENDS = (".", "!", "?", "\n")


def spans_of(tokens: Sequence[str], scores: Sequence[float]) -> list[Span]:
    """Sums of scores; the first token that stands for no text is in the first sentence."""
    ends = [i + 1 for i, text in enumerate(tokens) if text.rstrip(" ").endswith(ENDS) and i + 1 < len(tokens)]
    begins = [0, *ends]
    if len(begins) < 2 or len(scores) < len(tokens):
        return []
    return [
        Span(name=f"sentence {i + 1}", start=start, end=end, score=sum(scores[start:end]))
        for i, (start, end) in enumerate(zip(begins, [*ends, len(tokens)], strict=True))
    ]
