"""Traces on disk: a folder with `trace.json` (what it is) and `tensors.safetensors` (the numbers). No pickle.

The manifest carries a schema version, the size and sha256 of the tensor file, and the provenance of the run; its JSON
Schema is `trace_json_schema()`. Tensors are read one at a time, when they are asked for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from llmtrace.errors import FileFormatError, NotFoundError
from llmtrace.files import (
    atomic_folder,
    first_problem,
    instead_of_file,
    read_json,
    require_folder,
    require_schema,
    write_json,
)

SCHEMA_VERSION = 1
KIND = "llmtrace.trace"
TENSORS = "tensors.safetensors"


class TraceManifest(BaseModel):
    """`trace.json`."""

    model_config = ConfigDict(extra="forbid")

    kind: str
    schema_version: int
    prompts: str
    side: str
    seed: int | None
    labels: list[list[str]]
    kept_names: list[str]
    activations: dict[str, list[int]]  # hook name -> shape
    tensor_bytes: int
    tensor_sha256: str
    provenance: dict[str, Any]


def trace_json_schema() -> dict[str, Any]:
    """The JSON Schema of `trace.json`."""
    return TraceManifest.model_json_schema()


def write_trace(
    path: str | Path,
    activations: Mapping[str, Tensor],
    others: Mapping[str, Tensor],
    header: dict[str, Any],
    *,
    overwrite: bool,
) -> Path:
    """Write a trace into the new folder `path`. Raises InputError when it exists and overwrite is not set."""
    require_folder(path, "a trace")
    tensors = {_key(name): value for name, value in activations.items()} | dict(others)
    with atomic_folder(path, overwrite=overwrite) as draft:
        # safetensors refuses tensors that share memory, and a captured resid_post is the next resid_pre
        save_file({name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}, draft / TENSORS)
        manifest = TraceManifest(
            kind=KIND,
            schema_version=SCHEMA_VERSION,
            activations={name: list(value.shape) for name, value in activations.items()},
            tensor_bytes=(draft / TENSORS).stat().st_size,
            tensor_sha256=_sha256(draft / TENSORS),
            **header,
        )
        write_json(draft / "trace.json", manifest.model_dump())
    return Path(path)


def read_trace(path: str | Path) -> tuple[TraceManifest, LazyTensors]:
    """The manifest, and the tensors still on disk.

    Raises NotFoundError when there is none, FileFormatError when it is truncated, tampered with, or of a newer schema.
    """
    path = Path(path)
    if not (path / "trace.json").is_file():
        raise NotFoundError(f"Expected the folder of a trace at {path.name!r}, {instead_of_file(path)}.")
    content = read_json(path / "trace.json")
    require_schema(content, KIND, SCHEMA_VERSION, "trace.json")
    try:
        manifest = TraceManifest.model_validate(content)
    except ValidationError as error:
        raise FileFormatError(
            f"trace.json does not follow its schema: {first_problem(error)}; capture it again."
        ) from None
    _require_intact(path / TENSORS, manifest)
    return manifest, LazyTensors(path / TENSORS, tuple(manifest.activations))


class LazyTensors(Mapping[str, Tensor]):
    """Activations on disk: each is read when it is asked for, and not kept."""

    def __init__(self, path: Path, names: tuple[str, ...]):
        self._path, self._names = path, dict.fromkeys(names)

    def read(self, key: str) -> Tensor:
        with safe_open(self._path, framework="pt") as file:
            return torch.as_tensor(file.get_tensor(key))

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._names:
            raise KeyError(name)
        return self.read(_key(name))

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def _require_intact(tensors: Path, manifest: TraceManifest) -> None:
    if not tensors.is_file():
        raise FileFormatError(f"Expected {TENSORS} beside trace.json, found none; the trace is incomplete.")
    if (size := tensors.stat().st_size) != manifest.tensor_bytes:
        raise FileFormatError(f"{TENSORS} has {size} bytes and should have {manifest.tensor_bytes}; it is truncated.")
    if _sha256(tensors) != manifest.tensor_sha256:
        raise FileFormatError(f"{TENSORS} is not what was saved (its sha256 differs); capture the trace again.")
    try:
        with safe_open(tensors, framework="pt") as file:
            stored = set(file.keys())
    except SafetensorError as error:
        raise FileFormatError(f"{TENSORS} cannot be read ({error}); capture the trace again.") from None
    missing = set(map(_key, manifest.activations)) - stored
    if missing:
        raise FileFormatError(f"{TENSORS} lacks {sorted(missing)[0]!r}, which trace.json lists.")


def _key(name: str) -> str:
    """Activations have their own prefix, so that no hook name can collide with `tokens`."""
    return f"activation:{name}"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _digest(file)


def _digest(file: Any) -> str:  # Python 3.10 has no file_digest
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()
