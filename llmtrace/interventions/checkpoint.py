"""Partial results of a long sweep, so that a run that was stopped goes on where it was.

One safetensors file: the metric of every variant that was run, and which these are. It is written now and then, and
when a run ends badly; it is deleted when all is done. A file of another sweep is refused by its fingerprint.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from llmtrace.errors import FileFormatError, InputError, MismatchError
from llmtrace.files import write_bytes

KIND = "llmtrace.partial"
SECONDS = 10.0  # between two writings


@dataclass(eq=False)
class Partial:
    """`values[variant, prompt]` is known where `done` says so."""

    values: Float[Tensor, "variant batch"]
    done: Bool[Tensor, "variant batch"]

    def has(self, variants: Sequence[int], rows: slice) -> bool:
        return bool(self.done[list(variants), rows].all())

    def put(self, variants: Sequence[int], rows: slice, values: Float[Tensor, "some batch"]) -> None:
        self.values[list(variants), rows] = values
        self.done[list(variants), rows] = True


@contextmanager
def partial_results(path: str | Path | None, fingerprint: str, values: Tensor) -> Iterator[Partial]:
    """Results to be filled in, taken from `path` where a run was stopped before.

    Raises MismatchError for the file of another sweep, FileFormatError for what is no such file.
    """
    fresh = Partial(values, torch.zeros(values.shape, dtype=torch.bool))
    if path is None:
        yield fresh
        return
    partial = _Saved(*_read(Path(path), fingerprint, fresh), Path(path), fingerprint)
    try:
        yield partial
    except BaseException:
        partial.save()
        raise
    Path(path).unlink(missing_ok=True)


@dataclass(eq=False)
class _Saved(Partial):
    """Results that are written to a file now and then."""

    path: Path
    fingerprint: str

    def __post_init__(self) -> None:
        self._written = time.monotonic()

    def put(self, variants: Sequence[int], rows: slice, values: Tensor) -> None:
        super().put(variants, rows, values)
        if time.monotonic() - self._written > SECONDS:
            self.save()

    def save(self) -> None:
        about = {"kind": KIND, "fingerprint": self.fingerprint}
        write_bytes(self.path, save({"values": self.values, "done": self.done}, metadata=about))
        self._written = time.monotonic()


def _read(path: Path, fingerprint: str, fresh: Partial) -> tuple[Tensor, Tensor]:
    if path.is_dir():
        raise InputError(f"Expected a file for partial results, but {path.name!r} is a folder; add a file name.")
    if not path.exists():
        return fresh.values, fresh.done
    try:
        with safe_open(path, framework="pt") as file:
            about = file.metadata() or {}
            found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise FileFormatError(
            f"{path.name!r} holds no partial results ({error}); name another file, or delete it."
        ) from None
    if about.get("kind") != KIND or set(found) != {"values", "done"}:
        raise FileFormatError(f"{path.name!r} holds no partial results of llmtrace; name another file.")
    if about.get("fingerprint") != fingerprint or found["values"].shape != fresh.values.shape:
        raise MismatchError(
            f"{path.name!r} holds partial results of another sweep (other model, prompts, metric or interventions); "
            "name another file, or delete it."
        )
    return found["values"].to(fresh.values), found["done"]


def fingerprint(*parts: object) -> str:
    """sha256 over values: tensors by their bytes, dataclasses by their fields, functions by their name."""
    seen: dict[int, bytes] = {}  # sweeps share tensors among many changes

    def digest(value: object) -> bytes:
        if id(value) not in seen:
            seen[id(value)] = hashlib.sha256(b"".join(words(value))).digest()
        return seen[id(value)]

    def words(value: object) -> Iterator[bytes]:
        yield type(value).__name__.encode()
        if isinstance(value, Tensor):
            plain = value.detach().cpu().contiguous()
            yield f"{tuple(plain.shape)} {plain.dtype}".encode()
            yield plain.flatten().view(torch.uint8).numpy().tobytes()
        elif is_dataclass(value):
            yield from (digest(getattr(value, field.name)) for field in fields(value))
        elif isinstance(value, Mapping):
            yield from (digest(part) for item in value.items() for part in item)
        elif isinstance(value, list | tuple):
            yield from map(digest, value)
        else:
            yield (getattr(value, "__qualname__", None) or repr(value)).encode()

    return digest(parts).hex()
