"""The normalisation before a reader, as a value: apply it, freeze its scale, pull a gradient back through it.

LN:   y = (x - mean x) / sigma,  sigma = sqrt(mean (x - mean x)^2 + eps),  output y * w + b
RMS:  y = x / sigma,             sigma = sqrt(mean x^2 + eps),             output y * w
none: output x
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True, eq=False)
class Norm:
    """`kind` is "LN", "RMS" or None. Folded norms have no weight and no bias."""

    kind: str | None
    weight: Float[Tensor, " d_model"] | None
    bias: Float[Tensor, " d_model"] | None
    eps: float

    def __call__(self, x: Float[Tensor, "*lead d_model"]) -> Float[Tensor, "*lead d_model"]:
        if self.kind is None:
            return x
        wide = _wide(x)  # as TransformerLens and Hugging Face do: half precision is not enough for a mean square
        fused = functional.layer_norm if self.kind == "LN" else functional.rms_norm
        return self._affine(fused(wide, wide.shape[-1:], eps=self.eps).to(x.dtype))

    def scale(self, x: Float[Tensor, "*lead d_model"]) -> Float[Tensor, "*lead 1"]:
        """sigma: what a frozen norm divides by."""
        if self.kind is None:
            return torch.ones_like(x[..., :1])
        x = _wide(x)
        return (self._centre(x).pow(2).mean(-1, keepdim=True) + self.eps).sqrt()

    def frozen(
        self, write: Float[Tensor, "*lead d_model"], scale: Float[Tensor, "*#lead 1"]
    ) -> Float[Tensor, "*lead d_model"]:
        """What one write adds to the normed stream when sigma stays as it is: linear, so writes add up (law 6)."""
        if self.kind is None:
            return write
        normed = (self._centre(write) / scale).to(write.dtype)
        return normed if self.weight is None else normed * self.weight

    def frozen_transpose(
        self, direction: Float[Tensor, "*lead d_model"], scale: Float[Tensor, "*#lead 1"]
    ) -> Float[Tensor, "*lead d_model"]:
        """The direction as the un-normed stream sees it: frozen(a) . direction = a . frozen_transpose(direction)."""
        if self.kind is None:
            return direction
        return (self._centre(direction if self.weight is None else direction * self.weight) / scale).to(direction.dtype)

    def pull_back(
        self, x: Float[Tensor, "*#lead d_model"], gradient: Float[Tensor, "*lead d_model"]
    ) -> Float[Tensor, "*lead d_model"]:
        """d metric / dx from d metric / d output: (g - mean g - y mean(g y)) / sigma, g weighted; RMS keeps mean g."""
        if self.kind is None:
            return gradient
        sigma = self.scale(x)
        y = self._centre(x) / sigma
        g = gradient if self.weight is None else gradient * self.weight
        along_y = y * (g * y).mean(-1, keepdim=True)
        return ((self._centre(g) - along_y) / sigma).to(gradient.dtype)

    def _centre(self, x: Tensor) -> Tensor:
        return x - x.mean(-1, keepdim=True) if self.kind == "LN" else x

    def _affine(self, y: Tensor) -> Tensor:
        y = y if self.weight is None else y * self.weight
        return y if self.bias is None else y + self.bias


def _wide(x: Tensor) -> Tensor:
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def norm_of(module: nn.Module | None, cfg: Any) -> Norm:
    """The norm that a module of a HookedTransformer or a TransformerBridge computes."""
    if module is None or getattr(cfg, "normalization_type", None) is None:
        return Norm(None, None, None, 0.0)
    on_bridge = getattr(module, "uses_rms_norm", None)
    rms = "RMS" in type(module).__name__ if on_bridge is None else bool(on_bridge)
    weight, bias = _parameter(module, "w"), _parameter(module, "b")
    if weight is not None and _stores_weight_minus_one(module, cfg, rms):
        weight = 1.0 + weight
    return Norm("RMS" if rms else "LN", weight, None if rms else bias, _epsilon(module, cfg))


def _parameter(module: nn.Module, short: str) -> Tensor | None:
    found = getattr(module, short, None)
    return found.detach() if isinstance(found, Tensor) else None


def _stores_weight_minus_one(module: nn.Module, cfg: Any, rms: bool) -> bool:
    """Gemma keeps w - 1 in its files; a bridge leaves it so, a HookedTransformer adds the one at load."""
    if not hasattr(module, "original_component"):
        return False
    explicit = getattr(module, "uses_weight_offset", None)
    return bool(explicit) if explicit is not None else rms and bool(getattr(cfg, "rmsnorm_uses_offset", False))


def _epsilon(module: nn.Module, cfg: Any) -> float:
    source = getattr(module, "original_component", None)
    for owner, name in ((source, "eps"), (source, "variance_epsilon"), (module, "eps"), (cfg, "eps")):
        if isinstance(value := getattr(owner, name, None), float):
            return value
    return 1e-5
