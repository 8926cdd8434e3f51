"""Run the tutorials and write what they show into them: `python tests/show_tutorials.py [NAMES...]`.

Figures become pictures, which every viewer of notebooks can draw, by the browser that is installed (chromium, or
$BROWSER); the figures that can be turned and read appear when the reader runs the cell. SmolLM2 must be there
(CONTRIBUTING). A test runs the tutorials and holds the outputs that are written to the kinds that come out.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
import plotly.io as pio
from nbclient import NotebookClient

HOME = Path(__file__).resolve().parents[1] / "tutorials"
PLOTLY, PICTURE = "application/vnd.plotly.v1+json", "image/png"
WIDTH, HEIGHT = 900, 450  # where a figure does not say
QUIET = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --hide-scrollbars --virtual-time-budget=5000"
).split()


def picture(figure: dict[str, Any], folder: Path) -> str:
    """The figure as a PNG, in base64."""
    page, shot, layout = folder / "figure.html", folder / "figure.png", figure["layout"]
    drawn = pio.from_json(json.dumps({key: figure[key] for key in ("data", "layout")}))
    drawn.write_html(page, config={"displayModeBar": False})
    size = f"--window-size={int(layout.get('width') or WIDTH)},{int(layout.get('height') or HEIGHT) + 20}"
    browser = [os.environ.get("BROWSER", "chromium"), *QUIET, f"--user-data-dir={folder / 'profile'}", size]
    subprocess.run([*browser, f"--screenshot={shot}", page.as_uri()], check=True, capture_output=True)
    return base64.b64encode(shot.read_bytes()).decode()


def shown(path: Path) -> Any:
    """The notebook with its outputs, without what differs from run to run."""
    with tempfile.TemporaryDirectory() as made:
        notebook = nbformat.read(path, as_version=4)
        for cell in notebook.cells:
            cell.pop("outputs", None)
            if cell.cell_type == "code":
                cell.update(outputs=[], execution_count=None)
        where = {"metadata": {"path": made}}
        done = NotebookClient(notebook, timeout=600, resources=where, record_timing=False).execute()
        for cell in done.cells:
            if cell.cell_type == "code":  # progress goes to stderr
                cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
        for output in (output for cell in done.cells for output in cell.get("outputs", ())):
            if PLOTLY in (data := output.get("data", {})):
                output["data"] = {PICTURE: picture(data[PLOTLY], Path(made))}
    done.metadata.get("language_info", {}).pop("version", None)
    return done


def main(names: list[str]) -> None:
    for path in sorted(HOME.glob("*.ipynb")):
        if not names or path.stem in names:
            nbformat.write(shown(path), path)
            print(path.name, path.stat().st_size, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
