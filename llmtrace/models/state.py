"""What a model is at this moment: all that its numbers depend on, beside the code.

    weights    parameters and buffers
    settings   numbers, words and functions that its modules and configurations hold (`attn_scale`, soft caps, ...)
    hooks      the user's (`user_hooks.py`)

Whatever is kept between calls is kept for one state: verdicts about a model (`probes/`, asked without the user's hooks,
so for weights and settings alone), its hash in a result's provenance, and the file of a run that was stopped.

torch counts edits of a tensor, but not those through `.data`, so the contents are looked at too. Cost: a sum over all
bytes of a model up to `FULL` (10 ms for 64 MB), and of any model in `thorough` (once per result); else 64 numbers of
each larger tensor. What is missed: in a larger model, by verdicts alone, an edit through `.data` of other numbers than
these; and, anywhere, one after which the words of a large tensor have the same sum and those 64 are as they were.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary
from zlib import crc32

import torch
from torch import Tensor

from llmtrace.models.module_walk import named_modules_of
from llmtrace.models.user_hooks import user_hooks

FULL = 2**26  # bytes
SMALL = 2**16  # bytes of a tensor: all of it is looked at, in their order
LOOKED_AT = 64  # numbers of a larger one
# What modules hold beside what they compute with: names, places, what they count or remember of the last pass.
_ASIDE = frozenset(
    {"name", "context_level", "is_caching", "device", "dtype", "n_devices", "seed", "max_seq_len_cached"}
)
_WORDS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def weights_state(model: Any, *, thorough: bool = False) -> object:
    """Changes when parameters or buffers are replaced or edited."""
    tensors = list(_tensors(model))
    every = thorough or sum(tensor.nbytes for tensor in tensors) <= FULL
    return [(tensor.data_ptr(), tensor.dtype, _edits(tensor), *_look(tensor, every)) for tensor in tensors]


def settings(model: Any) -> dict[str, object]:
    """Numbers, words and functions that modules and their configurations hold, by place."""
    return dict(_settings(model))


def _settings(model: Any) -> Iterator[tuple[str, object]]:
    seen = set[int]()
    for name, module in named_modules_of(model):
        if type(module).__name__ == "HookPoint":  # most modules, and they compute nothing
            continue
        held = vars(module)
        for key, value in held.items():
            if key in ("cfg", "config") and id(value) not in seen and hasattr(value, "__dict__"):
                seen.add(id(value))
                yield from _plain(f"{name}.{key}.", vars(value))
        yield from _plain(f"{name}.", held)


_hashes: WeakKeyDictionary[Any, tuple[object, str]] = WeakKeyDictionary()


def weights_hash(model: Any) -> str:
    """sha256 over every parameter: name, shape, dtype, bytes (in logical order, whatever the memory layout).

    Computed once per state of the weights.
    """
    state = weights_state(model, thorough=True)
    known = _hashes.get(model)
    if known is None or known[0] != state:
        _hashes[model] = known = (state, _hash_parameters(model))
    return known[1]


def _hash_parameters(model: Any) -> str:
    digest = hashlib.sha256()
    for name, parameter in sorted(model.named_parameters()):
        digest.update(f"{name} {tuple(parameter.shape)} {parameter.dtype}".encode())
        plain = parameter.detach().cpu().contiguous()
        digest.update(plain.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


@dataclass(frozen=True, eq=False)
class ModelState:
    """What a run's numbers depend on, beside what is asked: where a run is taken up again it must be the same."""

    weights: str
    settings: dict[str, object]
    hooks: tuple[tuple[str, str, Callable[..., Any]], ...]

    @classmethod
    def of(cls, model: Any) -> ModelState:
        return cls(
            weights_hash(model),
            settings(model),
            tuple((hook.name, hook.kind, hook.function) for hook in user_hooks(model)),
        )


def _tensors(model: Any) -> Iterator[Tensor]:
    """Parameters, and the buffers that belong to the weights: others are tables, which some modules make while they
    run."""
    for _, module in named_modules_of(model):
        yield from (parameter for parameter in module._parameters.values() if parameter is not None)
        for name, buffer in module._buffers.items():
            if buffer is not None and name not in module._non_persistent_buffers_set:
                yield buffer


def _edits(tensor: Tensor) -> int:
    return -1 if tensor.is_inference() else tensor._version  # tensors made under inference_mode count none


def _look(tensor: Tensor, every: bool) -> tuple[int, int]:
    """Two numbers that change with the contents: the sum of all words, and one of some words that minds their order."""
    flat = _words(tensor.detach() if tensor.requires_grad else tensor)
    words: Any = flat.numpy() if flat.is_cpu else flat
    if flat.is_cpu and words.nbytes <= SMALL:
        return 0, crc32(words)
    some = words[:: max(1, len(words) // LOOKED_AT)]
    return int(words.sum()) if every else 0, int((some[1:] * some[:-1]).sum())


def _words(tensor: Tensor) -> Tensor:
    """The contents in the order in which they lie, as whole numbers, of eight bytes where they fit."""
    if not tensor.is_contiguous():
        strides = tensor.stride()
        tensor = tensor.permute(sorted(range(tensor.ndim), key=lambda axis: -strides[axis]))
    flat, size = tensor if tensor.ndim == 1 else tensor.reshape(-1), tensor.element_size()
    wide = len(flat) * size % 8 == 0 and flat.storage_offset() * size % 8 == 0 and size < 16
    return flat.view(torch.int64 if wide else _WORDS.get(size, torch.int64))


def _plain(place: str, held: dict[str, Any]) -> Iterator[tuple[str, object]]:
    for key, value in held.items():
        if (key[:1] == "_" and key != "_attn_implementation") or key in _ASIDE:
            continue
        if isinstance(value, bool | int | float | str | None):
            yield place + key, value
        elif isinstance(value, list | tuple):
            if all(isinstance(x, bool | int | float | str | None) for x in value):
                yield place + key, tuple(value)
        elif callable(value) and not isinstance(value, type):
            function = getattr(value, "__qualname__", None) or type(value).__qualname__
            yield place + key, f"{getattr(value, '__module__', '')}.{function}"
