"""The border: arguments of public functions are read by their annotations, and what does not fit is one sentence.

    k: int                      3, np.int64(3)                          not 3.0, True, "3"
    coefficient: float          2, 0.5, np.float32(2)                   not NaN, True, 1j
    together: bool              True, np.True_                          not 1, "False"
    layers: Sequence[int]       [0, 1], (0,), range(2), np.arange(2)    not 0, "01"
    vector: Float[Tensor, "d"]  a tensor, an array, a list of numbers   not complex, not of two axes
    metric: str | Metric | None one of these

A room hands out its functions `checked` (`rooms.py`), a noun its methods (`check_methods`) and its making
(`check_making`). Only the outermost call is read: what functions of the package give each other is theirs. What an
argument must be beyond its type, the function says itself.
`Annotated[type, "a name or a number"]` is a type and how the sentence says it.
"""

from __future__ import annotations

import inspect
import math
import sys
import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache, wraps
from os import PathLike, fsencode
from types import FunctionType, ModuleType, NoneType, UnionType
from typing import Annotated, Any, Literal, ParamSpecArgs, TypeVar, Union, cast, get_args, get_origin

from llmtrace.errors import InputError, did_you_mean

F = TypeVar("F", bound=Callable[..., Any])
C = TypeVar("C", bound=type)

# What the sentence says of a class, and where one comes from.
NAMED = {
    "TraceModel": ("a HookedTransformer or TransformerBridge", "make one with llmtrace.load(name)"),
    "PromptSet": ("a PromptSet", "make one with ioi(model) or from_pairs(model, pairs)"),
    "Circuit": ("a Circuit", "find one with discover(model, prompts) or read one with Circuit.load(path)"),
    "Definition": ("a Definition", "read one with circuits.load_definition('ioi')"),
    "EdgeScores": ("EdgeScores", "make them with circuits.eap_ig(model, prompts), for instance"),
    "Effects": ("Effects", "make them with ablate(model, prompts), for instance"),
    "Trace": ("a Trace", "make one with capture(model, prompts)"),
    "Graph": ("a Graph", "make one with Graph.of(model)"),
    "Spans": ("Spans", "make them with Spans.of_text or Spans.between"),
    "Mlp": ("an Mlp", ""),
    "Path": ("a path", ""),
    "PathLike": ("a path", ""),
    "dtype": ("a torch.dtype", ""),
    "ndarray": ("an array", ""),
    "Tensor": ("a tensor", ""),
}


FREE = ("*", "...")  # of jaxtyping: any number of axes
CHOOSE = "choose one"
LONGEST_NAME = 255  # bytes, of one file on all usual file systems


class Unfit(Exception):
    """A value that an annotation does not take; its argument is the part of it that does not fit."""


@dataclass(frozen=True)
class Reading:
    """How values of one annotation are read.

    words   what is expected
    read    the value as the function takes it; raises `Unfit`
    advice  what to do instead
    item    of a list, how each of its items is read
    axes    of a tensor, their names
    one_of  of a word, the words that it may be
    """

    words: str
    read: Callable[[Any], Any]
    advice: str = ""
    item: Reading | None = None
    axes: tuple[str, ...] = ()
    one_of: tuple[str, ...] = ()


def checked(function: F) -> F:
    """`function`, which reads its arguments first; signature, documentation and `declare` are its own."""
    if hasattr(function, "reads_arguments"):
        return function
    if any(isinstance(hint, ParamSpecArgs) for hint in _evaluated(function).values()):
        return function  # it hands everything on
    return cast(F, _checked(function))


def check_methods(noun: C) -> C:
    """Public methods of a class read their arguments first, and so does `noun[...]`. The class is given back."""
    for name, value in list(vars(noun).items()):
        if name.startswith("_") and name != "__getitem__":
            continue
        if isinstance(value, classmethod):
            setattr(noun, name, classmethod(_checked(value.__func__)))
        elif isinstance(value, FunctionType) and not hasattr(value, "reads_arguments"):
            setattr(noun, name, _checked(value))
    return noun


def check_making(noun: C) -> C:
    """Making one with arguments that it cannot have is one sentence. The class, a dataclass, is given back."""
    made: Callable[..., None] = noun.__init__  # type: ignore[misc]
    if hasattr(made, "reads_arguments"):
        return noun
    signature = inspect.signature(made)

    @wraps(made)
    def make(self: Any, *args: Any, **options: Any) -> None:
        try:
            made(self, *args, **options)
        except TypeError as error:
            try:
                signature.bind(self, *args, **options)
            except TypeError:
                said = _misfit(noun.__name__, signature, (self, *args), options)
            else:
                raise
            other = getattr(noun, "of", None)
            if inspect.ismethod(other):  # another way to make one
                said = f"{said.rstrip('.')}, or {_written(f'{noun.__name__}.of', inspect.signature(other))}."
            raise InputError(said) from error

    make.reads_arguments = True  # type: ignore[attr-defined]
    noun.__init__ = make  # type: ignore[misc]
    return noun


@cache
def _checked(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def call(*args: Any, **options: Any) -> Any:
        if _border.passed:
            return function(*args, **options)
        args, options = _arguments(function, args, options)
        _border.passed = True
        try:
            return function(*args, **options)
        finally:
            _border.passed = False

    call.reads_arguments = True  # type: ignore[attr-defined]
    if declare := getattr(function, "declare", None):
        call.declare = checked(declare)  # type: ignore[attr-defined]
    module = sys.modules.get(function.__module__)
    if getattr(module, function.__name__, None) is function:  # one function under one name: what pickle asks
        setattr(module, function.__name__, call)
    return call


class _Border(threading.local):
    passed = False


_border = _Border()


def read_options(name: str, function: Callable[..., Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """Keyword arguments for a function, read as a call of it would; `name`: what sentences call it."""
    return {key: _read(key, value, function, {}, name) for key, value in options.items()}


def _arguments(
    function: Callable[..., Any], args: tuple[Any, ...], options: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    signature = _signature(function)
    try:
        bound = signature.bind(*args, **options)
    except TypeError as error:
        raise InputError(_misfit(_called(function), signature, args, options)) from error
    for name, value in bound.arguments.items():
        bound.arguments[name] = _read(name, value, function, bound.arguments)
    _require_sizes(bound.arguments, _readings(function))
    return bound.args, bound.kwargs


def _require_sizes(given: Mapping[str, Any], readings: Mapping[str, Reading]) -> None:
    """Axes of one name are of one size, and d_model is the model's."""
    width = getattr(getattr(given.get("model"), "cfg", None), "d_model", None)
    sizes: dict[str, tuple[str, int]] = {} if width is None else {"d_model": ("the model", width)}
    for name, value in given.items():
        axes = readings[name].axes if name in readings and hasattr(value, "shape") else ()
        for axis, size in _named(axes, tuple(value.shape) if axes else ()):
            other, known = sizes.setdefault(axis, (name, size))
            if known != size:
                raise InputError(
                    f"Expected as many of {axis!r} in {name} as in {other}, got {size} and {known}; give both alike."
                )


def _named(axes: tuple[str, ...], shape: tuple[int, ...]) -> list[tuple[str, int]]:
    """The axes that have a name, before and behind a free number of others."""
    free = next((i for i, axis in enumerate(axes) if axis.startswith(FREE)), len(axes))
    behind = zip(axes[free + 1 :][::-1], shape[::-1], strict=False)
    return [(axis, size) for axis, size in (*zip(axes[:free], shape, strict=False), *behind) if axis.isidentifier()]


def _read(name: str, value: Any, function: Callable[..., Any], given: Mapping[str, Any], called: str = "") -> Any:
    readings = _readings(function)
    if (reading := readings.get(name)) is None:
        return value
    try:
        return reading.read(value)
    except Unfit as unfit:
        part = unfit.args[0] if unfit.args else value
        advice = _meant(name, value, part, function, given) or reading.advice
        advice = advice or _usual(_signature(function).parameters[name].default, called or _called(function))
        got = f"{shown(part)} in it" if unfit.args else shown(value)
        as_ = "to be" if reading.words.startswith("one of") else "as"
        close = did_you_mean(value, [*reading.one_of]) if reading.one_of else ""
        raise InputError(f"Expected {name} {as_} {reading.words}, got {got}; {advice}.{close}") from None


def _usual(default: Any, called: str) -> str:
    """What to do where nothing better is known."""
    if default is inspect.Parameter.empty:
        return f"see help({called})"
    return "give that, or leave it out" if default is None else f"{default!r} is the default"


def _meant(name: str, value: Any, part: Any, function: Callable[..., Any], given: Mapping[str, Any]) -> str:
    """What the value that does not fit was meant for: a list of it, text or a number, another argument.

    `part` of the value is what does not fit."""
    readings, parameters = _readings(function), _signature(function).parameters
    reading = readings[name]
    item = reading.item if part is not value and reading.item is not None else reading
    if part is value and reading.item is not None and not isinstance(value, bool) and _fits(reading.item, value):
        return f"put it in a list: [{shown(value)}]"
    if isinstance(part, float) and "'a9.h6'" in item.words:  # of nodes: 9.6 is the head that it looks like
        return f"write it in quotes: {str(part)!r}"
    if isinstance(part, str) and (number := _spelled(part)) is not None and _fits(item, number):
        return f"write it without quotes: {number}"
    if type(value).__module__.partition(".")[0] != __package__:
        return ""
    for other in (other for other, own in readings.items() if other != name and _fits(own, value)):
        if other in given and _fits(reading, given[other]):
            return f"{name} and {other} are in each other's place: swap them"
        if parameters[name].default is inspect.Parameter.empty and other not in given:
            return f"it is what {other}= takes: write {_called(function)}({name}, {other}=...)"
        if other not in given:
            return f"give it as {other}="
    return ""


def _spelled(text: str) -> int | float | None:
    """The number that a text is."""
    for kind in (int, float):
        with suppress(ValueError):
            return kind(text)
    return None


def _called(function: Callable[..., Any]) -> str:
    """As people write it: `path_patch`, `Graph.of`."""
    return function.__qualname__ if _owner(_signature(function)) else function.__name__


def _owner(signature: inspect.Signature) -> str:
    """The parameter of a method that nobody writes."""
    return next((name for name in list(signature.parameters)[:1] if name in ("self", "cls")), "")


def _written(name: str, signature: inspect.Signature) -> str:
    """A call with what it cannot do without."""
    wanted = [p for p in _open(signature) if p.default is p.empty]
    words = [p.name if p.kind is p.POSITIONAL_OR_KEYWORD else f"{p.name}=..." for p in wanted]
    return f"{name}({', '.join([*words, '...'])})"


def _open(signature: inspect.Signature) -> list[inspect.Parameter]:
    """The parameters that people write."""
    hidden = _owner(signature)
    return [p for p in signature.parameters.values() if p.name != hidden and p.kind is not p.VAR_KEYWORD]


def _fits(reading: Reading, value: Any) -> bool:
    try:
        reading.read(value)
    except Unfit:
        return False
    return True


def _misfit(name: str, signature: inspect.Signature, args: Collection[Any], options: Mapping[str, Any]) -> str:
    """Why arguments cannot be bound."""
    known = [p.name for p in _open(signature)]
    places = [p.name for p in _open(signature) if p.kind is p.POSITIONAL_OR_KEYWORD]
    count = len(args) - bool(_owner(signature))
    call = _written(name, signature)
    for option in options:
        if option not in known and not any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values()):
            likely = did_you_mean(option, known)
            return f"Expected arguments of {name} ({', '.join(known)}), got {option!r}; leave it out.{likely}"
    if count > len(places):
        by_name, extra = [name for name in known if name not in places], list(args)[len(places) - count :][0]
        if str(signature.return_annotation).endswith("Figure") and isinstance(extra, str | PathLike):
            return (
                f"Expected no file in {name}, which gives a figure, got {str(extra)!r}; write {call}.write_html(path)."
            )
        rest = f"; give {', '.join(by_name)} by name" if by_name else "; leave the others out"
        return f"Expected at most {len(places)} arguments of {name} without their names, got {count}{rest}."
    given = {*places[:count], *options}
    twice = [place for place in places[:count] if place in options]
    if twice:
        return f"Expected {twice[0]} of {name} once, got it twice; write {call}."
    missing = [p.name for p in _open(signature) if p.default is p.empty and p.name not in given]
    return f"Expected {' and '.join(missing)} for {name}, got none; write {call}."


def shown(value: Any) -> str:
    """A value in a sentence: what is short as it is written, else its type."""
    if isinstance(value, ModuleType):
        return f"the module {value.__name__}"
    plain = str | int | float | complex | bytes | list | tuple | dict | set | slice | None
    ours = type(value).__module__.partition(".")[0] == __package__
    text = repr(value) if ours or isinstance(value, plain) else ""
    if isinstance(value, str) and len(text) > 80:
        return f"text of {len(value):,} characters"
    return text if text and len(text) <= 80 and "\n" not in text else with_article(type(value).__name__)


def with_article(name: str) -> str:
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"


# Annotations --------------------------------------------------------------------------------------------------------


@cache
def _signature(function: Callable[..., Any]) -> inspect.Signature:
    return inspect.signature(function)


@cache
def _readings(function: Callable[..., Any]) -> Mapping[str, Reading]:
    """Of each parameter; none for those that take anything."""
    hints, parameters = _evaluated(function), _signature(function).parameters.values()
    starred = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    found = {p.name: reading_of(hints.get(p.name, Any)) for p in parameters if p.kind not in starred}
    return {name: reading for name, reading in found.items() if reading is not None}


def _evaluated(function: Callable[..., Any]) -> dict[str, Any]:
    """The annotations of the parameters as they are meant; a result's may name what is imported for type checkers."""
    space = getattr(inspect.unwrap(function), "__globals__", {})
    hints = {name: hint for name, hint in function.__annotations__.items() if name != "return"}
    return {name: eval(hint, space) if isinstance(hint, str) else hint for name, hint in hints.items()}


def reading_of(annotation: Any, *, alone: bool = True) -> Reading | None:
    """How an annotation reads values; None where it takes all there are. `alone`: it is not one of several."""
    origin, inside = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        reading, words = reading_of(inside[0], alone=alone), [word for word in inside[1:] if isinstance(word, str)]
        return replace(reading, words=words[0]) if reading and words else reading
    if annotation is Any:
        return None
    if origin in (Union, UnionType):
        if any(isinstance(member, type) and issubclass(member, PathLike) for member in inside):
            return _file(inside)
        return _any_of([reading_of(member, alone=False) for member in inside])
    if origin is Literal:
        return _word(inside)
    if annotation in PLAIN:
        return PLAIN[annotation]
    if hasattr(annotation, "dim_str"):
        return _tensor(annotation)
    kind = origin or annotation
    if not isinstance(kind, type) or kind is object:
        return Reading("a function", _callable) if kind is Callable else None
    if issubclass(kind, Callable):  # type: ignore[arg-type]
        return Reading("a function", _callable) if kind.__module__ == "collections.abc" else _instance(kind)
    if issubclass(kind, Mapping):
        return _mapping(kind, inside)
    if issubclass(kind, Iterable) and kind.__module__ in ("collections.abc", "builtins"):
        return _listed(kind, inside, alone=alone)
    return _instance(kind)


def _file(members: Sequence[Any]) -> Reading | None:
    """A path, as text or not, perhaps among others: a name that no file system takes is none."""
    reading = _any_of([reading_of(member, alone=False) for member in members])
    assert reading is not None

    def read(value: Any) -> Any:
        found = reading.read(value)
        name = fsencode(found) if isinstance(found, str | PathLike) else b""
        if b"\0" in name or any(len(part) > LONGEST_NAME for part in name.split(b"/")):
            raise Unfit
        return found

    return replace(reading, read=read)


def _whole(value: Any) -> int:
    value = _number(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise Unfit


def _real(value: Any) -> float:
    value = _number(value)
    if isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value):
        return value
    raise Unfit


def _number(value: Any) -> Any:
    """Of NumPy or torch, as Python has it."""
    return value.item() if getattr(value, "shape", None) == () and hasattr(value, "item") else value


def _flag(value: Any) -> bool:
    value = _number(value)
    if isinstance(value, bool):
        return value
    raise Unfit


def _callable(value: Any) -> Any:
    if callable(value):
        return value
    raise Unfit


def _of(kind: type | tuple[type, ...]) -> Callable[[Any], Any]:
    def read(value: Any) -> Any:
        if isinstance(value, kind):
            return value
        raise Unfit

    return read


PLAIN: dict[Any, Reading] = {
    int: Reading("a whole number", _whole),
    float: Reading("a number", _real),
    bool: Reading("True or False", _flag),
    str: Reading("text", _of(str)),
    NoneType: Reading("None", _of(NoneType)),
    None: Reading("None", _of(NoneType)),
}


def _any_of(members: Sequence[Reading | None]) -> Reading | None:
    readings = [member for member in members if member is not None]
    if len(readings) < len(members):
        return None

    def read(value: Any) -> Any:
        part: tuple[Any, ...] = ()
        for reading in readings:
            try:
                return reading.read(value)
            except Unfit as unfit:
                part = unfit.args or part
        raise Unfit(*part)

    words = list(dict.fromkeys(reading.words for reading in readings if reading.words != "None"))
    said = f"{', '.join(words[:-1])} or {words[-1]}" if len(words) > 1 else words[0]
    known = list(dict.fromkeys(reading.advice for reading in readings if reading.advice))
    advice = CHOOSE if CHOOSE in known else " or ".join(known)
    item = next((reading.item for reading in readings if reading.item), None)
    tensors = [reading.axes for reading in readings if reading.axes]
    return Reading(said, read, advice, item, tensors[0] if len(tensors) == 1 else ())


def _word(words: tuple[Any, ...]) -> Reading:
    def read(value: Any) -> Any:
        if isinstance(value, str) and value in words:
            return str(value)
        raise Unfit

    return Reading(f"one of {', '.join(map(str, words))}", read, CHOOSE, one_of=tuple(map(str, words)))


def _listed(kind: type, inside: tuple[Any, ...], *, alone: bool) -> Reading:
    """A list, a tuple or an array of one axis; each item is read."""
    fixed = kind is tuple and inside[-1:] != (Ellipsis,)
    readings = [reading_of(part) for part in inside if part is not Ellipsis]
    item = readings[0] if len(readings) == 1 else None

    def read(value: Any) -> Any:
        if hasattr(value, "tolist") and getattr(value, "ndim", 0) > 0:
            value = value.tolist()
        if kind in (Iterable, Collection) and isinstance(value, Iterable) and not isinstance(value, Sequence):
            value = _through(value)  # a dict's keys too
        if isinstance(value, str | bytes | Mapping) or not isinstance(value, Sequence):
            raise Unfit
        if kind in (list, tuple) and not isinstance(value, kind):
            if not alone and isinstance(value, list | tuple):
                raise Unfit  # [a, b] are two places, (a, b) is a place and its positions
            value = kind(value)
        if fixed and len(value) != len(readings):
            raise Unfit
        parts = readings if fixed else [item] * len(value)
        found = [_item(part, one) for part, one in zip(parts, value, strict=True)]
        same = all(new is old for new, old in zip(found, value, strict=True))
        return value if same else type(value)(found) if isinstance(value, list | tuple) else found

    return Reading(f"a list, each {item.words}" if item else "a list", read, item=item)


def _through(value: Iterable[Any]) -> list[Any]:
    try:
        return list(value)
    except TypeError:  # a tensor of no axis says that it is iterable
        raise Unfit from None


def _item(reading: Reading | None, value: Any) -> Any:
    try:
        return reading.read(value) if reading else value
    except Unfit as unfit:
        raise Unfit(*(unfit.args or (value,))) from None


def _mapping(kind: type, inside: tuple[Any, ...]) -> Reading:
    keys, values = [reading_of(part) for part in inside] if len(inside) == 2 else (None, None)

    def read(value: Any) -> Any:
        if not isinstance(value, kind):
            raise Unfit
        return {_item(keys, key): _item(values, one) for key, one in cast(Mapping[Any, Any], value).items()}

    return Reading(f"a dict of {keys.words} to {values.words}" if keys and values else "a dict", read)


def _instance(kind: type) -> Reading:
    words, advice = NAMED.get(kind.__name__, (with_article(kind.__name__), ""))
    if getattr(kind, "_is_protocol", False):
        return Reading(words, _like(kind), advice)
    return Reading(words, _of(kind), advice)


def _like(protocol: type) -> Callable[[Any], Any]:
    """Whether a value has what a protocol asks; of each class the first is looked at."""
    known: dict[type, bool] = {}

    def read(value: Any) -> Any:
        if type(value) not in known:
            known[type(value)] = isinstance(value, protocol)
        if known[type(value)]:
            return value
        raise Unfit

    return read


def _tensor(annotation: Any) -> Reading:
    """Of jaxtyping: numbers of a kind, of as many axes."""
    whole, truth = "int64" in annotation.dtypes, "bool" in annotation.dtypes
    axes = annotation.dim_str.split()
    free = any(axis.startswith(FREE) for axis in axes)
    what = "truth values" if truth else "whole numbers" if whole else "numbers"

    def read(value: Any) -> Any:
        tensor = _as_tensor(value)
        kind = bool(tensor.dtype.is_floating_point), bool(tensor.dtype.is_complex), str(tensor.dtype) == "torch.bool"
        number = kind[1] is False and kind[2] is False
        fits = kind[2] if truth else number and not kind[0] if whole else number
        if tensor.numel() == 0 and not isinstance(value, type(tensor)):
            fits, tensor = True, tensor.bool() if truth else tensor.long() if whole else tensor
        if not fits or not (tensor.ndim >= len(axes) - 1 if free else tensor.ndim == len(axes)):
            raise Unfit
        return tensor if truth or whole or kind[0] else tensor.float()

    return Reading(f"a tensor of {what}, [{' '.join(axes)}]", read, axes=tuple(axes))


def _as_tensor(value: Any) -> Any:
    import torch

    if isinstance(value, torch.Tensor):
        return value
    if not hasattr(value, "__array__") and not isinstance(value, list | tuple | range):
        raise Unfit
    try:
        return torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        raise Unfit from None
