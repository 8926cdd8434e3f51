"""`result.json` of the command line: effects of patch, paths and ablate, scores of nodes and of tokens."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

from llmtrace.console.schemas import Attribution, HeadMap, Overview
from llmtrace.console.stored.effects import put_effects
from llmtrace.console.stored.found import Found, StoredRun, stored_run, texts
from llmtrace.console.stored.places import on_map
from llmtrace.errors import FileFormatError
from llmtrace.files import read_json, require_schema

KIND, VERSION = "llmtrace.cli.", 1
EFFECTS = ("patch", "paths", "ablate")


def read_document(path: Path) -> Found:
    """Raises FileFormatError for a file that is damaged, or no such document."""
    about = read_json(path)
    command = str(about.get("command", ""))
    require_schema(about, KIND + command, VERSION, path.name)
    try:
        if command in EFFECTS:
            return _effects(path, about)
        return _influence(path, about) if command == "influence" else Found()
    except Exception as error:  # whatever a damaged file ends in
        raise FileFormatError(f"{path.name!r} is damaged ({type(error).__name__}: {error}); write it again.") from error


def _run(path: Path, document: dict[str, Any], name: str, **more: Any) -> StoredRun:
    python = f"import json\n\nwith open({str(path)!r}) as file:\n    result = json.load(file)['rows']\n"
    return stored_run(name, python, document["provenance"] or {}, metric=document["metric"] or "", **more)


def _effects(path: Path, about: dict[str, Any]) -> Found:
    rows, summary = about["rows"], about["summary"]
    run = _run(path, about, f"{about['command']}: means over {about['prompts']['n']} prompts", about=rows)
    values = {" + ".join(row["nodes"]): float(row["change"]) for row in rows}
    why = put_effects(run, about["command"], values, before=summary["before"], other=summary["other"],
                      passes=summary["passes"])  # fmt: skip
    return Found([] if why else [run], {"": why} if why else {})


def _influence(path: Path, about: dict[str, Any]) -> Found:
    rows, method = about["rows"], about["summary"]["method"]
    if rows and "node" in rows[0] and "mean" in rows[0]:
        run = _run(path, about, f"{method}: means over {about['prompts']['n']} prompts", about=rows)
        grid = on_map({row["node"]: row["mean"] for row in rows})
        if grid is None:
            return Found(why={"overview": "The scores are of some nodes only, which fill no map of heads."})
        python = run.about.python
        drawn = HeadMap(title=method, unit=about["metric"] or "", what=f"{method}, mean over the prompts.",
                        heads=grid[0], mlps=grid[1], python=python)  # fmt: skip
        run.put("overview", Overview(run=run.about.id, maps=[drawn], explained=None, python=python))
        return Found([run])
    if not rows or "source" not in rows[0]:
        return Found()
    found, of_prompt = Found(), defaultdict[int, list[dict[str, Any]]](list)
    for row in rows:
        of_prompt[row["prompt"]].append(row)
    for prompt, own in of_prompt.items():
        last = max(row["target"] for row in own)
        sources = sorted((row for row in own if row["target"] == last), key=lambda row: int(row["source"]))
        scores = [float(row["value"]) for row in sources]
        labels = texts([row["source_token"] for row in sources])
        run = _run(path, about, f"{method}, prompt {prompt}", tokens=labels, about=scores)
        run.put("attribution", Attribution(
            run=run.about.id, method=method, what=f"{method}, of the last token.", scores=scores, gap=None,
            occlusion=[], correlation=None, spans=[], python=run.about.python,
        ), method=method)  # fmt: skip
        found.runs.append(run)
    return found
