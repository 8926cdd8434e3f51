"""What the pages say is there: every law that is cited, every test that is named, and no page that is not here."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from test_architecture import FLOOR_OF, FLOORS

ROOT = Path(__file__).parent.parent
LAWS = ROOT / "tests/laws/README.md"
# Plans that were written before there was code. What they decided stands in the code and in `.github/`.
ELSEWHERE = tuple(f"`{page}.md`" for page in ("methods", "decisions", "truths", "house", "facts"))
PLACES = ("llmtrace", "tests", "benchmarks", "tutorials", ".github", ".ci")
# "law 6", "Laws 21, 44-48", "laws 5, 49, 50 and 53", "test_law_20_..."
CITED = re.compile(r"\blaws? (\d+(?:-\d+)?(?:(?:, | and |, and )\d+(?:-\d+)?)*)|_law_(\d+)_", re.IGNORECASE)
NAMED = re.compile(r"`((?:tests|llmtrace)/[\w/]+\.py)::([\w.]+)`")
# `models/forward.py`, `tests/laws/`, `.ci/run`: a path from the root or from the package, as pages write it
PATH = re.compile(r"`((?:[\w.-]+/)+[\w.-]*|[\w-]+\.(?:py|md|toml|txt))`")
PAGES = (
    ".github/ARCHITECTURE.md",
    ".github/CONTRIBUTING.md",
    "tests/laws/README.md",
    "README.md",
    "tutorials/manual/glossary.md",
)


@cache
def pages() -> dict[str, str]:
    """Path from the root -> text, of everything that people write: code, pages, notebooks, settings."""
    found = [*ROOT.glob("*.md"), *ROOT.glob("*.toml")]
    for place in PLACES:
        found += [
            path
            for path in (ROOT / place).rglob("*")
            if path.suffix in {".py", ".md", ".ipynb", ".yml", ""} and "node_modules" not in path.parts
        ]
    return {
        path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
        for path in sorted(found)
        if path.is_file() and "__pycache__" not in path.parts
    }


def laws_cited(text: str) -> Iterator[int]:
    """Every number, of ranges too. A citation may run over the end of a line."""
    for match in CITED.finditer(re.sub(r"\s+", " ", text)):
        for part in re.findall(r"\d+(?:-\d+)?", match[1] or match[2]):
            first, _, last = part.partition("-")
            yield from range(int(first), int(last or first) + 1)


def laws() -> dict[int, str]:
    """Number -> what the page says of it."""
    parts = re.split(r"^### Law (\d+)$", LAWS.read_text(encoding="utf-8"), flags=re.MULTILINE)
    numbers = [int(number) for number in parts[1::2]]
    assert len(set(numbers)) == len(numbers) and numbers == sorted(numbers)
    return dict(zip(numbers, (re.split(r"^## ", text, flags=re.MULTILINE)[0] for text in parts[2::2]), strict=True))


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("(law 6)", [6]),
        ("Laws 21, 44-46 over", [21, 44, 45, 46]),
        ("laws 5, 49 and\n    53: rows", [5, 49, 53]),
        ("def test_law_42_perfect", [42]),
        ("lawful 3, the law of 5", []),
    ],
)
def test_citations_are_read(text: str, numbers: list[int]) -> None:
    assert list(laws_cited(text)) == numbers


def test_every_law_that_is_cited_stands_on_the_page() -> None:
    known = laws()
    assert [(n, name) for name, text in pages().items() for n in laws_cited(text) if n not in known] == []


@pytest.mark.parametrize("number", laws())
def test_a_law_says_where_it_stops_and_which_test_holds_it(number: int) -> None:
    """And the test's file says whose law it is."""
    text = laws()[number]
    assert "*Stops:*" in text and "*Held by:*" in text
    held = NAMED.findall(text)
    assert held and all(name in functions(file) for file, name in held)
    assert any(number in set(laws_cited(pages()[file])) for file, _ in held)


@cache
def functions(file: str) -> set[str]:
    """Functions and classes of a file, and `Class.method`."""
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    defined = (ast.FunctionDef, ast.ClassDef)
    of_classes = [(node, part) for node in tree.body if isinstance(node, ast.ClassDef) for part in node.body]
    return {node.name for node in tree.body if isinstance(node, defined)} | {
        f"{node.name}.{part.name}" for node, part in of_classes if isinstance(part, defined)
    }


def test_every_function_that_is_named_is_there() -> None:
    named = [(page, *found) for page, text in pages().items() for found in NAMED.findall(text)]
    assert len(named) > 50
    assert [entry for entry in named if not (ROOT / entry[1]).exists() or entry[2] not in functions(entry[1])] == []


@pytest.mark.parametrize("page", PAGES)
def test_every_path_that_is_named_is_there(page: str) -> None:
    named = PATH.findall(pages()[page])
    assert named
    assert [path for path in named if not any((base / path).exists() for base in (ROOT, ROOT / "llmtrace"))] == []


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page: str) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", pages()[page])
    assert [link for link in links if not ((ROOT / page).parent / link).exists()] == []


def test_the_page_has_every_room_floor_by_floor() -> None:
    """In the order of the table that is enforced; what stands on one floor, in any order."""
    floor_plan = pages()[PAGES[0]].partition("## Where does my line go")[0]
    rows = re.findall(r"^\| `(\w+)(?:/|\.py)` \|", floor_plan, re.MULTILINE)
    floors = [sorted(floor) for floor in FLOORS[:-1]]
    assert sorted(rows) == sorted(room for floor in floors for room in floor)
    assert [FLOOR_OF[room] for room in rows] == sorted(FLOOR_OF[room] for room in rows)


def test_nothing_points_to_a_page_that_is_not_here() -> None:
    here = Path(__file__).relative_to(ROOT).as_posix()
    assert [(p, page) for page, text in pages().items() if page != here for p in ELSEWHERE if p in text] == []


def test_a_file_that_a_comment_names_is_there() -> None:
    """By its name alone or with folders: `held_run.py`, `scoring/edge_scoring.py`."""
    files = [f"/{path.relative_to(ROOT).as_posix()}" for place in PLACES for path in (ROOT / place).rglob("*.py")]
    named = [
        (name, page)
        for page, text in pages().items()
        if not page.endswith((".ipynb", "/test_documents.py"))
        for name in re.findall(r"`([\w/]+\.py)\b", text)
    ]
    assert len(named) > 50
    assert [entry for entry in named if not any(file.endswith(f"/{entry[0]}") for file in files)] == []
