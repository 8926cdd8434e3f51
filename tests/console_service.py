"""A console of tiny-english in float64, and its service asked in process."""

from __future__ import annotations

import functools
from typing import Any

import llmtrace as lt

CLEAN = "When Mary and John went to the store, John gave a drink to"
OTHER = "When Mary and John went to the store, Mary gave a drink to"
PORT = 8123
HOME = f"http://127.0.0.1:{PORT}"
PAGE = '<!doctype html><script type="application/json" id="tape"></script><script>draw()</script>'


@functools.cache
def model() -> Any:
    return lt.load("tiny-english", dtype="float64")


def live() -> Any:
    from llmtrace.console.live.source import Live

    return Live(model(), "tiny-english", load="lt.load('tiny-english', dtype='float64')")


def client(source: Any, *, token: str | None = "own", page: str = PAGE) -> Any:
    """A client of the service; `token`: "own" is the right one, None sends none."""
    from starlette.testclient import TestClient

    from llmtrace.console.service.app import make_app

    guard, own = make_app(source, page, port=PORT)
    headers = {} if token is None else {"X-Llmtrace-Token": own if token == "own" else token}
    return TestClient(guard, base_url=HOME, headers=headers, raise_server_exceptions=True)


def logits() -> Any:
    """Of the clean prompt, as the model is now."""
    return lt.models.logits(model(), lt.from_texts(model(), CLEAN).clean)
