"""All modules of a model by name, as `named_modules` gives them, some times as fast: who asks for them asks often."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn


def named_modules_of(model: Any) -> Iterator[tuple[str, nn.Module]]:
    """The model itself first ("")."""
    seen, waiting = set[int](), [("", model)]
    while waiting:
        name, module = waiting.pop()
        if module is None or id(module) in seen:
            continue
        seen.add(id(module))
        yield name, module
        prefix = f"{name}." if name else ""
        waiting += [(prefix + key, child) for key, child in reversed(module._modules.items())]
