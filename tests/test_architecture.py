"""The plan of the house as a program: floors, "only in" rules, no cycles, no junk drawers. Lazy imports count."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "llmtrace"
# A room imports itself and rooms of earlier floors, never its own floor's neighbour. A new room needs a place here.
FLOORS: tuple[set[str], ...] = (
    {"errors"},  # the ground under floor 0: anyone may raise
    {"shapes", "progress", "methods", "files", "statistics"},
    {"nodes"},
    {"models"},
    {"metrics"},
    {"prompts"},
    {"signals"},
    {"influence", "interventions"},
    {"circuits", "validation"},
    {"plots"},
    {"cli"},
    {"", "__main__"},  # the package's own __init__ and `python -m llmtrace` stand above everything
)
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
ONLY_IN = {"transformer_lens": "models", "plotly": "plots", "fastapi": "console"}
JUNK_DRAWERS = {"utils", "util", "helpers", "common", "misc", "types", "core"}


def modules(package: Path) -> dict[str, Path]:
    """`llmtrace.models.norm` -> its file; a package is its `__init__.py`."""
    return {
        ".".join(p.relative_to(package.parent).with_suffix("").parts).removesuffix(".__init__"): p
        for p in sorted(package.rglob("*.py"))
    }


def imported(path: Path, module: str) -> Iterator[str]:
    """Every dotted name that a file imports, inside functions and TYPE_CHECKING blocks too."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            up = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*up, *filter(None, [node.module])])
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and "import" in ast.unparse(node.func) and node.args:
            name = getattr(node.args[0], "value", None)  # import_module("...")
            yield from [name] if isinstance(name, str) else []


def violations(package: Path) -> Iterator[str]:
    """One sentence per broken rule."""
    known, graph = modules(package), {}
    for module, path in known.items():
        room = [*module.split("."), ""][1]
        if room not in FLOOR_OF:
            yield f"{module} has no floor: give the room {room!r} a line in FLOORS"
            continue
        if junk := JUNK_DRAWERS.intersection(module.split(".")):
            yield f"{module}: {junk.pop()!r} says nothing; name the file after what it holds"
        names = set(imported(path, module))
        for outside, home in ONLY_IN.items():
            if room != home and any(name.split(".")[0] == outside for name in names):
                yield f"{module} imports {outside}, which only {home}/ may"
        graph[module] = {t for n in names if (t := _target(n, known, package.name)) and t != module}
        for target in sorted(graph[module]):
            other = [*target.split("."), ""][1]
            if other != room and FLOOR_OF.get(other, -1) >= FLOOR_OF[room]:
                yield f"{module} imports {target}, which is not on an earlier floor"
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as cycle:
        yield f"cycle: {' -> '.join(cycle.args[1])}"


def _target(name: str, known: dict[str, Path], package: str) -> str | None:
    """The module of ours that `name` is, or is in; None for other people's."""
    found = name if name in known else name.rpartition(".")[0]
    return found if found in known and found.split(".")[0] == package else None


def test_the_house_keeps_its_plan() -> None:
    assert list(violations(PACKAGE)) == []


def test_every_file_is_looked_at() -> None:
    assert {"llmtrace", "llmtrace.errors", "llmtrace.models.protocol"} <= set(modules(PACKAGE))


BROKEN = {
    "later floor": ({"metrics.py": "from llmtrace.plots import plot"}, "llmtrace.metrics imports llmtrace.plots,"),
    "same floor": (
        {"influence/a.py": "import llmtrace.interventions"},
        "llmtrace.influence.a imports llmtrace.interventions,",
    ),
    "relative": (
        {"influence/a.py": "from ..interventions import hooks"},
        "llmtrace.influence.a imports llmtrace.interventions,",
    ),
    "lazy": ({"nodes.py": "def f():\n    from llmtrace import models"}, "llmtrace.nodes imports llmtrace.models,"),
    "by string": ({"nodes.py": "import_module('llmtrace.plots')"}, "llmtrace.nodes imports llmtrace.plots,"),
    "the top": ({"nodes.py": "from llmtrace import __version__"}, "llmtrace.nodes imports llmtrace, which"),
    "only in": ({"signals/a.py": "import transformer_lens.utilities"}, "which only models/ may"),
    "only in, lazy": ({"cli/a.py": "def f():\n    import plotly.graph_objects as go"}, "which only plots/ may"),
    "new room": ({"attic/a.py": ""}, "llmtrace.attic.a has no floor"),
    "junk": ({"models/utils.py": ""}, "'utils' says nothing"),
    "cycle": ({"models/a.py": "from .b import x", "models/b.py": "def f():\n    from . import a"}, "cycle: "),
}


@pytest.mark.parametrize(("files", "sentence"), BROKEN.values(), ids=BROKEN)
def test_a_broken_rule_is_found(tmp_path: Path, files: dict[str, str], sentence: str) -> None:
    package = tmp_path / "llmtrace"
    rooms = {f"{room}/__init__.py": "" for room in ("models", "influence", "interventions", "plots")}
    for name, text in {"__init__.py": "", **rooms, **files}.items():
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(text, encoding="utf-8")
    found = list(violations(package))
    assert len(found) == 1 and sentence in found[0], found
