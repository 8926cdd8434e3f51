"""Files appear whole or not at all: everything is written beside its destination and renamed into place."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from llmtrace.errors import FileFormatError, InputError, NotFoundError


@contextmanager
def atomic_folder(path: str | Path, *, overwrite: bool = False) -> Iterator[Path]:
    """A temporary folder that becomes `path` when the block ends well, and vanishes when it does not.

    Raises InputError when `path` exists and `overwrite` is not set, or when it is not a folder.
    """
    path = Path(path)
    if path.exists() and (not overwrite or not path.is_dir()):
        raise InputError(
            f"Expected a new folder, but {path.name!r} exists; choose another name or pass overwrite=True."
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        yield draft
        old = None
        if path.exists():
            old = Path(tempfile.mkdtemp(prefix=f".{path.name}.old.", dir=path.parent)) / path.name
            os.replace(path, old)
        draft.chmod(0o755)
        os.replace(draft, path)
        if old is not None:
            shutil.rmtree(old.parent)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def write_text(path: str | Path, text: str) -> None:
    """Write one file atomically."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, draft = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(draft, 0o644)
        os.replace(draft, path)
    finally:
        Path(draft).unlink(missing_ok=True)


def write_json(path: str | Path, content: Any) -> None:
    write_text(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def read_json(path: str | Path) -> dict[str, Any]:
    """A JSON object; a missing or broken file is one sentence."""
    path = Path(path)
    if not path.is_file():
        raise NotFoundError(f"Expected the file {path.name!r}, found none at that path; check the path.")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise FileFormatError(f"{path.name!r} is not readable JSON ({error}); it is truncated or not ours.") from None
    if not isinstance(content, dict):
        raise FileFormatError(f"Expected a JSON object in {path.name!r}, got {type(content).__name__}.")
    return content


def require_schema(content: dict[str, Any], kind: str, version: int, name: str) -> None:
    """Refuse a file of another kind or of a newer schema than this program knows."""
    if content.get("kind") != kind:
        raise FileFormatError(f"Expected a {kind} file, but {name!r} says it is {content.get('kind')!r}.")
    found = content.get("schema_version")
    if not isinstance(found, int) or found > version:
        raise FileFormatError(
            f"{name!r} has schema version {found!r} and this llmtrace reads up to {version}; upgrade llmtrace-interp."
        )
