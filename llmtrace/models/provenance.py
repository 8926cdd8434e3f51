"""Where a model's numbers come from: identity, weight hash, processing flags, the user's hooks, dtype and versions.

`fold_value_biases` changes head results by O(0.4) (law 13), so a result without its flags cannot be compared with
another. Models that llmtrace did not load are welcome; their flags are recorded as unknown.

    >>> lt.models.provenance(model).flags
    {'fold_ln': True, 'center_writing_weights': True, 'center_unembed': True, 'fold_value_biases': True}
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any
from weakref import WeakKeyDictionary

from torch import nn

from llmtrace.models.architecture import describe
from llmtrace.models.state import weights_hash
from llmtrace.models.user_hooks import user_hooks

FLAGS = ("fold_ln", "center_writing_weights", "center_unembed", "fold_value_biases")


@dataclass(frozen=True)
class Provenance:
    """What travels with every result. `flags` is None where the model was not loaded by llmtrace."""

    model: str
    weights: str  # sha256 over names, shapes, dtypes and bytes
    hooks: list[str]  # the places of the user's own hooks: what these numbers were taken from is not plain
    tokenizer: str | None  # sha256 of its vocabulary
    flags: dict[str, bool] | None
    dtype: str
    device: str
    model_class: str
    versions: dict[str, str]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Origin:
    """What only the loader knows."""

    model: str
    flags: dict[str, bool]


_origins: WeakKeyDictionary[nn.Module, Origin] = WeakKeyDictionary()


def record_origin(model: nn.Module, origin: Origin) -> None:
    """Called once by `load`."""
    _origins[model] = origin


def provenance(model: Any) -> Provenance:
    """Identity of a model as it stands now. Cost: a hash over the weights the first time (1 s for 100 M parameters), a
    look at all of them each time (`state.py`)."""
    describe(model)  # refuses what is no model
    origin = _origins.get(model)
    parameter = next(model.parameters())
    return Provenance(
        model=origin.model if origin else str(getattr(model.cfg, "model_name", "unknown")),
        weights=weights_hash(model),
        hooks=[hook.name for hook in user_hooks(model)],
        tokenizer=tokenizer_hash(getattr(model, "tokenizer", None)),
        flags=dict(origin.flags) if origin else None,
        dtype=str(parameter.dtype).removeprefix("torch."),
        device=parameter.device.type,
        model_class=type(model).__name__,
        versions=versions(),
    )


def taken_from(provenance: Mapping[str, Any]) -> tuple[str | None, tuple[str, ...]]:
    """The weights and the places of hooks that a result was taken from: two that are compared have the same."""
    return provenance.get("weights"), tuple(sorted(provenance.get("hooks", ())))


_vocabularies: WeakKeyDictionary[Any, tuple[object, str]] = WeakKeyDictionary()


def tokenizer_hash(tokenizer: Any) -> str | None:
    """sha256 over the sorted vocabulary, once for each that a tokenizer has: tokens are only ever added to it."""
    if tokenizer is None:
        return None
    state = len(tokenizer), dict(getattr(tokenizer, "added_tokens_encoder", {}))
    known = _vocabularies.get(tokenizer)
    if known is None or known[0] != state:
        pairs = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
        _vocabularies[tokenizer] = known = (state, hashlib.sha256(repr(pairs).encode()).hexdigest())
    return known[1]


def versions() -> dict[str, str]:
    """Versions of what computed the numbers."""
    return {name: _installed(name) for name in ("llmtrace-interp", "transformer-lens", "torch", "transformers")}


@cache  # every result asks, each answer is read from disk, and none changes while a program runs
def _installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:  # a source tree on PYTHONPATH
        return "uninstalled"
