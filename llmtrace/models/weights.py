"""One view of a layer's weights, the same for a HookedTransformer and a TransformerBridge.

`model.blocks[...]` is written here and nowhere else. Nothing is copied: the view holds the model's own tensors.
Key and value weights are those of the key-value heads *that exist* (GQA is not expanded).
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from llmtrace.models.architecture import describe
from llmtrace.models.norm import Norm, norm_of
from llmtrace.models.protocol import TraceModel


@dataclass(frozen=True, eq=False)
class AttentionWeights:
    W_Q: Float[Tensor, "head d_model d_head"]
    W_K: Float[Tensor, "kv_head d_model d_head"]
    W_V: Float[Tensor, "kv_head d_model d_head"]
    W_O: Float[Tensor, "head d_head d_model"]
    b_Q: Float[Tensor, "head d_head"]
    b_K: Float[Tensor, "kv_head d_head"]
    b_V: Float[Tensor, "kv_head d_head"]
    b_O: Float[Tensor, " d_model"]
    norm: Norm
    post_norm: Norm  # between the heads' sum and the residual stream; of kind None in most models


@dataclass(frozen=True, eq=False)
class MlpWeights:
    """`W_gate` and the gate's pre-activation exist in gated MLPs only."""

    W_in: Float[Tensor, "d_model d_mlp"]
    W_gate: Float[Tensor, "d_model d_mlp"] | None
    W_out: Float[Tensor, "d_mlp d_model"]
    b_in: Float[Tensor, " d_mlp"]
    b_out: Float[Tensor, " d_model"]
    norm: Norm


@dataclass(frozen=True, eq=False)
class Reader:
    """A linear map from the normed residual stream to a hooked activation: the inside of a port.

    `hook` is the activation's TransformerLens name; `weight` has one slice per head (one for an MLP).
    """

    hook: str
    weight: Float[Tensor, "reader d_model d_out"]
    bias: Float[Tensor, "reader d_out"]


def attention_weights(model: TraceModel, layer: int) -> AttentionWeights:
    block = block_of(model, layer)
    attn, arch = block.attn, describe(model)
    W_Q = attn.W_Q.detach()
    grouped = hasattr(attn, "_W_K")  # HookedTransformer keeps the unexpanded weights under an underscore
    of_kv_heads = {n: getattr(attn, f"_{n}" if grouped else n) for n in ("W_K", "W_V", "b_K", "b_V")}

    def bias(found: Tensor | None, heads: int) -> Tensor:
        return W_Q.new_zeros(heads, arch.d_head) if found is None else found.detach()

    b_O = attn.b_O
    return AttentionWeights(
        W_Q=W_Q,
        W_K=of_kv_heads["W_K"].detach(),
        W_V=of_kv_heads["W_V"].detach(),
        W_O=attn.W_O.detach(),
        b_Q=bias(attn.b_Q, arch.n_heads),
        b_K=bias(of_kv_heads["b_K"], arch.n_kv_heads),
        b_V=bias(of_kv_heads["b_V"], arch.n_kv_heads),
        b_O=W_Q.new_zeros(arch.d_model) if b_O is None else b_O.detach(),
        norm=norm_of(getattr(block, "ln1", None), model.cfg),
        post_norm=norm_of(getattr(block, "ln1_post", None), model.cfg),
    )


def mlp_weights(model: TraceModel, layer: int) -> MlpWeights:
    block = block_of(model, layer)
    mlp, arch = block.mlp, describe(model)
    W_in = mlp.W_in.detach()

    def bias(found: Tensor | None, size: int) -> Tensor:
        return W_in.new_zeros(size) if found is None else found.detach()

    return MlpWeights(
        W_in=W_in,
        W_gate=mlp.W_gate.detach() if arch.gated else None,
        W_out=mlp.W_out.detach(),
        b_in=bias(mlp.b_in, arch.d_mlp),
        b_out=bias(mlp.b_out, arch.d_model),
        norm=mlp_norm(model, layer),
    )


def mlp_norm(model: TraceModel, layer: int) -> Norm:
    return norm_of(_mlp_norm_module(block_of(model, layer)), model.cfg)


def head_readers(model: TraceModel, layer: int) -> dict[str, Reader]:
    """The q, k and v readers of a layer, by slot."""
    w = attention_weights(model, layer)
    at = f"blocks.{layer}.attn.hook_"
    return {
        "q": Reader(at + "q", w.W_Q, w.b_Q),
        "k": Reader(at + "k", w.W_K, w.b_K),
        "v": Reader(at + "v", w.W_V, w.b_V),
    }


def mlp_readers(model: TraceModel, layer: int) -> tuple[Reader, ...]:
    """An MLP reads through its pre-activations: one for a plain MLP, gate and linear part for a gated one."""
    w = mlp_weights(model, layer)
    at = f"blocks.{layer}.mlp.hook_"
    if w.W_gate is None:
        return (Reader(at + "pre", w.W_in[None], w.b_in[None]),)
    nothing = torch.zeros_like(w.b_in)[None]  # a gated MLP adds b_in after the gate
    return (Reader(at + "pre", w.W_gate[None], nothing), Reader(at + "pre_linear", w.W_in[None], nothing))


def final_norm(model: TraceModel) -> Norm:
    module: Any = model
    return norm_of(getattr(module, "ln_final", None), model.cfg)


def run_mlp(model: TraceModel, layer: int, x: Float[Tensor, "*lead d_model"]) -> Float[Tensor, "*lead d_model"]:
    """One MLP with its norm (and post-norm) on any stack of residual vectors; no attention, no other layer."""
    block = block_of(model, layer)
    flat = x.reshape(-1, 1, x.shape[-1])
    norm = _mlp_norm_module(block)
    read = flat if norm is None else norm(flat)
    out = block.mlp(read, torch.zeros_like(read)) if _adds_the_stream(block.mlp) else block.mlp(read)
    out = out[0] if isinstance(out, tuple) else out
    if (post := getattr(block, "ln2_post", None)) is not None:
        out = post(out)
    return out.reshape(x.shape)


def _adds_the_stream(mlp: Any) -> bool:
    """The MLP inside a bridge of Bloom takes the residual stream beside its input, and adds it to what it writes."""
    inside = getattr(mlp, "original_component", None)
    return inside is not None and "residual" in inspect.signature(inside.forward).parameters


def block_of(model: Any, layer: int) -> Any:
    """TransformerLens' own module of a layer."""
    return model.blocks[layer]


def _mlp_norm_module(block: nn.Module) -> nn.Module | None:
    """GPT-J-like bridges share one norm between attention and MLP."""
    for name in ("ln2", "ln1"):
        if (module := getattr(block, name, None)) is not None:
            return module
    return None
