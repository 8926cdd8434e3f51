"""One row type for every table of methods, and the table: METRICS, MAKERS, METHODS of influence, discovery, ...

Tests, command line, console and benchmarks read these tables, so adding a method is one file and one row. Users add
their own: `METRICS.register(Method("margin", my_margin, "correct against the best other token"))`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from llmtrace.errors import InputError, NotFoundError, did_you_mean


@dataclass(frozen=True)
class Method:
    """A named function, and what a researcher must know before running it.

    `source` is the paper, `cost` counts forward (F) and backward (W) passes, `needs` names the inputs beyond the model
    and the clean prompts ("corrupted", "wrong", "reference", ...) and what it asks of a metric ("gradient", "linear").
    """

    name: str
    function: Callable[..., Any]
    summary: str
    source: str = ""
    cost: str = ""
    needs: tuple[str, ...] = ()

    def require_options(self, options: Iterable[str]) -> None:
        """Refuse keyword arguments that the function does not have."""
        known = [p.name for p in inspect.signature(self.function).parameters.values() if p.kind is p.KEYWORD_ONLY]
        for name in options:
            if name not in known:
                raise InputError(
                    f"Expected options of {self.name} ({', '.join(known) or 'it has none'}), got {name!r}; "
                    f"leave it out.{did_you_mean(name, known)}"
                )

    def __call__(self, *args: Any, **options: Any) -> Any:
        return self.function(*args, **options)


class Table(dict[str, Method]):
    """Methods by name, in the order in which they were registered; an unknown name is a sentence, not a `KeyError`.

    `name in table` and `table.get(name)` are those of a dict; `table[name]` raises `NotFoundError` with the names that
    exist. `kind` is the word for one row ("metric") and only ever appears in sentences.
    """

    def __init__(self, kind: str, *rows: Method) -> None:
        super().__init__()
        self.kind = kind
        for row in rows:
            self.register(row)

    def register(self, row: Method, *, replace: bool = False) -> Method:
        """Add a row and return it; a name that is taken is refused unless `replace=True`."""
        if row.name in self and not replace:
            raise InputError(
                f"Expected a new {self.kind} name, got {row.name!r}, which is taken; "
                "choose another name or pass replace=True."
            )
        self[row.name] = row
        return row

    def __missing__(self, name: object) -> Method:
        known = list(self)
        raise NotFoundError(
            f"Expected a {self.kind}, one of {', '.join(known) or '(none registered)'}; got {name!r}."
            + did_you_mean(str(name), known)
        )

    def __repr__(self) -> str:
        return f"Table({self.kind}: {', '.join(self)})"
