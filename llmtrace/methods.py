"""One row type for every table of methods, and the table: METRICS, MAKERS, METHODS of influence, discovery, ...

A row says where its function is, and what a researcher must know before running it. The rows of a room stand in its
`rows.py`, which imports no torch: the library, the command line with its help, the laws of the tests, the benchmarks
and the manual read the same rows, so adding a method is one file and one row. Users add their own:

    lt.metrics.register(my_margin, summary="correct against the best other token", needs=("correct",))
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import KW_ONLY, dataclass, fields
from importlib import import_module
from importlib.util import find_spec
from types import FunctionType
from typing import Any, Generic, Literal, TypeVar

from llmtrace.arguments import checked, read_options, with_article
from llmtrace.errors import InputError, NotFoundError, did_you_mean

Kind = Literal["whole", "number", "flag", "word", "size", "layers", "nodes", "places", "file"]


@dataclass(frozen=True)
class Option:
    """A keyword of a function, as the command line and the manual tell it.

    kind      what is typed: a whole number, a number, a flag, a word, a size ("2GB"), layers ("0,2-4"), nodes
              ("9.6,m3"), places ("END,-1") or a file
    says      what it is
    default   what it is when it is left out, as told; "" where the function's own sentence says it
    one_of    the words that it may be
    least     the smallest number that it may be
    """

    name: str
    kind: Kind
    says: str
    default: str = ""
    one_of: tuple[str, ...] = ()
    least: int | None = None


@dataclass(frozen=True)
class Method:
    """A named function, and what a researcher must know before running it.

    where     the function, or "package.module:name", which is imported when it is first called
    source    the paper
    cost      in forward (F) and backward (W) passes
    needs     inputs beyond the model and the clean prompts ("corrupted", "wrong", "reference", ...), and what it asks
              of a metric ("gradient", "linear") or of a model ("additive": writes that add up to the stream, "mlp")
    gives     what comes out: "tokens", "nodes", "edges", of a metric its unit, ...
    sums_to   what its numbers add up to, a key of the laws in tests/laws; "nothing: why" where they do not
    sign      what a positive number says; left out, the sentence "Sign: ..." of the module's docstring
    failure   where it is known to mislead; left out, the sentence "Known failure: ..." of the module's docstring
    options   keywords that the command line has for it
    """

    name: str
    where: Callable[..., Any] | str
    summary: str
    source: str = ""
    cost: str = ""
    needs: tuple[str, ...] = ()
    _: KW_ONLY
    gives: str = ""
    sums_to: str = ""
    sign: str = ""
    failure: str = ""
    options: tuple[Option, ...] = ()

    @property
    def function(self) -> Callable[..., Any]:
        found = found_at(self.where)
        return checked(found) if isinstance(self.where, str) and isinstance(found, FunctionType) else found

    def option_names(self) -> tuple[str, ...]:
        return tuple(option.name for option in self.options)

    def words(self, option: str) -> tuple[str, ...]:
        """The words that an option may be."""
        return next(own.one_of for own in self.options if own.name == option)

    def require_options(self, options: Iterable[str]) -> None:
        """Refuse keyword arguments that the function does not have."""
        require_options(self.name, self.function, options)

    def read_options(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Keyword arguments as the function takes them; refuse those that it does not have or take."""
        self.require_options(options)
        return read_options(self.name, self.function, options)

    def facts(self) -> dict[str, Any]:
        """What the row says, and what its module's docstring says for it. Nothing is imported."""
        said = {part.name: getattr(self, part.name) for part in fields(Method) if part.name not in ("where", "options")}
        text = docstring_of(self.where)
        said["sign"] = self.sign or sentence_after("Sign", text)
        said["failure"] = self.failure or sentence_after("Known failure", text)
        return said | {"options": self.option_names(), "where": name_of(self.where)}

    def __call__(self, *args: Any, **options: Any) -> Any:
        return self.function(*args, **options)


def require_options(name: str, function: Callable[..., Any], options: Iterable[str]) -> None:
    """Refuse keyword arguments that a function does not have. `name`: what sentences call it."""
    parameters = inspect.signature(function).parameters.values()
    known = [
        p.name
        for p in parameters
        if p.kind is p.KEYWORD_ONLY or (p.kind is p.POSITIONAL_OR_KEYWORD and p.default is not p.empty)
    ]
    for option in options:
        if option not in known:
            raise InputError(
                f"Expected options of {name} ({', '.join(known) or 'it has none'}), got {option!r}; "
                f"leave it out.{did_you_mean(option, known)}"
            )


def found_at(where: Callable[..., Any] | str) -> Any:
    """What "package.module:name" names; what is there already is itself."""
    if not isinstance(where, str):
        return where
    module, _, name = where.partition(":")
    return getattr(import_module(module), name)


def with_conventions(method: str, options: Mapping[str, Any], names: Iterable[str]) -> str:
    """`path_patch (heads frozen, noising)`: numbers of one method under two conventions are two quantities."""
    told = [str(options[name]).replace("_", " ") for name in names if options.get(name)]
    return f"{method} ({', '.join(told)})" if told else method


def name_of(where: Callable[..., Any] | str) -> str:
    """As "package.module:name"."""
    if isinstance(where, str):
        return where
    return f"{getattr(where, '__module__', '?')}:{getattr(where, '__qualname__', type(where).__name__)}"


def docstring_of(where: Callable[..., Any] | str) -> str:
    """Of the module that holds the function, read and not run; of a function of the user's, its own docstring."""
    if not isinstance(where, str):
        return inspect.getdoc(where) or ""
    module, function, _ = where.partition(":")
    if not function:  # a file of data
        return ""
    if module in sys.modules:
        return inspect.cleandoc(sys.modules[module].__doc__ or "")
    spec = find_spec(module)
    source = None if spec is None or spec.loader is None else spec.loader.get_source(module)  # type: ignore[attr-defined]
    return (ast.get_docstring(ast.parse(source)) or "") if source else ""


def sentence_after(word: str, text: str) -> str:
    """ "Sign: positive raises the metric." of a docstring; a known failure goes on to the end of its paragraph."""
    end = r"(?=\n\s*\n|\s(?:Sign|Cost|Source|Laws?|Known failure):|\Z)" if word == "Known failure" else r"\.(?=\s|\Z)"
    found = re.search(rf"\b{word}: (.+?){end}", text, re.DOTALL)
    return " ".join(found.group(1).split()).removesuffix(".") if found else ""


Row = TypeVar("Row", bound=Method)


class Table(dict[str, Row], Generic[Row]):
    """Methods by name, in the order in which they were registered; an unknown name is a sentence, not a `KeyError`.

    `name in table` and `table.get(name)` are those of a dict; `table[name]` raises `NotFoundError` with the names that
    exist. `kind` is the word for one row ("metric") and only ever appears in sentences; `of` is the type of its rows;
    `gives` is what a row may give, where not everything has a place (a function says which, where there are several).
    """

    def __init__(self, kind: str, *rows: Row, of: type[Row] | None = None, gives: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.kind, self.gives = kind, gives
        self.of: type[Row] = of or Method  # type: ignore[assignment]
        for row in rows:
            self.register(row)

    def register(self, method: Row | Callable[..., Any], *, replace: bool = False, **facts: Any) -> Row:
        """Add a row, or a function with the `facts` of its row (name, summary, needs, ...), and return the row.

            lt.influence.register(mine, gives="tokens")    mine(model, prompts, *, ...) -> TokenInfluence
            lt.circuits.register(mine)                     mine(model, prompts, *, ...) -> EdgeScores
            lt.metrics.register(mine, needs=("correct",))  mine(positions, correct) -> Metric
            lt.prompts.register(mine)                      mine(model, n, *, seed) -> PromptSet

        A name that is taken is refused unless `replace=True`; a function that is defined once more (a notebook's cell
        that ran again) replaces itself.
        """
        row = self._row(method, facts)
        if self.gives and row.gives not in self.gives:
            raise InputError(
                f"Expected gives= of the {self.kind} {row.name}, one of {', '.join(self.gives)}, got {row.gives!r}; "
                "say what its result is."
            )
        if row.name in self and not replace and not _once_more(self[row.name], row):
            raise InputError(
                f"Expected a new {self.kind} name, got {row.name!r}, which is taken; "
                "choose another name or pass replace=True."
            )
        self[row.name] = row
        return row

    def _row(self, method: Row | Callable[..., Any], facts: Mapping[str, Any]) -> Row:
        if isinstance(method, self.of):
            if facts:
                raise InputError(f"Expected a row alone, got {', '.join(facts)} beside it; say them in the row.")
            return method
        if isinstance(method, Method):
            raise InputError(f"Expected a {self.of.__name__} as {self.kind}, got a {type(method).__name__}; write one.")
        if not callable(method):
            raise InputError(f"Expected a function or a {self.of.__name__}, got {method!r}; pass the function itself.")
        name = facts.get("name") or getattr(method, "__name__", "<lambda>")
        if not str(name).replace("-", "_").isidentifier():
            raise InputError(f"Expected a name for the {self.kind}, got {name!r}; pass name='mine'.")
        known = [part.name for part in fields(self.of) if part.name not in ("_", "where")]
        for fact in facts:
            if fact not in known:
                raise InputError(f"Expected facts of a row ({', '.join(known)}), got {fact!r}; leave it out.")
        first = (inspect.getdoc(method) or "").partition("\n")[0]
        gives = self.gives[0] if len(self.gives) == 1 else ""
        said: dict[str, Any] = {"summary": first.rstrip("."), "gives": gives, **facts, "name": name}
        return self.of(where=method, **said)

    def giving(self, what: str) -> list[Row]:
        """The rows that give "tokens", "nodes", ..."""
        return [row for row in self.values() if row.gives == what]

    def __missing__(self, name: object) -> Row:
        known = list(self)
        raise NotFoundError(
            f"Expected {with_article(self.kind)}, one of {', '.join(known) or '(none registered)'}; got {name!r}."
            + did_you_mean(str(name), known)
        )

    def __repr__(self) -> str:
        return f"Table({self.kind}: {', '.join(self)})"


def _once_more(old: Method, new: Method) -> bool:
    """Whether both are a user's function of the same name in the same place."""
    named = [name_of(row.where) for row in (old, new) if isinstance(row.where, FunctionType)]
    return len(named) == 2 and named[0] == named[1] and not named[0].endswith("<lambda>")
