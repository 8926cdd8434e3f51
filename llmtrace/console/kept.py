"""What is kept between requests: the least recently used goes first when there is too much of it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from threading import Lock
from typing import Generic, TypeVar

V = TypeVar("V")


class Kept(Generic[V]):
    """By key, up to `most` altogether; each weighs 1 or what `put` is told. Threads may share it."""

    def __init__(self, most: int) -> None:
        self._most, self._sum, self._lock = most, 0, Lock()
        self._found: OrderedDict[str, tuple[V, int]] = OrderedDict()

    def get(self, key: str) -> V | None:
        with self._lock:
            if key not in self._found:
                return None
            self._found.move_to_end(key)
            return self._found[key][0]

    def put(self, key: str, value: V, weight: int = 1) -> None:
        with self._lock:
            self._drop(key)
            self._found[key] = (value, weight)
            self._sum += weight
            while self._sum > self._most and len(self._found) > 1:
                self._drop(next(iter(self._found)))

    def items(self) -> Iterator[tuple[str, V]]:
        with self._lock:
            found = [(key, value) for key, (value, _) in self._found.items()]
        return iter(found)

    def _drop(self, key: str) -> None:
        if key in self._found:
            self._sum -= self._found.pop(key)[1]
