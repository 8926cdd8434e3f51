"""`Format`: one row of the table of file formats - its writer, its reader where it has one, and how a file is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from llmtrace.circuits.circuit import Circuit
from llmtrace.errors import InputError, UnsupportedError
from llmtrace.methods import Method


@dataclass(frozen=True)
class Format(Method):
    """`function(circuit, path, **options)` writes; `read(path, *, graph, **options)` reads.

    suffix   what its files end in; "" where it is a folder
    alone    that suffix belongs to this format only, so it can be guessed from it
    """

    read: Callable[..., Circuit] | None = None
    suffix: str = ".json"
    alone: bool = True

    def require_read(self) -> Callable[..., Circuit]:
        """The reader. Raises UnsupportedError for a format that is a drawing."""
        if self.read is None:
            raise UnsupportedError(
                f"{self.name} files are drawings and do not hold a whole circuit, so they are only written; "
                "import a file of another format."
            )
        return self.read

    def require_suffix(self, path: Path) -> None:
        """Refuse a name that no reader of this format would take for its own."""
        if self.suffix and path.suffix != self.suffix:
            raise InputError(
                f"Expected a file name that ends in {self.suffix} for {self.name}, got {path.name!r}; rename it."
            )
