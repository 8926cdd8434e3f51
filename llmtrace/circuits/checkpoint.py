"""The state of a long discovery on disk, so that a run that was stopped goes on where it was, with the same result.

One safetensors file: named tensors and the fingerprint of the run they belong to. It is written now and then and
deleted when all is done; the file of another run is refused.
"""

from __future__ import annotations

import time
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from llmtrace.errors import FileFormatError, InputError, MismatchError
from llmtrace.files import write_bytes

KIND = "llmtrace.discovery"
SECONDS = 10.0  # between two writings


class Checkpoint:
    """Tensors at a path (None: nowhere)."""

    def __init__(self, path: str | Path | None, fingerprint: str):
        self.path, self._fingerprint = None if path is None else Path(path), fingerprint
        self._written = time.monotonic()
        if self.path is not None and self.path.is_dir():
            raise InputError(f"Expected a file to resume from, but {self.path.name!r} is a folder; add a file name.")

    def read(self) -> dict[str, Tensor] | None:
        """What was saved, or None at a fresh start. Raises MismatchError for the file of another run."""
        if self.path is None or not self.path.exists():
            return None
        try:
            with safe_open(self.path, framework="pt") as file:
                about = file.metadata() or {}
                found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise FileFormatError(
                f"{self.path.name!r} holds no discovery that was stopped ({error}); name another file, or delete it."
            ) from None
        if about.get("kind") != KIND or about.get("fingerprint") != self._fingerprint:
            raise MismatchError(
                f"{self.path.name!r} belongs to another discovery (other model, prompts, metric or options); "
                "name another file, or delete it."
            )
        return found

    @property
    def due(self) -> bool:
        return self.path is not None and time.monotonic() - self._written > SECONDS

    def write(self, state: dict[str, Tensor]) -> None:
        if self.path is None:
            return
        about = {"kind": KIND, "fingerprint": self._fingerprint}
        tensors = {name: value.detach().cpu().contiguous() for name, value in state.items()}
        write_bytes(self.path, save(tensors, metadata=about))
        self._written = time.monotonic()

    def done(self) -> None:
        if self.path is not None:
            self.path.unlink(missing_ok=True)
