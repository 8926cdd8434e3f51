"""Rotary tables that remember: a module with dynamic scaling keeps the frequencies of the longest text it has read.

Hugging Face makes them anew for a longer text, and takes the first ones back only for one shorter than the trained
length: at that length, and beyond it, what a text gives depended on the texts before it. So the first ones are put back
before each pass of a bridge, and a pass gives what it gives in a fresh model.
"""

from __future__ import annotations

from typing import Any

from torch import nn


def forget_longer_texts(model: Any) -> None:
    """Put the first frequencies back. Cost: nothing where the configuration says nothing of dynamic scaling."""
    if "dynamic" not in str(_scaling(model)):
        return
    for module in model.modules():
        if getattr(module, "max_seq_len_cached", None) is not None and hasattr(module, "original_max_seq_len"):
            _forget(module)


def _scaling(model: Any) -> object:
    config = getattr(getattr(model, "original_model", None), "config", None)
    return getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None)


def _forget(module: nn.Module) -> None:
    for name in [name for name in vars(module) | module._buffers if name.endswith("original_inv_freq")]:
        prefix = name.removesuffix("original_inv_freq")
        current = getattr(module, f"{prefix}inv_freq")
        module.register_buffer(f"{prefix}inv_freq", getattr(module, name).to(current), persistent=False)
        setattr(module, f"{prefix}max_seq_len_cached", module.original_max_seq_len)
