"""`TraceModel`: what `HookedTransformer` and `TransformerBridge` share, and all that llmtrace asks of a model.

Methods, properties and plain attributes only: a runtime-checkable protocol that names a submodule passes on
Python 3.11 and fails on 3.12.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn


@runtime_checkable
class TraceModel(Protocol):
    """A model whose every activation has a TransformerLens name."""

    @property
    def cfg(self) -> Any: ...

    @property
    def hook_dict(self) -> dict[str, Any]: ...

    @property
    def W_E(self) -> Tensor: ...

    @property
    def W_U(self) -> Tensor: ...

    @property
    def b_U(self) -> Tensor: ...

    def __call__(self, input: Any, **options: Any) -> Any: ...

    def hooks(self, *args: Any, **options: Any) -> Any: ...

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]: ...

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]: ...
