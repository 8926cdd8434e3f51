"""A trace: a run for each of its prompts, attention where patterns were captured whole."""

from __future__ import annotations

import hashlib
import re
from functools import partial
from pathlib import Path
from typing import Any

from llmtrace.console.stored.found import Found, stored_run, texts
from llmtrace.errors import FileFormatError
from llmtrace.files import read_json, require_schema

KIND, VERSION, TENSORS = "llmtrace.trace", 1, "tensors.safetensors"
PROMPTS = 32  # shown
LACKING = ("overview", "lens", "attribution", "patch", "paths", "circuit", "generation")  # views
LAYER = re.compile(r"\.(\d+)\.")


def read_trace(folder: Path) -> Found:
    """Raises FileFormatError for one that is truncated, tampered with, or of a newer schema."""
    about = read_json(folder / "trace.json")
    require_schema(about, KIND, VERSION, "trace.json")
    try:
        return _found(folder, about)
    except FileFormatError:
        raise
    except Exception as error:  # whatever a damaged file ends in: a key, a shape, a header
        raise FileFormatError(
            f"{folder.name!r} is damaged ({type(error).__name__}: {error}); capture it again."
        ) from error


def _found(folder: Path, about: dict[str, Any]) -> Found:
    path = folder / TENSORS
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    if digest.hexdigest() != about["tensor_sha256"]:
        raise FileFormatError(f"{TENSORS} of {folder.name!r} is not the file that was written; capture it again.")
    tokens, lengths, labels = _read(path, "tokens"), _read(path, "lengths"), about["labels"]
    names = {int(LAYER.findall(name)[0]): name for name in about["activations"] if name.endswith("pattern")}
    found = Found(why=dict.fromkeys(LACKING, "A trace holds activations; answers and their logits are not in it."))
    whole = not about["kept_names"]
    if not names or not whole:
        kept = "patterns at some positions only" if names else "no attention patterns"
        found.why |= dict.fromkeys(("attention", "attention/layer", "attention/row", "head"),
                                   f"The trace kept {kept}; capture it with what='pattern'.")  # fmt: skip
    for row, text in enumerate(labels[:PROMPTS]):
        n = int(lengths[row])
        run = stored_run(
            f"{about['prompts']} {row} ({about['side']})",
            f"import llmtrace as lt\n\ntrace = lt.load_trace({str(folder)!r})\nresult = trace.labels[{row}][:{n}]\n",
            about["provenance"], tokens=texts(text[:n], tokens[row, :n].tolist()), about=about["tensor_sha256"],
        )  # fmt: skip
        if whole:
            run.patterns = {layer: partial(_pattern, path, name, row, n) for layer, name in sorted(names.items())}
        run.row = row
        found.runs.append(run)
    return found


def _pattern(path: Path, name: str, row: int, n: int) -> Any:
    """[head query key] of one prompt, padding left out."""
    from safetensors import safe_open

    with safe_open(path, framework="np") as file:
        return file.get_slice(_key(file, name))[row : row + 1, :, :n, :n][0].astype("float32")


def _read(path: Path, name: str) -> Any:
    from safetensors import safe_open

    with safe_open(path, framework="np") as file:
        return file.get_tensor(name)


def _key(file: Any, name: str) -> str:
    """An activation's name in the file: its own, behind a prefix where it might be taken for another tensor."""
    return next(key for key in file.keys() if key == name or key.endswith(name))  # noqa: SIM118
