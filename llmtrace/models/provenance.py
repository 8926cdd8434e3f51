"""Where a model's numbers come from: identity, weight hash, processing flags, dtype and versions.

`fold_value_biases` changes head results by O(0.4) (law 13), so a result without its flags cannot be compared with
another. Models that llmtrace did not load are welcome; their flags are recorded as unknown.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn

FLAGS = ("fold_ln", "center_writing_weights", "center_unembed", "fold_value_biases")


@dataclass(frozen=True)
class Provenance:
    """What travels with every result. `flags` is None where the model was not loaded by llmtrace."""

    model: str
    weights: str  # sha256 over names, shapes, dtypes and bytes
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


def processing_flags(model: nn.Module) -> dict[str, bool] | None:
    """The weight processing that `load` did, or None where nobody can know."""
    origin = _origins.get(model)
    return dict(origin.flags) if origin else None


def provenance(model: Any) -> Provenance:
    """Identity of a model as it stands now. Cost: a hash over the weights the first time (1 s for 100 M parameters)."""
    origin = _origins.get(model)
    parameter = next(model.parameters())
    return Provenance(
        model=origin.model if origin else str(getattr(model.cfg, "model_name", "unknown")),
        weights=weights_hash(model),
        tokenizer=tokenizer_hash(getattr(model, "tokenizer", None)),
        flags=dict(origin.flags) if origin else None,
        dtype=str(parameter.dtype).removeprefix("torch."),
        device=parameter.device.type,
        model_class=type(model).__name__,
        versions=versions(),
    )


_hashes: WeakKeyDictionary[nn.Module, tuple[object, str]] = WeakKeyDictionary()


def weights_hash(model: nn.Module) -> str:
    """sha256 over every parameter: name, shape, dtype, bytes (in logical order, whatever the memory layout).

    Computed once per state of the weights (`weights_state`).
    """
    state = weights_state(model)
    known = _hashes.get(model)
    if known is None or known[0] != state:
        _hashes[model] = known = (state, _hash_parameters(model))
    return known[1]


def weights_state(model: nn.Module) -> object:
    """Changes when parameters are replaced or edited in place: torch counts edits (not those by `.data`)."""
    return tuple((p.data_ptr(), p._version) for p in model.parameters())


def _hash_parameters(model: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, parameter in sorted(model.named_parameters()):
        digest.update(f"{name} {tuple(parameter.shape)} {parameter.dtype}".encode())
        plain = parameter.detach().cpu().contiguous()
        digest.update(plain.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def tokenizer_hash(tokenizer: Any) -> str | None:
    """sha256 over the sorted vocabulary."""
    if tokenizer is None:
        return None
    pairs = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    return hashlib.sha256(repr(pairs).encode()).hexdigest()


def versions() -> dict[str, str]:
    """Versions of what computed the numbers."""
    return {name: _installed(name) for name in ("llmtrace-interp", "transformer-lens", "torch", "transformers")}


@cache  # every result asks, each answer is read from disk, and none changes while a program runs
def _installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:  # a source tree on PYTHONPATH
        return "uninstalled"
