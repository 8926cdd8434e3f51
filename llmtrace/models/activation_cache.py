"""TransformerLens' own `ActivationCache` over a trace, for code that expects one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from llmtrace.errors import InputError
from llmtrace.models.protocol import TraceModel

if TYPE_CHECKING:
    from torch import Tensor
    from transformer_lens import ActivationCache


def as_cache(trace: Any, model: TraceModel) -> ActivationCache:
    """An ActivationCache that holds the activations of a `signals.Trace` (or of any mapping by hook name)."""
    from transformer_lens import ActivationCache

    activations: Mapping[str, Tensor] = getattr(trace, "activations", trace)
    if not isinstance(activations, Mapping):
        raise InputError(f"Expected a Trace or activations by name, got {type(trace).__name__}; capture() makes one.")
    return ActivationCache(dict(activations), model)
