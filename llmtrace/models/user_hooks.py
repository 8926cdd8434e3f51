"""The user's own hooks on a model, and the one rule about them.

**A function gives what the hooked model gives, or refuses and names the hook.** Passes are the model's own, hooks and
all. What computes a part of the model again, beside it, jumps over the hooks there, and refuses them: whether a hook
only reads cannot be known beforehand. What parts there are says `hook_names.PARTS`.

Hooks that llmtrace installs for a pass are `OwnHook`s and do not count; neither do those by which a bridge of
TransformerLens shows its activations.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn.modules import module as torch_module

from llmtrace.errors import UnsupportedError
from llmtrace.models.hook_names import ELSEWHERE, EVERY_PART, part_of
from llmtrace.models.lock import lock_of
from llmtrace.models.module_walk import named_modules_of

_DICTIONARIES = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")


class OwnHook:
    """A hook of llmtrace's, as TransformerLens calls it."""

    def __init__(self, function: Callable[[Tensor], Tensor | None]):
        self._function = function

    def __call__(self, value: Tensor, hook: Any) -> Tensor | None:
        return self._function(value)


@dataclass(frozen=True)
class UserHook:
    """`name`: of the hook point ("blocks.3.attn.hook_z") or module, `kind`: "forward", "backward pre", ...; `function`
    as the user gave it; `number`: torch's, of which it gives each only once."""

    name: str
    kind: str
    function: Callable[..., Any]
    number: int

    @property
    def part(self) -> str:
        return part_of(self.name)


def user_hooks(model: Any) -> tuple[UserHook, ...]:
    """All of them, module by module in the order of the model. Cost: a walk over the modules, .2 ms per 100."""
    with lock_of(model):
        found = [
            UserHook(_name(model, module), kind, function, number)
            for _, module in named_modules_of(model)
            for _, number, kind, function in _on(module)
        ]
    return (*found, *_on_every_module())


def is_hooked(module: Any) -> bool:
    """Whether the user has a hook on this very module."""
    return any(True for _ in _on(module))


def require_no_hooks(model: Any, method: str, parts: Collection[str] = EVERY_PART) -> None:
    """Refuse a model with the user's hooks on parts that `method` computes again beside the model."""
    if jumped := [hook for hook in user_hooks(model) if hook.part in parts]:
        raise _refusal(method, jumped[0].name)


def require_unhooked(model: Any, what: str, modules: Collection[nn.Module]) -> None:
    """The same of the very modules that are jumped over, for a piece that is run many times."""
    if any(_has_any(module) for module in modules):
        with lock_of(model):
            for module in modules:
                if is_hooked(module):
                    raise _refusal(what, _name(model, module))


@contextmanager
def without_user_hooks(model: Any) -> Iterator[None]:
    """The model without the user's hooks for a while, for questions about its weights and its code."""
    kept: list[tuple[dict[int, Any], dict[int, Any]]] = []
    with lock_of(model):
        for _, module in named_modules_of(model):
            for hooks, number, _, _ in list(_on(module)):
                if not any(hooks is known for known, _ in kept):
                    kept.append((hooks, dict(hooks)))
                del hooks[number]
        try:
            yield
        finally:
            for hooks, before in kept:  # the same dictionaries: the user's handles point to them
                hooks.clear()
                hooks.update(before)


def _refusal(what: str, name: str) -> UnsupportedError:
    return UnsupportedError(
        f"{what} computes a part of the model again, beside it, and would jump over your hook on {name}; take it off "
        "(model.reset_hooks(), handle.remove()), or use what runs whole passes (ablate, patch_sweep, capture)."
    )


def _has_any(module: nn.Module) -> bool:
    return bool(
        module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks
    )


def _on(module: nn.Module) -> Iterator[tuple[dict[int, Any], int, str, Callable[..., Any]]]:
    """(dictionary, number in it, kind, function) of each of the user's hooks on one module."""
    if not _has_any(module):
        return
    added = {
        handle.hook.id: handle.user_hook for at in ("fwd_hooks", "bwd_hooks") for handle in getattr(module, at, ())
    }
    for name in _DICTIONARIES:
        hooks = getattr(module, name)
        for number, function in hooks.items():
            function = added.get(number, function)
            of_library = getattr(function, "__module__", "").startswith("transformer_lens.")
            if not of_library and not isinstance(function, OwnHook):
                yield hooks, number, _kind(name), function


def _on_every_module() -> Iterator[UserHook]:
    for name in _DICTIONARIES:
        for number, function in getattr(torch_module, f"_global{name}", {}).items():
            yield UserHook("every module", _kind(name), function, number)


def _kind(dictionary: str) -> str:
    """`_forward_pre_hooks` is "forward pre"."""
    return dictionary.removesuffix("_hooks").strip("_").replace("_", " ")


def _name(model: Any, module: nn.Module) -> str:
    """Its name as a hook point, that of TransformerLens where it has several; else as a module."""
    points = [name for name, point in model.hook_dict.items() if point is module]
    known = [name for name in points if part_of(name) != ELSEWHERE]
    if points:
        return (known or points)[0]
    plain = next(name for name, found in named_modules_of(model) if found is module)
    return ".".join(part for part in plain.split(".") if part != "_original_component") or "the model itself"
