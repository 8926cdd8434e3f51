"""The normalisation before a reader, as a value: apply it, freeze its scale, pull a gradient back through it.

LN:   y = (x - mean x) / sigma,  sigma = sqrt(mean (x - mean x)^2 + eps),  output y * w + b
RMS:  y = x / sigma,             sigma = sqrt(mean x^2 + eps),             output y * w
none: output x
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

KINDS = (("RMS", 0.0), ("LN", 0.0), ("RMS", 1.0), ("LN", 1.0))  # what a module may be: kind, added to its weight


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
    """The norm that a module of a HookedTransformer or a TransformerBridge computes.

    A bridge's module is asked once, on two vectors, which one that is: some families keep weight - 1 in their files,
    and neither names nor TransformerLens' flags tell all of them.
    """
    if module is None or getattr(cfg, "normalization_type", None) is None:
        return Norm(None, None, None, 0.0)
    inside = getattr(module, "original_component", None)
    if inside is None:
        rms = "RMS" in type(module).__name__
        return _norm("RMS" if rms else "LN", module, "w", "b", 0.0, _epsilon(module, cfg))
    kind, offset = _kind(inside, cfg, module)
    return _norm(kind, inside, "weight", "bias", offset, _epsilon(module, cfg))


def _norm(kind: str, owner: nn.Module, weight: str, bias: str, offset: float, eps: float) -> Norm:
    w, b = _parameter(owner, weight), _parameter(owner, bias)
    return Norm(kind, w if w is None or not offset else offset + w, None if kind == "RMS" else b, eps)


_kinds: WeakKeyDictionary[nn.Module, tuple[str, float]] = WeakKeyDictionary()


def _kind(inside: nn.Module, cfg: Any, module: nn.Module) -> tuple[str, float]:
    """(LN or RMS, what is added to the weight). Cost: once, the norm of two vectors."""
    if inside not in _kinds:
        like = next(inside.parameters(), None)
        made = torch.randn(2, cfg.d_model, generator=torch.Generator().manual_seed(0))
        x = made if like is None else made.to(like)
        with torch.no_grad():
            theirs = type(inside).forward(inside, x)  # not by a call: hooks are for passes
            _kinds[inside] = next(
                (
                    (kind, offset)
                    for kind, offset in KINDS
                    if _near(_norm(kind, inside, "weight", "bias", offset, _epsilon(module, cfg))(x), theirs)
                ),
                ("RMS" if str(cfg.normalization_type).startswith("RMS") else "LN", 0.0),  # others refuse it by its sums
            )
    return _kinds[inside]


def _near(ours: Tensor, theirs: Tensor) -> bool:
    tolerance = 0.05 if theirs.dtype in (torch.float16, torch.bfloat16) else 1e-3
    return theirs.shape == ours.shape and bool(
        (ours - theirs).abs().max() <= tolerance * theirs.abs().max().clamp(min=1e-6)
    )


def _parameter(module: nn.Module, short: str) -> Tensor | None:
    found = getattr(module, short, None)
    return found.detach() if isinstance(found, Tensor) else None


def _epsilon(module: nn.Module, cfg: Any) -> float:
    source = getattr(module, "original_component", None)
    for owner, name in ((source, "eps"), (source, "variance_epsilon"), (module, "eps"), (cfg, "eps")):
        if isinstance(value := getattr(owner, name, None), float):
            return value
    return 1e-5
