"""How torch is set to compute: what would change numbers, or forbid gradients, behind a model's back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from llmtrace.errors import InputError, UnsupportedError


def require_own_arithmetic(model: Any) -> None:
    """Refuse what would compute in other numbers than the model's: autocast, and weights that were cast after loading
    without their configuration, which TransformerLens computes with as well."""
    weights = model.W_E
    if torch.is_autocast_enabled(weights.device.type):
        raise UnsupportedError(
            "Under torch.autocast a pass and what is computed from it are rounded in places of torch's choosing; leave "
            f"it, and load the model in the dtype you want (dtype={torch.get_autocast_dtype(weights.device.type)})."
        )
    asked = getattr(model.cfg, "dtype", None)
    if asked is not None and asked != weights.dtype:
        raise UnsupportedError(
            f"Expected weights of the dtype in the model's configuration, {asked}, got {weights.dtype}: the model was "
            f"cast after loading; use model.to({weights.dtype}), which tells the configuration, or load(dtype=...)."
        )


@contextmanager
def recording_gradients(model: Any) -> Iterator[None]:
    """`torch.enable_grad()`, or a sentence where torch would record nothing.

    Raises InputError under inference_mode, and for a model that was made there.
    """
    if torch.is_inference_mode_enabled() or next(model.parameters()).is_inference():
        raise InputError(
            "Expected a model and a call outside of torch.inference_mode(), where no gradient is recorded; leave it, "
            "and load the model outside. torch.no_grad() may stay: it is lifted where a gradient is needed."
        )
    with torch.enable_grad():
        yield
