"""Who is killed while saving, or serving, loses nothing that was saved before, and shows nothing half-made."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from console_service import CLEAN, OTHER, model

import llmtrace as lt
from llmtrace.console.folder import Folder
from llmtrace.console.schemas import Schema

pytestmark = [
    pytest.mark.usefixtures("as_users_run"),
    pytest.mark.skipif(os.name != "posix", reason="SIGKILL, and folders that are locked"),
]

KILLED = """
import os, signal, sys
from pathlib import Path
import llmtrace as lt
from llmtrace.console.page import save_html

def killed(draft, path):
    assert Path(draft).exists() and Path(draft) != Path(path)
    os.kill(os.getpid(), signal.SIGKILL)

at, what = Path(sys.argv[1]), sys.argv[2]
nouns = {"trace": lt.load_trace, "circuit.json": lt.Circuit.load, "page.html": lambda path: None}
noun = nouns[what](at / what)
os.replace = killed  # all is written, and nothing is in its place yet
match what:
    case "trace": noun.save(at / what, overwrite=True)
    case "circuit.json": noun.save(at / what)
    case "page.html": save_html(at / "trace", at / what)
"""


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    prompts = lt.from_pairs(model(), [(CLEAN, OTHER, "Mary", "John")])
    lt.capture(model(), prompts).save(tmp_path / "run" / "trace")
    lt.discover(model(), prompts, n_edges=30, method="eap").save(tmp_path / "run" / "circuit.json")
    lt.save_html(tmp_path / "run" / "trace", tmp_path / "run" / "page.html")
    return tmp_path / "run"


def shown(folder: Path) -> dict[str, Any]:
    """All that the console shows of it."""
    found = Folder(folder)
    answers = {
        key: answer.model_dump() if isinstance(answer, Schema) else answer for key, answer in found.answers().items()
    }
    return {"runs": [run.model_dump() for run in found.runs()], "missing": found.meta().missing, **answers}


def files(folder: Path) -> dict[str, bytes]:
    """Without drafts, which are hidden."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    names = {path.relative_to(folder).as_posix(): path for path in paths}
    return {name: path.read_bytes() for name, path in names.items() if not name.startswith(".")}


@pytest.mark.parametrize("what", ["trace", "circuit.json", "page.html"])
def test_who_is_killed_while_saving_loses_nothing_that_was_saved(what: str, saved: Path) -> None:
    before, bytes_before = shown(saved), files(saved)
    ended = subprocess.run(
        [sys.executable, "-c", KILLED, str(saved), what], capture_output=True, timeout=120, check=False
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert any(path.name.startswith(f".{what}.") for path in saved.iterdir()), "it was not killed in the middle"
    assert files(saved) == bytes_before
    assert shown(saved) == before


def test_a_console_that_is_killed_leaves_its_folder_as_it_was(saved: Path) -> None:
    pytest.importorskip("uvicorn")
    before, line = files(saved), [sys.executable, "-m", "llmtrace", "console", str(saved), "--no-browser"]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as served:
        try:
            assert served.stdout is not None
            home, _, token = served.stdout.readline().strip().partition("/#token=")
            asked = urllib.request.Request(f"{home}/api/v1/runs", headers={"X-Llmtrace-Token": token})
            with urllib.request.urlopen(asked, timeout=60) as answer:
                assert len(json.load(answer)) == 1
        finally:
            served.kill()
    assert served.returncode == -signal.SIGKILL
    assert files(saved) == before
