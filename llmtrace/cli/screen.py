"""What a person sees: short tables on standard output, plain text when it is not a terminal; progress on standard error."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from typing import Any


class Screen:
    """Standard output. Nothing is read as markup: node names and tokens may hold brackets."""

    def __init__(self) -> None:
        from rich.console import Console

        self._plain = not sys.stdout.isatty()
        # A pipe has no width: lines are never cut there, so that grep and awk see whole rows.
        width = {"width": 1000} if self._plain else {}
        self._console = Console(markup=False, highlight=False, emoji=False, **width)  # type: ignore[arg-type]

    def say(self, text: str = "") -> None:
        self._console.print(text, soft_wrap=self._plain)

    def heading(self, text: str) -> None:
        self._console.print(f"\n{text}", style=None if self._plain else "bold", soft_wrap=self._plain)

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Numbers to the right, three significant digits with a sign; None is empty."""
        from rich.box import SIMPLE_HEAD
        from rich.table import Table

        table = Table(box=None if self._plain else SIMPLE_HEAD, pad_edge=False, show_edge=False)
        for index, name in enumerate(columns):
            numeric = all(isinstance(row[index], int | float | None) for row in rows)
            table.add_column(name, justify="right" if numeric else "left", no_wrap=numeric or index == 0)
        for row in rows:
            table.add_row(*map(_cell, row))
        self._console.print(table)

    def next(self, *commands: tuple[str, str]) -> None:
        """What to try: (command, what it does)."""
        self.heading("Next")
        for command, purpose in commands:
            self.say(f"  {command}")
            self.say(f"      {purpose}")


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return number(value) if isinstance(value, float) else str(value)


def number(value: float) -> str:
    """`+2.43`: a sign and three significant digits."""
    return f"{value:+.3g}" if abs(value) < 1e-2 or abs(value) >= 1000 else f"{value:+.2f}"


@contextmanager
def working(label: str) -> Iterator[None]:
    """A spinner on standard error, where somebody looks; whatever others print meanwhile goes there too."""
    with redirect_stdout(sys.stderr):
        if not sys.stderr.isatty():
            yield
            return
        from rich.console import Console

        with Console(stderr=True).status(f"{label} ..."):
            yield
