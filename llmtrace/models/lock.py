"""One lock per model, held while hooks are on it: a hook of one thread's pass would fire in the passes of all others.

The lock is re-entrant: a hook may run the model again. It covers passes, and what runs a module of the model by itself
(an MLP), not whole functions: each pass brings its own hooks and takes them off.
"""

from __future__ import annotations

import threading
from typing import Any
from weakref import WeakKeyDictionary

from torch import nn

from llmtrace.errors import InputError

_locks: WeakKeyDictionary[Any, threading.RLock] = WeakKeyDictionary()
_making = threading.Lock()


def lock_of(model: Any) -> threading.RLock:
    """The lock of a model. Passes of your own on a model that another thread traces hold it too: `with lock_of(m):`."""
    if not isinstance(model, nn.Module):
        raise InputError(f"Expected a model, got {type(model).__name__}; make one with llmtrace.load(name).")
    with _making:
        return _locks.setdefault(model, threading.RLock())
