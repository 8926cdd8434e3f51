"""A small model from given weights, as a `HookedTransformer` or as a `TransformerBridge` with the same numbers.

Weights carry HookedTransformer's names and shapes; a missing bias is zero. The bridge stands around TransformerLens'
own small transformer (`NativeModel`), which 3.9 and 4.x both have. Nothing is processed: weights mean what they say.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from einops import rearrange

from llmtrace.shapes import Tensor

NATIVE = "TransformerLensNative"


@dataclass(frozen=True)
class Shape:
    """A causal transformer without norms; `d_mlp` 0 is attention-only."""

    n_layers: int
    n_heads: int
    d_model: int
    d_head: int
    d_mlp: int
    d_vocab: int
    n_ctx: int
    act_fn: str = "relu"

    def options(self) -> dict[str, Any]:
        """Keyword arguments that the configurations of both classes take."""
        return asdict(self) | {
            "d_mlp": self.d_mlp or None,
            "attn_only": self.d_mlp == 0,
            "normalization_type": None,
            "default_prepend_bos": True,
            "init_weights": False,
        }


def hooked_from_weights(name: str, shape: Shape, weights: dict[str, Tensor], tokenizer: Any, dtype: torch.dtype) -> Any:
    """A HookedTransformer on the CPU. transformer-lens 3.9 only."""
    from transformer_lens import HookedTransformer, HookedTransformerConfig

    from llmtrace.models.loading.memory_layout import lay_out
    from llmtrace.models.loading.quiet_libraries import hooked_transformer_is_welcome

    cfg = HookedTransformerConfig(**shape.options(), model_name=name, dtype=dtype, device="cpu")
    with hooked_transformer_is_welcome():
        model = HookedTransformer(cfg, tokenizer=tokenizer)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            parameter.copy_(weights[key]) if key in weights else parameter.zero_()
        lay_out(model)
    return model


def bridge_from_weights(name: str, shape: Shape, weights: dict[str, Tensor], tokenizer: Any, dtype: torch.dtype) -> Any:
    """A TransformerBridge in compatibility mode, on the CPU. transformer-lens 3.9 and 4.x."""
    from transformer_lens.config import TransformerBridgeConfig
    from transformer_lens.model_bridge.sources import build_bridge_from_module
    from transformer_lens.model_bridge.sources.native import NativeModel

    cfg = TransformerBridgeConfig(**shape.options(), model_name=name, dtype=dtype, device="cpu", architecture=NATIVE)
    native = NativeModel(cfg).to(dtype)
    found = {_native_name(key): _native_weight(key, value) for key, value in weights.items()}
    with torch.no_grad():
        for key, parameter in native.named_parameters():
            parameter.copy_(found[key]) if key in found else parameter.zero_()
    bridge = build_bridge_from_module(native, NATIVE, tl_config=cfg, tokenizer=tokenizer, model_name=name)
    bridge.enable_compatibility_mode(disable_warnings=True, no_processing=True)
    return bridge


def _native_name(key: str) -> str:
    """`blocks.0.attn.W_Q` -> `layers.0.attn.q.weight`."""
    outer = {"embed.W_E": "tok_embed.weight", "pos_embed.W_pos": "pos.weight", "unembed.W_U": "head.weight"}
    if key in outer:
        return outer[key]
    _, layer, part, leaf = key.split(".")
    kind, slot = leaf.split("_")
    slot = {"in": "fc_in", "out": "fc_out"}.get(slot, slot.lower())
    return f"layers.{layer}.{part}.{slot}.{'weight' if kind == 'W' else 'bias'}"


def _native_weight(key: str, weight: Tensor) -> Tensor:
    match key.rsplit(".", 1)[-1]:
        case "W_E" | "W_pos" | "b_O" | "b_in" | "b_out":
            return weight
        case "W_U" | "W_in" | "W_out":
            return rearrange(weight, "d_in d_out -> d_out d_in")
        case "W_Q" | "W_K" | "W_V":
            return rearrange(weight, "head d_model d_head -> (head d_head) d_model")
        case "W_O":
            return rearrange(weight, "head d_head d_model -> d_model (head d_head)")
        case "b_Q" | "b_K" | "b_V":
            return rearrange(weight, "head d_head -> (head d_head)")
        case other:
            raise KeyError(other)
