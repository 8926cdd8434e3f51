"""What every result can do: be shown as a table in a notebook, be written to a file, come back as it was.

One safetensors file: the tensors under their own names, everything else as JSON beside them. Nothing is ever unpickled:
what a file names is looked up among the dataclasses of this package, and a file that names anything else is refused.

    effects.save("effects.safetensors")
    effects = lt.load_result("effects.safetensors")

Nouns with a format of their own (a trace, a circuit, a flow graph) keep it: those files are read by others.
"""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from llmtrace.arguments import check_methods, shown
from llmtrace.errors import FileFormatError, InputError, NotFoundError, did_you_mean
from llmtrace.files import instead_of_file, require_schema, require_suffix, what_is_at, write_bytes

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

KIND, VERSION = "llmtrace.result", 1
PACKAGE = __name__.partition(".")[0]
ROWS = 12  # of a table in a notebook
# What others call it -> ours.
ELSEWHERE = {
    "plot": "lt.plot(it)", "show": "lt.plot(it)", "figure": "lt.plot(it)", "to_df": ".df()", "to_pandas": ".df()",
    "dataframe": ".df()", "to_csv": ".df().to_csv(path)", "to_json": ".df().to_json(path) or .save(path)",
}  # fmt: skip
# The same of one noun: what it has under another name.
OF_NOUNS = {
    "PromptSet": {"tokens": ".clean, .corrupted or .texts", "answers": ".correct and .wrong"},
    "Effects": {"values": ".change or .after", "max": ".top(1)"},
    "NodeScores": {"change": ".values", "max": ".top(1)"},
    "Circuit": {"heads": ".nodes", "evaluate": "lt.evaluate(model, prompts, it)"},
}


@check_methods
class Result:
    """A dataclass that was measured, or that is measured on. Its methods read their arguments, as functions do.

    _together   what to do instead of adding two of them, or taking one from another
    """

    _together: ClassVar[str] = "reckon with numbers instead, such as columns of .df()"

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        check_methods(cls)

    def df(self) -> pd.DataFrame:
        raise NotImplementedError

    if not TYPE_CHECKING:  # a checker of types would believe that every name is there

        def __getattr__(self, name: str) -> Any:
            known = [own for own in dir(type(self)) if not own.startswith("_")]
            ours = (ELSEWHERE | OF_NOUNS.get(type(self).__name__, {})).get(name)
            close = f" Did you mean {ours}?" if ours else did_you_mean(name, known)
            raise AttributeError(f"{type(self).__name__} has no {name!r}.{close}", name=name, obj=self)

        def __getitem__(self, key: Any) -> Any:
            noun, of = type(self), getattr(type(self), "of", None)
            if isinstance(key, str) and not key.startswith("_") and key in dir(noun) + [f.name for f in fields(self)]:
                advice = f"write .{key}"
            elif of is not None and not inspect.ismethod(of):
                advice = f"write .of({shown(key)})" if isinstance(key, str) else "one is .of(name), all are .df()"
            else:
                advice = "all that is in it is .df()"
            raise InputError(f"Expected no [...] behind {noun.__name__}, got [{shown(key)}]; {advice}.")

        def __add__(self, other: Any) -> Any:
            name = type(self).__name__
            raise InputError(f"Expected one {name}, got it and {shown(other)} to add or subtract; {self._together}.")

        __radd__ = __sub__ = __rsub__ = __add__

    def _repr_html_(self) -> str:
        return str(self.df().to_html(max_rows=ROWS))

    def save(self, path: str | Path) -> Path:
        """Write one safetensors file, whole or not at all; `load_result` gives back the same.

        Raises InputError for what no file can hold, such as a function of yours among the options.
        """
        from safetensors.torch import save

        require_suffix(path, ".safetensors", "a result", f", or write a table: .df().to_csv({Path(path).name!r})")
        tensors: dict[str, Tensor] = {}
        content = json.dumps(_told(self, type(self).__name__, tensors))
        about = {"kind": KIND, "schema_version": str(VERSION), "content": content}
        write_bytes(path, save(tensors, metadata=about))
        return Path(path)


def load_result(path: str | Path) -> Result:
    """What `save` wrote.

    Raises NotFoundError where there is no file, FileFormatError for one that is damaged or of another kind.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise NotFoundError(f"Expected the file of a result at {path.name!r}, {instead_of_file(path)}.")
    try:
        with safe_open(path, framework="pt") as file:
            about = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        why = f"but {path.name!r} is {what}" if (what := what_is_at(path)) else f"got {path.name!r} ({error})"
        raise FileFormatError(f"Expected a file that the save() of a result wrote, {why}.") from None
    version = about.get("schema_version", "")
    require_schema(about | {"schema_version": int(version) if version.isdigit() else version}, KIND, VERSION, path.name)
    try:
        found = _found(json.loads(about["content"]), tensors)
    except FileFormatError:
        raise
    except Exception as error:  # whatever a damaged content ends in: a key, a type, a check of the class itself
        raise FileFormatError(f"{path.name!r} is damaged ({error}); write it again.") from error
    if not isinstance(found, Result):
        raise FileFormatError(f"Expected a result in {path.name!r}, got {type(found).__name__}; write it again.")
    return found


def _told(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """A value as JSON; its tensors go to `tensors`, under their names."""
    from torch import Tensor, from_numpy

    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"number": str(value)}
    if isinstance(value, np.generic):
        return _told(value.item(), name, tensors)
    if isinstance(value, Tensor):
        tensors[name] = value.detach().cpu().contiguous().clone()
        return {"tensor": name}
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        tensors[name] = from_numpy(np.ascontiguousarray(value).copy())
        return {"array": name}
    if isinstance(value, list):
        return [_told(part, f"{name}.{i}", tensors) for i, part in enumerate(value)]
    if isinstance(value, tuple | range):
        return {"tuple": [_told(part, f"{name}.{i}", tensors) for i, part in enumerate(value)]}
    if isinstance(value, Mapping):
        pairs = [[_told(key, name, tensors), _told(part, f"{name}.{key}", tensors)] for key, part in value.items()]
        return {"map": pairs}
    if is_dataclass(value) and type(value).__module__.startswith(f"{PACKAGE}."):
        own = {f.name: _told(getattr(value, f.name), f"{name}.{f.name}", tensors) for f in fields(value) if f.init}
        return {"class": f"{type(value).__module__}:{type(value).__qualname__}", "fields": own}
    raise InputError(
        f"Expected what a file can hold (numbers, texts, tensors, nodes, results) at {name}, got "
        f"{type(value).__name__}; keep it out of what you save, or save the df()."
    )


def _found(told: Any, tensors: Mapping[str, Tensor]) -> Any:
    """The value that `_told` wrote."""
    if isinstance(told, list):
        return [_found(part, tensors) for part in told]
    match told:
        case {"number": text}:
            return float(text)
        case {"tensor": name}:
            return tensors[name]
        case {"array": name}:
            return tensors[name].numpy()
        case {"tuple": parts}:
            return tuple(_found(part, tensors) for part in parts)
        case {"map": pairs}:
            return {_found(key, tensors): _found(part, tensors) for key, part in pairs}
        case {"class": where, "fields": own}:
            return _class(where)(**{name: _found(part, tensors) for name, part in own.items()})
    return told


def _class(where: str) -> Any:
    """A dataclass of this package, and nothing else."""
    module, _, name = where.partition(":")
    if module.startswith(f"{PACKAGE}.") and name.isidentifier():
        found = getattr(import_module(module), name, None)
        if isinstance(found, type) and is_dataclass(found) and found.__module__ == module:
            return found
    raise FileFormatError(f"Expected a class of this package, got {where!r}; give a file that llmtrace wrote.")
