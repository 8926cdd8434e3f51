"""What a person sees: short tables on standard output (plain text in a pipe), progress on standard error."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from typing import Any

from llmtrace.progress import listen

Next = tuple[str, str]  # a command line, and what it is for


class Screen:
    """Standard output. Nothing is read as markup: node names and tokens may hold brackets."""

    def __init__(self) -> None:
        from rich.console import Console

        self._plain = not sys.stdout.isatty()
        # A pipe has no width: lines are never broken there, so that grep and awk see whole rows.
        self._console = Console(markup=False, highlight=False, emoji=False, width=1000 if self._plain else None)

    def say(self, text: str = "") -> None:
        self._console.print(text, soft_wrap=self._plain)

    def heading(self, text: str) -> None:
        self._console.print(f"\n{text}", style=None if self._plain else "bold", soft_wrap=self._plain)

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Numbers to the right, floats with a sign and three digits; None is empty."""
        from rich.box import SIMPLE_HEAD
        from rich.table import Table

        table = Table(box=None if self._plain else SIMPLE_HEAD, pad_edge=False, show_edge=False)
        cells = [[cell(value) for value in row] for row in rows]
        for index, name in enumerate(columns):
            numeric = all(_is_number(row[index]) for row in cells)
            table.add_column(name, justify="right" if numeric else "left", no_wrap=numeric or index == 0)
        for row in cells:
            table.add_row(*row)
        with self._console.capture() as capture:
            self._console.print(table)
        for line in capture.get().splitlines():
            sys.stdout.write(f"{line.rstrip()}\n")

    def next(self, commands: Sequence[Next]) -> None:
        """What to try."""
        if not commands:
            return
        self.heading("Try next")
        for command, purpose in commands:
            self._console.print(f"  {command}", style=None if self._plain else "cyan", soft_wrap=True)
            self.say(f"      {purpose}")


def cell(value: Any) -> str:
    """As it stands in a table."""
    if value is None:
        return ""
    return number(value) if isinstance(value, float) else str(value)


def _is_number(cell: str) -> bool:
    return not cell.strip("+-.,%0123456789e")


def number(value: float) -> str:
    """`+2.43`: a sign and three significant digits, or two decimals."""
    return f"{value:+.2g}" if 0 < abs(value) < 0.01 or abs(value) >= 1000 else f"{value:+.2f}"


def decimals(value: float, digits: int = 2) -> str:
    """`0.93`; what rounds to zero has no sign."""
    return f"{round(value, digits) + 0.0:.{digits}f}"


@contextmanager
def working(label: str, *, spin: bool = True) -> Iterator[None]:
    """A spinner on standard error, where somebody looks; whatever others print meanwhile goes there too."""
    with redirect_stdout(sys.stderr):
        if not spin or not sys.stderr.isatty():
            yield
            return
        from rich.console import Console

        with Console(stderr=True).status(f"{label} ..."):
            yield


class Stages:
    """A bar on standard error over whole stages; inside a stage it tells the steps of `progress.track`.

    Between stages there is no bar, so that it never tears what is printed. Not on a terminal: one line per stage.
    """

    def __init__(self, total: int) -> None:
        self._done, self._total = 0, total

    @contextmanager
    def stage(self, label: str) -> Iterator[None]:
        if not sys.stderr.isatty():
            print(f"[{self._done + 1}/{self._total}] {label}", file=sys.stderr, flush=True)
            yield
            self._done += 1
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}", markup=False))
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(label, total=self._total, completed=self._done)

            def inner(done: int, total: int | None, what: str) -> None:
                bar.update(task, description=f"{label} ({what} {done}{f'/{total}' if total else ''})")

            with listen(inner):
                yield
        self._done += 1
