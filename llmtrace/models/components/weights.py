"""One view of a layer's weights, the same for a HookedTransformer and a TransformerBridge.

Nothing is copied: the view holds the model's own tensors.
Key and value weights are those of the key-value heads *that exist* (GQA is not expanded).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from llmtrace.errors import UnsupportedError
from llmtrace.models.architecture import describe
from llmtrace.models.blocks import block_of, mlp_out_of, norms_of
from llmtrace.models.components.norm import Norm, norm_of
from llmtrace.models.hook_names import AROUND_MLP, inner_name, site_name
from llmtrace.models.lock import lock_of
from llmtrace.models.module_walk import named_modules_of
from llmtrace.models.protocol import TraceModel
from llmtrace.models.user_hooks import require_unhooked


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
    block, arch = block_of(model, layer), describe(model)
    attn = _part(block, "attn", layer)
    W_Q = _part(attn, "W_Q", layer).detach()
    grouped = hasattr(attn, "_W_K")  # HookedTransformer keeps the unexpanded weights under an underscore
    of_kv_heads = {n: _part(attn, f"_{n}" if grouped else n, layer) for n in ("W_K", "W_V", "b_K", "b_V")}

    def bias(found: Tensor | None, heads: int) -> Tensor:
        return W_Q.new_zeros(heads, arch.d_head) if found is None else found.detach()

    b_O = attn.b_O
    return AttentionWeights(
        W_Q=W_Q,
        W_K=of_kv_heads["W_K"].detach(),
        W_V=of_kv_heads["W_V"].detach(),
        W_O=_part(attn, "W_O", layer).detach(),
        b_Q=bias(attn.b_Q, arch.n_heads),
        b_K=bias(of_kv_heads["b_K"], arch.n_kv_heads),
        b_V=bias(of_kv_heads["b_V"], arch.n_kv_heads),
        b_O=W_Q.new_zeros(arch.d_model) if b_O is None else b_O.detach(),
        norm=norm_of(norms_of(block).attention, model.cfg),
        post_norm=norm_of(norms_of(block).attention_out, model.cfg),
    )


def mlp_weights(model: TraceModel, layer: int) -> MlpWeights:
    arch, mlp = describe(model), _part(block_of(model, layer), "mlp", layer)
    W_in = _part(mlp, "W_in", layer).detach()

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
    return norm_of(norms_of(block_of(model, layer)).mlp, model.cfg)


def head_readers(model: TraceModel, layer: int) -> dict[str, Reader]:
    """The q, k and v readers of a layer, by slot."""
    w = attention_weights(model, layer)
    return {
        "q": Reader(site_name("q", layer), w.W_Q, w.b_Q),
        "k": Reader(site_name("k", layer), w.W_K, w.b_K),
        "v": Reader(site_name("v", layer), w.W_V, w.b_V),
    }


def mlp_readers(model: TraceModel, layer: int) -> tuple[Reader, ...]:
    """An MLP reads through its pre-activations: one for a plain MLP, gate and linear part for a gated one."""
    w = mlp_weights(model, layer)
    pre = site_name("mlp_pre", layer)
    if w.W_gate is None:
        return (Reader(pre, w.W_in[None], w.b_in[None]),)
    nothing = torch.zeros_like(w.b_in)[None]  # a gated MLP adds b_in after the gate
    linear = inner_name("mlp_pre_linear", layer)
    return (Reader(pre, w.W_gate[None], nothing), Reader(linear, w.W_in[None], nothing))


def final_norm(model: TraceModel) -> Norm:
    module: Any = model
    read = [getattr(module, name, None) for name in ("ln_final", "unembed")]
    require_unhooked(
        model,
        "Reading the logits off the final stream",
        [inner for part in read for _, inner in named_modules_of(part)],
    )
    return norm_of(getattr(module, "ln_final", None), model.cfg)


def run_mlp(model: TraceModel, layer: int, x: Float[Tensor, "*lead d_model"]) -> Float[Tensor, "*lead d_model"]:
    """One MLP with its norm (and post-norm) on any stack of residual vectors; no attention, no other layer."""
    block = block_of(model, layer)
    norms, flat = norms_of(block), x.reshape(-1, 1, x.shape[-1])
    require_unhooked(model, "An MLP by itself", _jumped_over(block, norms.mlp, block.mlp, norms.mlp_out))
    with lock_of(model):
        read = flat if norms.mlp is None else norms.mlp(flat)
        out = mlp_out_of(block, read)
        return (out if norms.mlp_out is None else norms.mlp_out(out)).reshape(x.shape)


def _jumped_over(block: Any, *run: nn.Module | None) -> list[nn.Module]:
    """The modules that are run out of their place, all in them, and the block's hook points around its MLP."""
    points = (getattr(block, name, None) for name in AROUND_MLP)
    return [*(p for p in points if p is not None), *(inner for module in run for _, inner in named_modules_of(module))]


def _part(owner: Any, name: str, layer: int) -> Any:
    """TransformerLens has an error of its own for each kind of module that has no such weights."""
    try:
        return getattr(owner, name)
    except Exception as error:
        raise UnsupportedError(
            f"Expected {name} in layer {layer} of this model, got a layer of another kind (latent attention, a mixture "
            "of experts, a layer without attention, heads of several sizes); use a method that does not read weights."
        ) from error
