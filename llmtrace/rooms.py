"""Rooms whose names are looked up when they are first used: `import llmtrace` loads neither torch nor plotly.

A room's `__init__.py` says its names once, for type checkers and for this file alike:

    if TYPE_CHECKING:
        from llmtrace.prompts.prompt_set import PromptSet as PromptSet

    register = MAKERS.register
    open_room(__name__, MAKERS)

`open_room` reads that block from the source and makes the module a `Room`: an imported name is fetched when it is asked
for, and so is every row of the room's table, those that users registered included. Functions come `checked`: their
arguments are read (`arguments.py`).

A function may be called like the file that it is in (`prompts/ioi.py: ioi`). Python sets a submodule on its package
when it is imported, so the file would hide the function from then on: a room refuses a submodule in a name's place.
"""

from __future__ import annotations

import ast
import sys
from dataclasses import is_dataclass
from importlib import import_module
from types import FunctionType, ModuleType
from typing import Any

from llmtrace.arguments import check_making, checked
from llmtrace.errors import did_you_mean
from llmtrace.methods import Table

# What others call it -> our path, where no name of ours is like it.
ELSEWHERE = {
    "activation_patching": "lt.patch_sweep",
    "act_patch": "lt.patch_sweep",
    "get_act_patch_resid_pre": "lt.patch_sweep",
    "interchange_intervention": "lt.patch",
    "path_patching": "lt.path_patch",
    "causal_tracing": "lt.causal_trace",
    "attention_knockout": "lt.knock_out",
    "mean_ablate": "lt.ablate",
    "zero_ablate": "lt.ablate",
    "ablation": "lt.ablate",
    "activation_addition": "lt.steer",
    "run_with_cache": "lt.capture",
    "from_pretrained": "lt.load",
    "HookedTransformer": "lt.load",
    "dla": "lt.influence.direct_logit_attribution",
    "logit_attribution": "lt.influence.direct_logit_attribution",
    "attribution_patching": "lt.circuits.atp_star",
    "edge_attribution_patching": "lt.circuits.eap",
    "eap_integrated_gradients": "lt.circuits.eap_ig",
    "attention_rollout": "lt.influence.rollout",
    "induction_heads": "lt.influence.head_behaviour",
    "faithfulness": "lt.evaluate",
    "load_circuit": "lt.Circuit.load",
    "load_model": "lt.load",
    "load_graph": "lt.Graph.of",
    "load_effects": "lt.load_result",
    "mean_ablation": "lt.ablate",
    "zero_ablation": "lt.ablate",
    "resample_ablation": "lt.ablate",
    "head_ablation": "lt.ablate",
    "run_with_hooks": "lt.interventions.edited",
    "tokenize": "lt.from_texts",
    "ActivationCache": "lt.capture",
    "save": "lt.Effects.save",
    "utils": "lt.models",
}


class Room(ModuleType):
    """A package whose `names` (name -> module, name there) and `rows` are fetched when they are first used."""

    _names: dict[str, tuple[str, str]]
    _rows: Table[Any]

    def __getattr__(self, name: str) -> Any:
        if name in self._names:
            module, there = self._names[name]
            value: Any = import_module(f"{module}.{there}" if module == self.__name__ else module)
            value = value if module == self.__name__ else getattr(value, there)
            value = checked(value) if isinstance(value, FunctionType) else value
            self.__dict__[name] = value = check_making(value) if isinstance(value, type) and _ours(value) else value
            return value
        if name in self._rows:
            return self._rows[name].function
        raise AttributeError(self._unknown(name), name=name, obj=self)

    def __setattr__(self, name: str, value: object) -> None:
        taken = name in self._rows or self._names.get(name, (self.__name__,))[0] != self.__name__
        if not (taken and isinstance(value, ModuleType) and value.__name__ == f"{self.__name__}.{name}"):
            super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return sorted({*self.__all__, *self._rows})

    def _unknown(self, name: str) -> str:
        """A sentence that says where the name is, or one like it: here, or else in another room."""
        here, elsewhere = dir(self), _everywhere(self.__name__.partition(".")[0])
        path = elsewhere.get(name) or elsewhere.get(name.lower()) or ELSEWHERE.get(name)
        close = f" Did you mean {path!r}?" if path else did_you_mean(name, here)
        if not close:
            likely = did_you_mean(name, list(elsewhere), n=1)
            close = next((f" Did you mean {path!r}?" for own, path in elsewhere.items() if repr(own) in likely), "")
        return f"{self.__name__} has no {name!r}.{close}"


def _ours(noun: type) -> bool:
    return is_dataclass(noun) and noun.__module__.partition(".")[0] == __package__


def _everywhere(top: str) -> dict[str, str]:
    """Every public name of the package, and the one path that is documented: at the top, or in its room."""
    package: Any = sys.modules.get(top)
    names = getattr(package, "_names", {})
    found = {name: f"lt.{name}" for name, (module, _) in names.items() if module != top}
    for room in [name for name, (module, _) in names.items() if module == top]:
        for name in _public(import_module(f"{top}.{room}")):
            found.setdefault(name, f"lt.{room}.{name}")
    return found


def _public(room: ModuleType) -> list[str]:
    """A file that is a room by itself shows what it defines."""
    if isinstance(room, Room):
        return dir(room)
    own = [name for name, value in vars(room).items() if getattr(value, "__module__", None) == room.__name__]
    return [name for name in own if not name.startswith("_")]


def open_room(name: str, rows: Table[Any] | None = None, *, kind: type[Room] = Room) -> None:
    """Make the module a room: its names those of its TYPE_CHECKING block, what it says itself, and `rows`."""
    room = sys.modules[name]
    own = [said for said, value in vars(room).items() if isinstance(value, Table) or said == "register"]
    names = declared(room)
    room.__dict__.update(_names=names, _rows=Table("method") if rows is None else rows)
    room.__dict__["__all__"] = sorted({*names, *own, *(rows or ())})
    room.__class__ = kind


def declared(room: ModuleType) -> dict[str, tuple[str, str]]:
    """Name -> (module, name there), of a source's `if TYPE_CHECKING:` block."""
    loader: Any = room.__loader__
    source = loader.get_source(room.__name__)
    if source is None:
        raise ImportError(f"{room.__name__} is there without its source, from which its names are read.")
    return {
        alias.asname or alias.name: (node.module, alias.name)
        for block in ast.parse(source).body
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for node in block.body
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    }
