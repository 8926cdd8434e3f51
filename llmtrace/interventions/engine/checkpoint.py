"""The state of a long run on disk, so that a run that was stopped goes on where it was, with the same result.

One safetensors file: named tensors and the fingerprint of the run that they belong to. It is written now and then, and
when a run ends badly; it is deleted when all is done - or, for one who writes the result to disk, when that stands
there (`until_written`); the file of another run is refused. A sweep's state is the metric of every variant that was run
(`partial_results`); a discovery's is its own.
"""

from __future__ import annotations

import hashlib
import inspect
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, fields, is_dataclass
from functools import partial
from pathlib import Path
from types import CodeType, FunctionType, MethodType
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from llmtrace.errors import FileFormatError, InputError, MismatchError
from llmtrace.files import write_bytes

SECONDS = 10.0  # between two writings
_unwritten: ContextVar[list[Path] | None] = ContextVar("unwritten", default=None)


@contextmanager
def until_written() -> Iterator[None]:
    """Files of runs that end within stay, complete, and go when this block ends well: their result stands on disk then,
    and a program killed between computed and written has lost nothing."""
    files: list[Path] = []
    token = _unwritten.set(files)
    try:
        yield
    finally:
        _unwritten.reset(token)
    for file in files:
        file.unlink(missing_ok=True)


class Checkpoint:
    """Tensors at a path (None: nowhere) that belong to one run of a kind, "sweep" or "discovery"."""

    def __init__(self, path: str | Path | None, run: str, *about: object):
        """about   all that decides the run's numbers: a file of other ones is refused"""
        self.path, self.run = None if path is None else Path(path), run
        self.fingerprint = "" if path is None else fingerprint(about)
        self._written = time.monotonic()
        if self.path is not None and self.path.is_dir():
            raise InputError(f"Expected a file to resume from, but {self.path.name!r} is a folder; add a file name.")

    def read(self) -> dict[str, Tensor] | None:
        """What was saved, or None at a fresh start.

        Raises MismatchError for the file of another run, FileFormatError for what is no such file.
        """
        if self.path is None or not self.path.exists():
            return None
        name = self.path.name
        try:
            with safe_open(self.path, framework="pt") as file:
                about = file.metadata() or {}
                found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise FileFormatError(
                f"{name!r} holds no partial results ({error}); name another file, or delete it."
            ) from None
        if about.get("kind") != f"llmtrace.{self.run}":
            raise FileFormatError(f"{name!r} holds no partial results of a {self.run}; name another file.")
        if about.get("fingerprint") != self.fingerprint:
            raise MismatchError(
                f"{name!r} holds partial results of another {self.run} (other model, prompts, metric or options); "
                "name another file, or delete it."
            )
        return found

    @property
    def due(self) -> bool:
        return self.path is not None and time.monotonic() - self._written > SECONDS

    def write(self, state: Mapping[str, Tensor]) -> None:
        if self.path is None:
            return
        about = {"kind": f"llmtrace.{self.run}", "fingerprint": self.fingerprint}
        tensors = {name: value.detach().cpu().contiguous() for name, value in state.items()}
        write_bytes(self.path, save(tensors, metadata=about))
        self._written = time.monotonic()

    def done(self, state: Mapping[str, Tensor]) -> None:
        if self.path is None:
            return
        if (files := _unwritten.get()) is None:
            self.path.unlink(missing_ok=True)
        else:
            self.write(state)
            files.append(self.path)


@dataclass(eq=False)
class Partial:
    """`values[variant, prompt]` is known where `done` says so."""

    values: Float[Tensor, "variant batch"]
    done: Bool[Tensor, "variant batch"]
    checkpoint: Checkpoint | None = None

    def has(self, variants: Sequence[int], rows: slice) -> bool:
        return bool(self.done[list(variants), rows].all())

    def put(self, variants: Sequence[int], rows: slice, values: Float[Tensor, "some batch"]) -> None:
        self.values[list(variants), rows] = values
        self.done[list(variants), rows] = True
        if self.checkpoint and self.checkpoint.due:
            self.save()

    def save(self) -> None:
        assert self.checkpoint is not None
        self.checkpoint.write(self.state)

    @property
    def state(self) -> dict[str, Tensor]:
        return {"values": self.values, "done": self.done}


@contextmanager
def partial_results(path: str | Path | None, about: Callable[[], object], values: Tensor) -> Iterator[Partial]:
    """Results to be filled in, taken from `path` where a run was stopped before. `about` is asked where there is one.

    Raises MismatchError for the file of another sweep, FileFormatError for what is no such file.
    """
    done = torch.zeros(values.shape, dtype=torch.bool)
    if path is None:
        yield Partial(values, done)
        return
    checkpoint = Checkpoint(path, "sweep", about(), list(values.shape))
    state = checkpoint.read() or {"values": values, "done": done}
    partial = Partial(state["values"].to(values), state["done"], checkpoint)
    try:
        yield partial
    except BaseException:
        partial.save()
        raise
    checkpoint.done(partial.state)


def fingerprint(*parts: object) -> str:
    """sha256 over values: tensors by their bytes, dataclasses by their fields, functions by their code and by what they
    close over. What has no value of its own (any other object) is itself alone: no other run is taken for its own."""
    seen: dict[int, tuple[object, bytes]] = {}  # sweeps share tensors among many changes; held, so that no id is reused

    def digest(value: object) -> bytes:
        if id(value) not in seen:
            seen[id(value)] = value, b"itself"  # a function may close over itself
            seen[id(value)] = value, hashlib.sha256(b"".join(words(value))).digest()
        return seen[id(value)][1]

    def words(value: object) -> Iterator[bytes]:
        yield type(value).__name__.encode()
        if isinstance(value, Tensor):
            plain = value.detach().cpu().contiguous()
            yield f"{tuple(plain.shape)} {plain.dtype}".encode()
            yield plain.flatten().view(torch.uint8).numpy().tobytes()
        elif isinstance(value, np.ndarray):
            yield f"{value.shape} {value.dtype}".encode() + value.tobytes()
        elif is_dataclass(value) and not isinstance(value, type):
            yield from (digest(getattr(value, field.name)) for field in fields(value))
        elif isinstance(value, Mapping):
            yield from (digest(part) for item in value.items() for part in item)
        elif isinstance(value, list | tuple):
            yield from map(digest, value)
        elif isinstance(value, set | frozenset):
            yield from sorted(map(digest, value))
        elif isinstance(value, FunctionType | MethodType | partial | CodeType):
            yield from map(digest, _of_function(value))
        elif isinstance(value, nn.Module):
            yield repr(value).encode()  # its weights are the model's
        else:
            yield (getattr(value, "__qualname__", None) or repr(value)).encode()

    return digest(parts).hex()


def _of_function(value: FunctionType | MethodType | partial[Any] | CodeType) -> tuple[object, ...]:
    """What a function does: its code, what it closes over, its defaults and the plain values that it finds outside."""
    match value:
        case partial():
            return value.func, value.args, value.keywords
        case MethodType():
            return value.__func__, value.__self__
        case CodeType():
            return value.co_code, value.co_names, value.co_consts
    assert isinstance(value, FunctionType)
    closed = inspect.getclosurevars(value).nonlocals
    outside = {name: value.__globals__.get(name) for name in value.__code__.co_names}
    plain = {name: x for name, x in outside.items() if isinstance(x, bool | int | float | str | tuple | list | Tensor)}
    return value.__qualname__, value.__code__, closed, value.__defaults__, value.__kwdefaults__, plain
