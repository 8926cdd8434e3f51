"""`tutorials/inspection_console.md`: its Python gives its number, and what it shows and links is there.

`web/browser/tutorial.spec.ts` walks it in a browser, and holds its pictures and every number.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

TUTORIALS = Path(__file__).resolve().parents[2] / "tutorials"
PAGE = (TUTORIALS / "inspection_console.md").read_text(encoding="utf-8")


@pytest.mark.usefixtures("as_users_run")
def test_the_python_of_the_tutorial_gives_the_number_that_it_says() -> None:
    (program,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    (said,) = re.findall(r"`result` is (\d\.\d{3}),", PAGE)
    space: dict[str, Any] = {}
    exec(program, space)
    assert f"{space['result']:.3f}" == said


def test_what_the_tutorial_shows_and_links_is_there() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", PAGE)
    pictures = [link for link in links if link.endswith(".png")]
    assert len(pictures) == 4 and [link for link in links if not (TUTORIALS / link).exists()] == []
    assert sorted(pictures) == sorted(path.name for path in TUTORIALS.glob("inspection_console*.png"))
