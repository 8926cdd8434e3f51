"""`Format`: one row of the table of file formats - its writer, its reader where it has one, and how a file is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any

from llmtrace.errors import InputError, UnsupportedError
from llmtrace.methods import Method, Option, found_at


@dataclass(frozen=True)
class Format(Method):
    """`where(circuit, path, **options)` writes; `read(path, *, graph, **options)` reads and gives a Circuit.

    options  of the writer, for the command line
    read     None: files of this format are drawings
    reads    options of the reader
    suffix   what its files end in; "" where it is a folder
    alone    that suffix belongs to this format only, so it can be guessed from it
    marks    what only files of this format have at the top of their JSON
    holds    what it has names for beyond heads and MLPs: "spans" (positions told apart), "neurons"
    """

    _: KW_ONLY
    read: Callable[..., Any] | str | None = None
    reads: tuple[Option, ...] = ()
    suffix: str = ".json"
    alone: bool = True
    marks: tuple[str, ...] = ()
    holds: tuple[str, ...] = ("neurons",)

    def require_read(self) -> Callable[..., Any]:
        """The reader. Raises UnsupportedError for a format that is a drawing."""
        if self.read is None:
            raise UnsupportedError(
                f"{self.name} files are drawings and do not hold a whole circuit, so they are only written; "
                "import a file of another format."
            )
        reader: Callable[..., Any] = found_at(self.read)
        return reader

    def require_suffix(self, path: Path) -> None:
        """Refuse a name that no reader of this format would take for its own."""
        if self.suffix and path.suffix != self.suffix:
            raise InputError(
                f"Expected a file name that ends in {self.suffix} for {self.name}, got {path.name!r}; rename it."
            )
