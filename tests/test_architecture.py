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
    {"arguments"},
    {"shapes", "progress", "methods", "files", "statistics"},
    {"nodes", "rooms", "results"},
    {"models"},
    {"metrics", "plan"},
    {"prompts"},
    {"signals"},
    {"influence", "interventions"},
    {"circuits", "validation", "audit"},
    {"plots"},
    {"tables", "console"},
    {"cli"},
    {"", "__main__"},  # the package's own __init__ and `python -m llmtrace` stand above everything
)
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
ONLY_IN = {"transformer_lens": "models", "plotly": "plots", "fastapi": "console", "sklearn": "audit"}
HOOK_NAMES = "models/hook_names.py"  # alone in writing TransformerLens' names: blocks.0.attn.hook_z
JUNK_DRAWERS = {"utils", "util", "helpers", "common", "misc", "types", "core"}


def modules(package: Path) -> dict[str, Path]:
    """`llmtrace.models.components.norm` -> its file; a package is its `__init__.py`."""
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


def hook_names_by_hand(package: Path) -> Iterator[str]:
    """Text that spells a hook's or a block's name; docstrings may show one."""
    for path in modules(package).values():
        if path == package / HOOK_NAMES:
            continue
        found = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        alone = {id(node.value) for node in found if isinstance(node, ast.Expr)}
        for node in found:
            text = node.value if isinstance(node, ast.Constant) and id(node) not in alone else None
            if isinstance(text, str) and ("hook_" in text or "blocks." in text):
                yield f"{path.relative_to(package)}:{node.lineno} writes {text!r}; ask {HOOK_NAMES}"


def test_hook_names_are_written_in_one_file() -> None:
    assert list(hook_names_by_hand(PACKAGE)) == []


@pytest.mark.parametrize("line", ["at = f'blocks.{layer}.attn.q'", "name = 'hook_embed'", "f('attn.hook_z')"])
def test_a_hook_name_written_by_hand_is_found(tmp_path: Path, line: str) -> None:
    (tmp_path / "signals.py").write_text(f'"""Reads `blocks.0.hook_resid_pre`."""\n{line}\n', encoding="utf-8")
    (found,) = hook_names_by_hand(tmp_path)
    assert found.startswith("signals.py:2 writes ")


# Functions for those who test or read what is made here
FOR_OTHERS = {"known_circuit": "the truth about a hand-built model", "json_schema": "of documents of the command line"}


def names_for_nobody(package: Path) -> Iterator[str]:
    """Functions and classes that no line of the package says, no room offers and no row names."""
    said, defined = set[str](), dict[str, str]()
    for module, path in modules(package).items():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in tree.body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                decorated = bool(node.decorator_list) and isinstance(node.decorator_list[-1], ast.Call)
                defined |= {} if decorated and "app" in ast.unparse(node.decorator_list[-1]) else {node.name: module}
        for node in ast.walk(tree):
            said |= {node.id} if isinstance(node, ast.Name) else set()
            said |= {node.attr} if isinstance(node, ast.Attribute) else set()
            if isinstance(node, ast.alias) and path.name == "__init__.py":
                said.add(node.name.rpartition(".")[2])
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                said.add(node.value.rpartition(":")[2])
    yield from (f"{module}.{name}" for name, module in defined.items() if name not in said)


def test_no_name_is_for_nobody() -> None:
    """What only tests call is no part of the package, but for what they cannot do without."""
    assert [name for name in names_for_nobody(PACKAGE) if name.rpartition(".")[2] not in FOR_OTHERS] == []


def test_a_name_for_nobody_is_found(tmp_path: Path) -> None:
    (tmp_path / "__init__.py").write_text("from .a import offered", encoding="utf-8")
    text = "def offered(): return used()\ndef used(): ...\ndef lost(): ...\nROW = 'x.a:named'\ndef named(): ..."
    (tmp_path / "a.py").write_text(text, encoding="utf-8")
    assert [name.rpartition(".")[2] for name in names_for_nobody(tmp_path)] == ["lost"]


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
