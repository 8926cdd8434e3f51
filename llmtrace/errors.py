"""Every error of the package: one sentence that says what was expected, what came and what to do.

A researcher reads the sentence; a program reads the class; a shell reads `exit_code` (README, "Exit codes").
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class LLMTraceError(Exception):
    """Base of all errors raised on purpose by llmtrace."""

    exit_code = 1


class InputError(LLMTraceError):
    """An argument, prompt or metric that cannot mean anything."""

    exit_code = 2


class NotFoundError(LLMTraceError):
    """A model, file, node or method of that name does not exist."""

    exit_code = 3


class LimitError(LLMTraceError):
    """The request does not fit: context length, memory, size."""

    exit_code = 4


class NoWeightsError(LLMTraceError):
    """The model exists but its weights cannot be had here (no network, a gated repository)."""

    exit_code = 5


class UnsupportedError(LLMTraceError):
    """The number would be silently wrong on this architecture, so it is refused."""


class MetricError(UnsupportedError, InputError):
    """The number would be silently wrong for this metric, on any model: the argument must change, so it is usage."""


class CheckError(LLMTraceError):
    """A model that does not compute what its source computes, or computes NaN."""


class FileFormatError(LLMTraceError):
    """A file that is truncated, tampered with, of a newer schema, or not ours."""


class MismatchError(LLMTraceError):
    """Two things that do not belong together: a circuit and another model, a trace and other prompts."""


class Cancelled(LLMTraceError):
    """A long run was stopped from outside; nothing was written."""

    exit_code = 130


def did_you_mean(name: object, known: list[str], *, n: int = 3) -> str:
    """` Did you mean 'gpt2-small'?` or nothing: the tail of a `NotFoundError`."""
    by_lower = {k.lower(): k for k in known}
    text = str(name).lower()
    close = [by_lower[c] for c in get_close_matches(text, list(by_lower), n=n, cutoff=0.6)]
    close = close or [known for lower, known in by_lower.items() if len(lower) > 2 and lower in text][:n]  # "IOI-gpt2"
    return f" Did you mean {' or '.join(repr(c) for c in close)}?" if close else ""


def require_one_of(what: str, known: Iterable[str], got: object) -> None:
    """Refuse a word that is none of those there are."""
    names = [*known]
    if got not in names:
        raise not_one_of(what, names, got)


def not_one_of(what: str, known: Iterable[str], got: object) -> InputError:
    """The error about a word that is none of those there are."""
    names = [*known]
    return InputError(
        f"Expected {what} to be one of {', '.join(names)}, got {got!r}; choose one.{did_you_mean(got, names)}"
    )
