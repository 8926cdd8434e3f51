"""What a refused request gets: one sentence as application/problem+json, never a traceback."""

from __future__ import annotations

from collections.abc import Mapping

from llmtrace.console.schemas import Problem
from llmtrace.errors import Cancelled, LimitError, LLMTraceError, NotFoundError

MEDIA = "application/problem+json"


class Busy(LLMTraceError):
    """The queue is full."""

    seconds = 2


def status_of(error: LLMTraceError) -> int:
    """404 not there, 413 too large, 429 too many, 409 stopped; 422 for all else that cannot be done."""
    kinds = ((NotFoundError, 404), (LimitError, 413), (Busy, 429), (Cancelled, 409))
    return next((status for kind, status in kinds if isinstance(error, kind)), 422)


def problem(status: int, detail: str, title: str = "Refused") -> tuple[int, bytes, Mapping[str, str]]:
    """Status, body, and headers besides its type."""
    more = {"Retry-After": str(Busy.seconds)} if status == 429 else {}
    return status, Problem(title=title, status=status, detail=detail).model_dump_json().encode(), more
