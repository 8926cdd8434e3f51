"""Files appear whole or not at all: everything is written beside its destination and renamed into place.

What a killed program left half-made is cleared by the next that writes there. A draft in use is locked (a lock ends
with its program, however that ends), so nobody's work is taken for what nobody finishes.
"""

from __future__ import annotations

import glob
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from llmtrace.errors import FileFormatError, InputError, NotFoundError

DRAFT = ".llmtrace-draft"
# What our files say they are -> what it is, and who reads it.
READERS = {
    "llmtrace.trace": ("a trace", "lt.load_trace"),
    "llmtrace.circuit": ("a circuit", "lt.Circuit.load"),
    "llmtrace.result": ("a result", "lt.load_result"),
    "llmtrace.flow_graph": ("a flow graph", "lt.influence.FlowGraph.load"),
    "llmtrace.definition": ("a known circuit", "lt.circuits.load_definition"),
}
FILE_ENDINGS = (
    ".json",
    ".jsonl",
    ".safetensors",
    ".html",
    ".csv",
    ".txt",
    ".pt",
    ".pth",
    ".npz",
    ".pkl",
    ".zip",
    ".png",
)
HAS_LOCKS = find_spec("fcntl") is not None  # on Windows folders have none, and what was left stays


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
    _make_parent(path)
    _clear_abandoned(path)
    held, lock = _draft(path)
    new, old = held / "new", held / "old"
    try:
        new.mkdir(mode=0o755)
        yield new
        if path.exists():
            os.replace(path, old)
        try:
            os.replace(new, path)
        except OSError:
            if old.exists():
                os.replace(old, path)
            raise
    finally:
        shutil.rmtree(held, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def _draft(path: Path) -> tuple[Path, int | None]:
    """A new folder beside `path`, locked, and its lock."""
    while True:
        held = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=DRAFT, dir=path.parent))
        if not HAS_LOCKS:
            return held, None
        lock = os.open(held, os.O_RDONLY)
        _locked(lock)
        if held.exists():  # nobody took it for abandoned before it was locked
            return held, lock
        os.close(lock)


def _clear_abandoned(path: Path) -> None:
    """Remove drafts of `path` that no living program holds, and put back what one had moved out of the way."""
    for held in path.parent.glob(f".{glob.escape(path.name)}.????????{DRAFT}") if HAS_LOCKS else ():
        lock = os.open(held, os.O_RDONLY)
        if _locked(lock):
            if not path.exists() and (held / "old").exists():
                os.replace(held / "old", path)
            shutil.rmtree(held, ignore_errors=True)
        os.close(lock)


def _locked(folder: int) -> bool:
    """Whether the open folder is this program's now. Where a disk has no locks, nothing is known to be abandoned."""
    import fcntl

    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def write_text(path: str | Path, text: str) -> None:
    """Write one file atomically. Raises InputError where a folder is in its place."""
    write_bytes(path, text.encode())


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write one file atomically. Raises InputError where a folder is in its place."""
    path = Path(path)
    if path.is_dir():
        raise InputError(f"Expected the name of a file, but {path.name!r} is a folder; add a file name.")
    _make_parent(path)
    handle, draft = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.chmod(draft, 0o644)
        os.replace(draft, path)
    finally:
        Path(draft).unlink(missing_ok=True)


def _make_parent(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise InputError(
            f"Expected a folder for {path.name!r}, but a file is in its place ({path.parent.name!r}); choose another."
        ) from error


def write_json(path: str | Path, content: Any) -> None:
    """Write a JSON file atomically. Raises InputError for numbers that JSON does not have (NaN, infinity)."""
    try:
        text = json.dumps(content, indent=1, allow_nan=False)
    except ValueError as error:
        raise InputError(
            f"Expected finite numbers to write into {Path(path).name!r}, got NaN or infinity; "
            "look for them in what you save."
        ) from error
    write_text(path, text + "\n")


def read_json(path: str | Path) -> dict[str, Any]:
    """A JSON object; a missing or broken file is one sentence."""
    path = Path(path)
    if not path.is_file():
        raise NotFoundError(f"Expected the file {path.name!r}, {instead_of_file(path)}.")
    try:
        content = json.loads(path.read_text(encoding="utf-8"), parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        if what := what_is_at(path):
            raise FileFormatError(f"Expected a JSON file, but {path.name!r} is {what}.") from None
        raise FileFormatError(
            f"{path.name!r} is not readable JSON ({error}); it is truncated or not ours: write it again."
        ) from None
    if not isinstance(content, dict):
        raise FileFormatError(
            f"Expected a JSON object in {path.name!r}, got {type(content).__name__}; give a file that llmtrace wrote."
        )
    return content


def what_is_at(path: Path) -> str:
    """What of ours lies there, and who reads it: "a trace; read it with lt.load_trace('run')". Nothing for other files.

    Reads no more than a file's head, or JSON."""
    for name in ("trace.json", "circuit.json") if path.is_dir() else ():
        if (path / name).is_file() and (what := what_is_at(path / name)):
            return what
    if not path.is_file():
        return ""
    try:
        kind = _kind_of(path)
    except (ValueError, OSError, RecursionError):
        return ""
    if kind not in READERS:
        return ""
    what, reader = READERS[kind]
    shown = path.parent if kind == "llmtrace.trace" else path
    return f"{what}; read it with {reader}({str(shown)!r})"


def instead_of_file(path: Path) -> str:
    """Why a file is not to be read at `path`: there is none, or a folder with something of ours."""
    what = what_is_at(path)
    return f"but there is {what}" if what else "found none at that path; check the path"


def _kind_of(path: Path) -> object:
    """What a file says it is: in the header of a safetensors file, or in its JSON."""
    if path.suffix == ".safetensors":
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            head = json.loads(file.read(min(size, 1 << 24)))
        return head.get("__metadata__", {}).get("kind") if isinstance(head, dict) else None
    content = json.loads(path.read_text(encoding="utf-8"), parse_constant=_no_number)
    return content.get("kind") if isinstance(content, dict) else None


def require_suffix(path: str | Path, suffix: str, what: str, table: str = "") -> None:
    """Refuse a file name that says another format than is written; a name that says none is taken."""
    found = Path(path).suffix
    if found and found != suffix and not found[1:].isdigit():
        raise InputError(
            f"Expected a name that ends in {suffix!r} ({what} is such a file), got {Path(path).name!r}; "
            f"rename it{table}."
        )


def require_folder(path: str | Path, what: str) -> None:
    """Refuse the name of a file for what is a folder."""
    name = Path(path)
    if name.suffix.lower() in FILE_ENDINGS:
        raise InputError(
            f"Expected the name of a folder ({what} is one), got {name.name!r}, which ends as a file; write "
            f"{str(name.with_suffix(''))!r}."
        )


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is not a number of JSON")


def first_problem(error: Exception) -> str:
    """What pydantic (or one of ours) complains of first, and where in the file that is."""
    found = error.errors() if hasattr(error, "errors") else []
    if not found:
        return str(error).splitlines()[0]
    return f"{'.'.join(map(str, found[0]['loc']))}: {found[0]['msg']}"


def require_schema(content: dict[str, Any], kind: str, version: int, name: str) -> None:
    """Refuse a file of another kind or of a newer schema than this program knows."""
    if (found := content.get("kind")) != kind:
        other, reader = READERS.get(str(found), ("", ""))
        advice = f"it is {other}: read it with {reader}" if other else "give another file"
        raise FileFormatError(f"Expected a {kind} file, but {name!r} says it is {found!r}; {advice}.")
    found = content.get("schema_version")
    if not isinstance(found, int) or not found >= 1:
        raise FileFormatError(
            f"Expected a schema version from 1 to {version} in {name!r}, got {found!r}; write it again."
        )
    if found > version:
        raise FileFormatError(
            f"{name!r} has schema version {found!r} and this llmtrace reads up to {version}; upgrade llmtrace-interp."
        )
