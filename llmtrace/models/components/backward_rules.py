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
from llmtrace.models.blocks import block_of
from llmtrace.models.forward import Hook, is_bridge
from llmtrace.models.hook_names import inner_name, scales_of_norms, site_name
from llmtrace.models.protocol import TraceModel
from llmtrace.models.user_hooks import require_no_hooks

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
    require_no_hooks(model, f"The backward rule {name}", ("neurons",) if name == "relp" else ("pattern",))
    if name == "gim" and describe(model).sinks:
        raise UnsupportedError("The backward rule gim has no softmax with attention sinks; use rule='relp'.")
    hooks: list[Hook] = [(hook, torch.Tensor.detach) for hook in scales_of_norms(model.hook_dict)]
    for layer in range(describe(model).n_layers):
        hooks += _relp(model, layer) if name == "relp" else _gim(layer)
    return BackwardRule(name, tuple(hooks))


def _slope_of(value: Tensor, stand_in: Tensor) -> Tensor:
    """The value of one, the slope of the other."""
    return value.detach() + (stand_in - stand_in.detach())


def _relp(model: TraceModel, layer: int) -> list[Hook]:
    arch = describe(model)
    if arch.attn_only:
        return []
    act, kept = block_of(model, layer).mlp.act_fn, dict[str, Tensor]()

    def post(value: Tensor) -> Tensor:
        x = kept["mlp_pre"]
        acted = act(x.detach())
        ratio = torch.where(x.detach() == 0, 0.0, acted / x.detach())
        if not arch.gated:
            return _slope_of(value, x * ratio)
        linear = kept["mlp_pre_linear"]
        return _slope_of(value, (x * ratio * linear.detach() + acted * linear) / 2)

    read = [_keep(site_name("mlp_pre", layer), "mlp_pre", kept)]
    if arch.gated:
        read.append(_keep(inner_name("mlp_pre_linear", layer), "mlp_pre_linear", kept))
    return [*read, (site_name("mlp_post", layer), post)]


def _gim(layer: int) -> list[Hook]:
    kept = dict[str, Tensor]()

    def softened(pattern: Tensor) -> Tensor:
        return _slope_of(pattern, (kept["scores"] / TEMPERATURE).softmax(-1))

    def times(share: float) -> Callable[[Tensor], Tensor]:
        return lambda value: _slope_of(value, share * value)

    return [
        *((site_name(slot, layer), times(share)) for slot, share in SHARES.items()),
        _keep(site_name("scores", layer), "scores", kept),
        (site_name("pattern", layer), softened),
    ]


def _keep(hook: str, name: str, into: dict[str, Any]) -> Hook:
    return hook, lambda value: into.__setitem__(name, value)
