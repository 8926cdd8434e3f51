"""The page: one file that reads answers from a service, or from the tape that is written into it.

lt.save_html(circuit, "circuit.html")      one file to hand over, without a server and without a network
lt.show(trace)                             the same in a notebook, in a frame of its own
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llmtrace.console.schemas import Meta, Run, Schema, Tape
from llmtrace.errors import FileFormatError, InputError
from llmtrace.files import require_suffix, write_text

PAGE = Path(__file__).parent / "static" / "console.html"
EMPTY = '<script type="application/json" id="tape"></script>'
NOT_BUILT = f"""<!doctype html><html lang="en"><meta charset="utf-8"><title>LLM-Trace console</title>
<p>The page is not built yet: run <code>npm ci && npm run build</code> in llmtrace/console/web.</p>
{EMPTY}</html>"""
UNSAFE = {ord(letter): f"\\u{ord(letter):04x}" for letter in "<>&\u2028\u2029"}
HEIGHT = 720  # pixels, in a notebook
FOLDERS = ("trace.json", "circuit.json", "result.json")  # that a folder is known by


def read_page() -> str:
    """As it was built; in a checkout where nobody has, a page that says so."""
    return PAGE.read_text(encoding="utf-8") if PAGE.is_file() else NOT_BUILT


def policy_of(page: str, connect: str) -> str:
    """A content security policy under which the page's own inline scripts run, and nothing else is loaded."""
    scripts = re.findall(r"<script\b([^>]*)>(.*?)</script\s*>", page, re.DOTALL | re.IGNORECASE)
    own = [text for attributes, text in scripts if "application/json" not in attributes]
    hashes = [f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in own]
    return "; ".join(
        [
            "default-src 'none'", f"script-src {' '.join(hashes) or chr(39) + 'none' + chr(39)}",
            "style-src 'unsafe-inline'", "img-src data: blob:", "font-src data:", f"connect-src {connect}",
            "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'",
        ]
    )  # fmt: skip


def tape_of(meta: Meta, runs: list[Run], answers: Mapping[str, Schema | bytes]) -> Tape:
    """All answers, as a page without a source reads them."""
    as_file = meta.model_copy(update={"mode": "file"})
    said = {key: _plain(found) for key, found in answers.items() if isinstance(found, Schema)}
    listed = [_plain(run) for run in runs]
    return Tape(
        answers={"meta": _plain(as_file), "runs": listed, **said},
        bytes={key: base64.b64encode(found).decode() for key, found in answers.items() if isinstance(found, bytes)},
    )  # fmt: skip


def _plain(found: Schema) -> Any:
    """As JSON says it: a number that is none is null."""
    return json.loads(found.model_dump_json())


def inject(page: str, tape: Tape) -> str:
    """The page with a tape in it. Whatever a tape holds stays text: nothing in it can end the script that holds it."""
    if page.count(EMPTY) != 1:
        raise FileFormatError("Expected a page with one empty place for a tape, got another; build the page again.")
    text = json.dumps(tape.model_dump(mode="json"), ensure_ascii=False, allow_nan=False).translate(UNSAFE)
    return page.replace(EMPTY, EMPTY.replace("></", f">{text}</"))


def save_html(noun: Any, path: str | Path) -> Path:
    """Write one HTML file that shows a result, a trace, a circuit or a folder of these. It needs no server.

    noun   a result of this library (what has `save`), or the path of a folder or file that one was saved to

    Raises InputError for anything else, or a path that does not end in .html.
    """
    require_suffix(path, ".html", "a page")
    write_text(path, page_of(noun))
    return Path(path)


def show(noun: Any, *, height: int = HEIGHT) -> Shown:
    """The page of a result in a notebook: the value of a cell, `height` pixels high."""
    return Shown(page_of(noun), height)


class Shown:
    """What a notebook draws as a frame that can reach nothing outside it."""

    def __init__(self, page: str, height: int) -> None:
        self._page, self._height = page, height

    def _repr_html_(self) -> str:
        return (
            f'<iframe srcdoc="{html.escape(self._page, quote=True)}" sandbox="allow-scripts allow-downloads" '
            f'style="width:100%;height:{self._height}px;border:0" title="LLM-Trace console"></iframe>'
        )

    def __repr__(self) -> str:
        return "The console of a result: the last line of a notebook's cell shows it, save_html writes it."


def page_of(noun: Any) -> str:
    """The page with what a noun holds."""
    from llmtrace.console.folder import Folder

    if isinstance(noun, str | Path):
        found = Folder(Path(noun))
        return inject(read_page(), tape_of(found.meta(), found.runs(), found.answers()))
    if not callable(getattr(noun, "save", None)) or isinstance(noun, type):
        raise InputError(
            f"Expected a result of this library, or the path of one that was saved, got {type(noun).__name__}; "
            "see lt.results."
        )
    with tempfile.TemporaryDirectory() as place:
        kind = type(noun).__name__
        names = {"Trace": "trace", "Circuit": "circuit.json", "FlowGraph": "flow_graph.json"}
        noun.save(Path(place) / names.get(kind, f"{kind.lower()}.safetensors"))
        found = Folder(Path(place), title=kind)
        return inject(read_page(), tape_of(found.meta(), found.runs(), found.answers()))
