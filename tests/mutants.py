"""Would a wrong sign be noticed? Small mistakes in the mathematics, one at a time, and the tests that should fail.

    python tests/mutants.py --seed 0 --n 200      a sample: an hour on one core, by hand and not in CI

A mistake is one edit: + for -, < for <=, `a - b` turned round, 1 more, `min` for `max`, an `abs()` left out. It is made
in a copy of the repository (`--at`: where; what was learnt of the tests is kept there), never in the working tree.
All tests run once, to learn which functions each enters and how long it takes. Then those that enter the function of
the mistake run, the quickest first, for `--limit` seconds. SURVIVED: the same function in other words, a hole in the
tests, or a mistake that only a slower test sees; somebody has to read it.
"""

import argparse
import ast
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FILES = """statistics.py metrics/**/*.py validation/**/*.py circuits/graph.py circuits/circuit.py
    circuits/edge_scores.py circuits/evaluation/*.py circuits/selection/*.py circuits/discovery/**/*.py
    circuits/running/*.py""".split()
TESTS = """test_statistics.py test_metrics.py validation circuits laws/circuits laws/validation laws/test_symmetry.py
    laws/test_positions.py test_results.py test_nodes.py test_plan.py test_register.py test_docstrings.py""".split()
OPTIONS = ["-q", "-p", "no:cacheprovider", "--tb=no", "-o", "addopts=--import-mode=importlib"]  # shapes are not checked
SIGNS = {"+": "-", "-": "+", "*": "/", "/": "*", "//": "/", "**": "*", "%": "//", "&": "|", "|": "&"}
SIGNS |= {"<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "!=", "!=": "==", "is": "is not", "is not": "is"}
SIGNS |= {"and": "or", "or": "and", "+=": "-=", "-=": "+=", "*=": "/=", "|=": "&=", "&=": "|="}
NAMES = {"min": "max", "amin": "amax", "argmin": "argmax", "mean": "sum", "any": "all", "minimum": "maximum"}
NAMES |= {new: old for old, new in NAMES.items()}
DROPPED = {"abs", "clamp", "clone", "masked_fill", "flip", "double", "log", "exp", "sqrt"}
SAME = {"strict", "stable", "index"}  # keywords whose value no result shows
Edit = tuple[int, int, str, int]  # start, stop, new text, first line of the function; in bytes, as `ast` counts


def edits(raw: bytes) -> Iterator[Edit]:
    """Every mistake in a file."""
    lines = [0]
    for line in raw.splitlines(keepends=True):
        lines.append(lines[-1] + len(line))

    def of(node: Any) -> Iterator[tuple[int, int, str]]:
        def at(part: Any) -> tuple[int, int]:
            return lines[part.lineno - 1] + part.col_offset, lines[part.end_lineno - 1] + part.end_col_offset

        def said(part: Any) -> str:
            return raw[slice(*at(part))].decode()

        pair: tuple[Any, ...] = ()
        match node:
            case ast.BinOp(left, op, right):
                pair = left, right
                if isinstance(op, ast.Sub):
                    yield *at(node), f"(({said(right)}) - ({said(left)}))"
            case ast.Compare(left, _, [right, *_]) | ast.BoolOp(_, [left, right, *_]) | ast.AugAssign(left, _, right):
                pair = left, right
            case ast.UnaryOp(_, operand):  # a minus, a not
                yield *at(node), f"({said(operand)})"
            case ast.Constant(bool() | int() | float() as value):
                yield *at(node), str(not value) if isinstance(value, bool) else repr(value + 1)
            case ast.Name(name) | ast.Attribute(_, name) if name in NAMES:
                yield at(node)[1] - len(name), at(node)[1], NAMES[name]
            case ast.Call(ast.Attribute(value, name)) if name in DROPPED:
                yield *at(node), f"({said(value)})"
            case ast.IfExp(test, body, orelse):
                yield *at(node), f"({said(orelse)} if {said(test)} else {said(body)})"
        if pair:
            start, stop = at(pair[0])[1], at(pair[1])[0]
            sign = raw[start:stop].strip(b"() \n")
            if sign.decode() in SIGNS:
                begin = raw.index(sign, start)
                yield begin, begin + len(sign), SIGNS[sign.decode()]

    def walk(node: ast.AST, head: int) -> Iterator[Edit]:
        if isinstance(node, ast.Raise | ast.JoinedStr | ast.Assert | ast.arguments) or getattr(node, "arg", "") in SAME:
            return  # sentences have tests of their own; defaults are choices
        if isinstance(node, ast.FunctionDef):
            head = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
        yield from ((*edit, head) for edit in (of(node) if head else ()))
        for name, child in ast.iter_fields(node):
            if name not in ("annotation", "returns", "decorator_list"):
                for each in child if isinstance(child, list) else [child]:
                    yield from walk(each, head) if isinstance(each, ast.AST) else ()

    yield from walk(ast.parse(raw), 0)


class Plugin:
    """For pytest: without an order it learns, of each test that passes, its seconds and the functions that it enters;
    with one it runs these tests in this order."""

    def __init__(self, package: str, order: list[str] | None):
        self.package, self.order, self.known = f"{package}/", order, dict[str, tuple[float, list[str]]]()

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        if self.order is not None:
            place = {nodeid: place for place, nodeid in enumerate(self.order)}
            items[:] = sorted((i for i in items if i.nodeid in place), key=lambda item: place[item.nodeid])

    def _profile(self, frame: Any, event: str, _: Any) -> None:
        if event == "call" and (name := frame.f_code.co_filename).startswith(self.package):
            self.now.add(f"{name.removeprefix(self.package)}:{frame.f_code.co_firstlineno}")

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self.now, self.failed, self.began = set[str](), False, time.perf_counter()
        sys.setprofile(self._profile if self.order is None else None)

    def pytest_runtest_logreport(self, report: Any) -> None:
        self.failed |= not report.passed

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        sys.setprofile(None)
        if not self.failed:
            self.known[nodeid] = time.perf_counter() - self.began, sorted(self.now)


def run(copy: Path, files: list[str], order: list[str] | None, seconds: float) -> str:
    """pytest in a fork, so that torch is imported once."""
    if not (child := os.fork()):
        os.setsid()
        os.chdir(copy)
        sys.path[:0] = [str(copy), str(copy / "tests")]
        sys.dont_write_bytecode = True  # an old .pyc would hide a mistake of the same length
        os.environ |= {"PYTHONPATH": f"{copy}:{copy / 'tests'}", "PYTHONDONTWRITEBYTECODE": "1"}
        for stream in (1, 2):
            os.dup2(os.open(copy / "output.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
        import pytest

        plugin = Plugin(str(copy / "llmtrace"), order)
        code = pytest.main([*files, *OPTIONS, *(["-x"] if order else [])], plugins=[plugin])
        if order is None:
            (copy / "learnt.json").write_text(json.dumps(plugin.known))
        os._exit(int(code))
    began = time.monotonic()
    while not (ended := os.waitpid(child, os.WNOHANG))[0]:
        time.sleep(0.05)
        if time.monotonic() - began > seconds:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return "killed (time)"
    return "killed" if ended[1] else "SURVIVED"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, kind, value in (("--seed", int, 0), ("--n", int, 200), ("--limit", float, 40.0), ("--at", Path, None)):
        parser.add_argument(name, type=kind, default=value)
    asked = parser.parse_args()
    os.nice(19)
    os.environ |= {"OMP_NUM_THREADS": "1", "JAXTYPING_DISABLE": "1", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    copy = (asked.at or Path(tempfile.mkdtemp(prefix="mutants-"))).absolute()
    package, skipped = copy / "llmtrace", shutil.ignore_patterns(".git", "__pycache__", "node_modules")
    if not package.exists():
        shutil.copytree(Path(__file__).parent.parent, copy, dirs_exist_ok=True, ignore=skipped)
    import transformer_lens  # noqa: F401  the forks have it, and torch, already

    if not (copy / "learnt.json").exists():
        run(copy, [f"tests/{name}" for name in TESTS], None, 3600)
    known = json.loads((copy / "learnt.json").read_text())
    texts = {path: path.read_bytes() for glob in FILES for path in sorted(package.glob(glob))}
    mistakes = [(path, *edit) for path, raw in texts.items() for edit in edits(raw)]
    counts = Counter[str]()
    for path, start, stop, new, head in random.Random(asked.seed).sample(mistakes, min(asked.n, len(mistakes))):
        raw, name, total, order = texts[path], str(path.relative_to(package)), 0.0, list[str]()
        for nodeid, (seconds, entered) in sorted(known.items(), key=lambda item: item[1][0]):
            if f"{name}:{head}" in entered and total + seconds < asked.limit:
                order, total = [*order, nodeid], total + seconds
        path.write_bytes(raw[:start] + new.encode() + raw[stop:])
        files = list(dict.fromkeys(nodeid.partition("::")[0] for nodeid in order))
        found = run(copy, files, order, 60 + 5 * total) if order else "SURVIVED"
        path.write_bytes(raw)
        counts[found] += 1
        line, was = raw[:start].count(10) + 1, " ".join(raw[start:stop].decode().split())
        print(f"{found:14}{name}:{line}  {was}  ->  {new}  ({len(order)} tests)", flush=True)
    print(dict(counts))


if __name__ == "__main__":
    main()
