"""`track`: the one place where long work shows a bar, emits events, and can be cancelled.

    with listen(callback):            # console, tests: callback(done, total, label); raise Cancelled to stop
        ...
    for layer in track(range(12), "ablating"):
        ...

Bars go to standard error (data goes to standard output) and only where somebody looks at them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

T = TypeVar("T")
Listener = Callable[[int, int | None, str], None]

_listener: ContextVar[Listener | None] = ContextVar("llmtrace_progress", default=None)


@contextmanager
def listen(callback: Listener) -> Iterator[None]:
    """Send the progress of everything inside to `callback(done, total, label)` instead of a bar.

    The callback cancels by raising `errors.Cancelled`: it is called between steps, never inside one.
    """
    token = _listener.set(callback)
    try:
        yield
    finally:
        _listener.reset(token)


def track(steps: Iterable[T], label: str, *, total: int | None = None) -> Iterator[T]:
    """Yield `steps`, reporting each one that was finished."""
    if total is None and isinstance(steps, Sized):
        total = len(steps)
    callback = _listener.get()
    if callback is None:
        yield from _bar(steps, label, total)
        return
    callback(0, total, label)
    for done, step in enumerate(steps, start=1):
        yield step
        callback(done, total, label)


def _bar(steps: Iterable[T], label: str, total: int | None) -> Iterator[T]:
    if not (sys.stderr.isatty() or _in_a_notebook()) or (total is not None and total < 2):
        yield from steps
        return
    from tqdm.auto import tqdm

    yield from tqdm(steps, desc=label, total=total, leave=False, file=sys.stderr)


def _in_a_notebook() -> bool:
    """Whether this process is a notebook's kernel: one that only runs notebooks has the same modules."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")
