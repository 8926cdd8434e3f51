"""Backward rules: gradients that say more than the derivative does. Values stay as they are, only slopes change.

    standard   the derivative
    relp       scales of norms are constants; act(x) is x times the constant act(x) / x; of a product (gate times linear
               part) each factor takes half                                                  (Rezaei Jafari et al. 2025)
    gim        scales of norms are constants; the softmax passes gradients at temperature 2; gradients through q and k
               are taken times 1/4, through v times 1/2                                            (Edin et al. 2025)

Each rule is a list of hooks for one forward pass. Cost: none beyond the pass.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from llmtrace.errors import InputError, UnsupportedError, did_you_mean
from llmtrace.models.architecture import describe
from llmtrace.models.protocol import TraceModel
from llmtrace.models.run import Hook, is_bridge
from llmtrace.models.weights import block_of

RULES = ("standard", "relp", "gim")
TEMPERATURE = 2.0
SHARES = {"q": 0.25, "k": 0.25, "v": 0.5}


@dataclass(frozen=True, eq=False)
class BackwardRule:
    """`hooks` must come after those that keep the activations whose gradient is asked for."""

    name: str
    hooks: tuple[Hook, ...] = ()

    @property
    def holds_norms(self) -> bool:
        """Whether the scale of a norm counts as a constant."""
        return self.name != "standard"


def backward_rule(model: TraceModel, name: str) -> BackwardRule:
    """Raises InputError for an unknown rule, UnsupportedError for a bridge (its norms and activations are not hooked)
    and, for gim, attention sinks."""
    if name not in RULES:
        raise InputError(
            f"Expected a backward rule, one of {', '.join(RULES)}, got {name!r}.{did_you_mean(name, list(RULES))}"
        )
    if name == "standard":
        return BackwardRule(name)
    if is_bridge(model):
        raise UnsupportedError(
            f"The backward rule {name} changes slopes inside norms and activations, which a TransformerBridge does not "
            "hook; load a HookedTransformer, or use rule='standard'."
        )
    if name == "gim" and describe(model).sinks:
        raise UnsupportedError("The backward rule gim has no softmax with attention sinks; use rule='relp'.")
    scales = [hook for hook in model.hook_dict if hook.endswith("hook_scale") and not hook.startswith("ln_final")]
    hooks: list[Hook] = [(hook, torch.Tensor.detach) for hook in scales]
    for layer in range(describe(model).n_layers):
        hooks += _relp(model, layer) if name == "relp" else _gim(layer)
    return BackwardRule(name, tuple(hooks))


def _slope_of(value: Tensor, stand_in: Tensor) -> Tensor:
    """The value of one, the slope of the other."""
    return value.detach() + (stand_in - stand_in.detach())


def _relp(model: TraceModel, layer: int) -> list[Hook]:
    arch, at = describe(model), f"blocks.{layer}.mlp.hook_"
    if arch.attn_only:
        return []
    act, kept = block_of(model, layer).mlp.act_fn, dict[str, Tensor]()

    def post(value: Tensor) -> Tensor:
        x = kept["pre"]
        acted = act(x.detach())
        ratio = torch.where(x.detach() == 0, 0.0, acted / x.detach())
        if not arch.gated:
            return _slope_of(value, x * ratio)
        linear = kept["pre_linear"]
        return _slope_of(value, (x * ratio * linear.detach() + acted * linear) / 2)

    read = ("pre", "pre_linear") if arch.gated else ("pre",)
    return [*(_keep(at + name, name, kept) for name in read), (at + "post", post)]


def _gim(layer: int) -> list[Hook]:
    at, kept = f"blocks.{layer}.attn.hook_", dict[str, Tensor]()

    def softened(pattern: Tensor) -> Tensor:
        return _slope_of(pattern, (kept["attn_scores"] / TEMPERATURE).softmax(-1))

    def times(share: float) -> Callable[[Tensor], Tensor]:
        return lambda value: _slope_of(value, share * value)

    return [
        *((at + slot, times(share)) for slot, share in SHARES.items()),
        _keep(at + "attn_scores", "attn_scores", kept),
        (at + "pattern", softened),
    ]


def _keep(hook: str, name: str, into: dict[str, Any]) -> Hook:
    return hook, lambda value: into.__setitem__(name, value)
