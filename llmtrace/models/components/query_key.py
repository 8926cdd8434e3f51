"""Attention scores as a dot product of queries and keys: what a method needs that changes one of the two by itself.

    score_ij = (R_i q_i) . (R_j k_j) / scale + anything that depends on neither (a mask, a window, ALiBi)
    pattern  = softmax(score), perhaps beside a sink

R is the rotary embedding, a matrix for each position. Whether a model computes this is asked of the model itself
(`require_dot_product`): norms of queries and keys, caps, clamps and scales that hang on more than the position do not.
"""

from __future__ import annotations

import torch
from einops import einsum
from jaxtyping import Float
from torch import Tensor

from llmtrace.errors import UnsupportedError
from llmtrace.models.architecture import describe
from llmtrace.models.blocks import block_of
from llmtrace.models.forward import Hook, Stop, final_residual, is_bridge
from llmtrace.models.hook_names import inner_name, site_name
from llmtrace.models.probes.additivity import HALF, TOLERANCE
from llmtrace.models.probes.probe_tokens import probe_tokens
from llmtrace.models.protocol import TraceModel
from llmtrace.models.user_hooks import without_user_hooks

Rotation = Float[Tensor, "pos d_head rotated"]


def score_scale(model: TraceModel, layer: int) -> float:
    """What dot products are divided by."""
    own = getattr(block_of(model, layer).attn, "attn_scale", None)
    if own is not None:
        return float(own)
    return describe(model).d_head ** 0.5 if getattr(model.cfg, "use_attn_scale", True) else 1.0


@torch.no_grad()
def rotation(model: TraceModel, layer: int, width: int) -> Rotation | None:
    """R: at each position, where every basis vector of a head's space goes; None without rotary embeddings.

    Cost: nothing to speak of; on a bridge a pass of d_head rows up to this layer.
    """
    if describe(model).positional != "rotary":
        return None
    basis = torch.eye(describe(model).d_head, dtype=model.W_E.dtype, device=model.W_E.device)
    rows = basis[:, None, None].expand(-1, width, -1, -1)  # basis vector, pos, head, d_head
    if not is_bridge(model):
        return block_of(model, layer).attn.apply_rotary(rows)[:, :, 0].transpose(0, 1)
    tokens = torch.zeros(len(basis), width, dtype=torch.long, device=basis.device)

    def stop(value: Tensor) -> None:
        raise Stop(value)

    hooks: list[Hook] = [
        (site_name("q", layer), lambda live: rows.expand_as(live)),
        (inner_name("rot_q", layer), stop),
    ]
    try:
        final_residual(model, tokens, hooks)
    except Stop as found:
        return found.value[:, :, 0].transpose(0, 1)
    raise UnsupportedError(
        f"The rotary embedding of layer {layer} is not to be seen: this TransformerBridge does not show its rotated "
        f"queries ({inner_name('rot_q', layer)}); load the model with backend='hooked'."
    )


def rotated(x: Float[Tensor, "*lead pos d_head"], by: Rotation | None) -> Float[Tensor, "*lead pos d_head"]:
    return x if by is None else einsum(x, by.to(x), "... pos d_head, pos d_head rotated -> ... pos rotated")


@torch.no_grad()
def require_dot_product(model: TraceModel, method: str) -> None:
    """Refuse a model whose patterns are something else. Cost: one forward pass on 8 tokens."""
    if problem := dot_product_problem(model):
        raise UnsupportedError(f"{method} needs patterns that are a softmax of (q . k), and {problem}; use 'eap'.")


@torch.no_grad()
def dot_product_problem(model: TraceModel) -> str:
    """Why this model's patterns are something else; "" where they are a softmax of dot products."""
    if describe(model).score_cap or any(getattr(model.cfg, name, None) for name in ("use_qk_norm", "clip_qkv")):
        return "this model caps its scores, or norms or clamps its queries and keys"
    with without_user_hooks(model):
        return _problem(model)


def _problem(model: TraceModel) -> str:
    """Two rows of tokens: what stands beside the dot products must be the same in both."""
    arch, kept = describe(model), dict[str, Tensor]()

    def keep(name: str) -> Hook:
        return name, lambda value: kept.__setitem__(name, value.detach())

    kinds, layers = ("q", "k", "v", "pattern", "z"), range(arch.n_layers)
    tokens = torch.cat([probe_tokens(model), probe_tokens(model).flip(1)])
    final_residual(model, tokens, [keep(site_name(kind, layer)) for layer in layers for kind in kinds])
    for layer in layers:
        q, k, v, pattern, z = (kept[site_name(kind, layer)] for kind in kinds)
        z = z.reshape(*z.shape[:2], arch.n_heads, arch.d_head)
        pattern, by = pattern.to(z), rotation(model, layer, tokens.shape[1])
        q, k = (rotated(x.transpose(1, 2), by) for x in (q, k))
        k, v = (x.repeat_interleave(arch.group, 1) for x in (k, v.transpose(1, 2)))
        scores = einsum(q, k, "row head i d, row head j d -> row head i j") / score_scale(model, layer)
        beside = pattern.log() - scores
        beside = beside - beside.diagonal(dim1=-2, dim2=-1)[..., None]
        seen = (pattern > 1e-4).all(0)
        tolerance = TOLERANCE.get(z.dtype, HALF)
        if (beside[0] - beside[1])[seen].abs().max() > tolerance * scores.abs().max().clamp(min=1.0):
            return f"those of layer {layer} are not"
        if (pattern @ v - z.transpose(1, 2)).abs().max() > tolerance * z.abs().max().clamp(min=1e-6):
            return f"layer {layer} does not weight its values with the pattern it shows"
    return ""
