"""Attention from given queries, keys and values on, for any of a layer's heads: TransformerLens' own, not a copy of it.

Rotary and ALiBi positions, norms of queries and keys, windows, caps and sinks stay where TransformerLens computes them:
a light copy of the layer's attention module is narrowed to some heads and handed q, k and v in place of its inputs. A
bridge cannot be narrowed, so there it is a pass up to the layer, whose q, k and v are replaced (the numbers are the
same).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from llmtrace.errors import UnsupportedError
from llmtrace.models.architecture import describe
from llmtrace.models.blocks import block_of
from llmtrace.models.forward import KeysValues, Past, Stop, final_residual, is_bridge
from llmtrace.models.hook_names import AROUND_ATTENTION, inside_attention, is_hook, site_name
from llmtrace.models.module_walk import named_modules_of
from llmtrace.models.protocol import TraceModel
from llmtrace.models.user_hooks import require_unhooked

OVER_ALL_HEADS = ("Olmo2ForCausalLM", "Olmo3ForCausalLM", "OlmoeForCausalLM")


def require_separate_heads(model: TraceModel, method: str) -> None:
    """Refuse a model in which what one head does depends on the queries and keys of the others."""
    architecture = getattr(model.cfg, "original_architecture", None)
    if architecture in OVER_ALL_HEADS:
        raise UnsupportedError(
            f"{method} needs heads that work apart; {architecture} norms queries and keys over all heads together."
        )


def attend(
    model: TraceModel,
    layer: int,
    heads: Sequence[int],
    q: Float[Tensor, "row query head d_head"],
    k: Float[Tensor, "row key head d_head"],
    v: Float[Tensor, "row key head d_head"],
) -> Float[Tensor, "row query head d_head"]:
    """z of `heads`, from activations as the hooks q, k and v have them, one slice for each of `heads`.

    With grouped queries the heads of a group are given the same k and v. Fewer queries than keys: the last ones (not on
    a bridge). Cost: the scores and the weighted values of these heads; on a bridge a pass up to this layer.
    """
    attention = block_of(model, layer).attn
    require_unhooked(model, "Attention by itself", _jumped_over(attention))
    if is_bridge(model):
        return _on_bridge(model, layer, heads, q, k, v)
    module = _narrowed(attention, list(heads), keys=k.shape[1])
    if module.cfg.use_qk_norm:
        q, k = module._apply_qk_norm(q, module.q_norm), module._apply_qk_norm(k, module.k_norm)
    before = k.shape[1] - q.shape[1]
    module.calculate_qkv_matrices = lambda *new: new
    past = Past(KeysValues(k[:, :before], v[:, :before])) if before else None
    try:
        module.forward(q, k[:, before:], v[:, before:], past_kv_cache_entry=past)
    except Stop as stop:
        return stop.value
    raise AssertionError("attention ran past its z")


def _jumped_over(attention: nn.Module) -> list[nn.Module]:
    """All of it but the hook points up to q, k and v and behind z."""
    outside = {id(getattr(attention, name, None)) for name in AROUND_ATTENTION}
    return [module for _, module in named_modules_of(attention) if id(module) not in outside]


class _StopHere(nn.Module):
    def forward(self, value: Tensor) -> Tensor:
        raise Stop(value)


def _narrowed(attention: Any, heads: list[int], keys: int) -> Any:
    """The module with these heads only, as multi-head attention, that stops at z. The original keeps its own dicts."""
    module, cfg = copy.copy(attention), copy.copy(attention.cfg)
    for name in ("_parameters", "_buffers", "_modules"):
        setattr(module, name, dict(getattr(attention, name)))
    cfg.n_heads, cfg.ungroup_grouped_query_attention = len(heads), True
    module.cfg = cfg
    for name in attention._modules:
        if is_hook(name):
            module._modules[name] = _StopHere() if name == inside_attention("z") else nn.Identity()
    if cfg.positional_embedding_type == "alibi":
        module.alibi = type(attention).create_alibi_bias(attention.cfg.n_heads, keys, cfg.device)[heads]
    if cfg.use_attention_sinks:
        module._parameters["sinks"] = nn.Parameter(attention.sinks[heads], requires_grad=False)
    return module


def _on_bridge(
    model: TraceModel, layer: int, heads: Sequence[int], q: Tensor, k: Tensor, v: Tensor
) -> Float[Tensor, "row query head d_head"]:
    assert q.shape[1] == k.shape[1], "a bridge runs all positions"
    arch, chosen = describe(model), list(heads)
    groups = [head // arch.group for head in chosen]

    def replaced(slot: str, value: Tensor, total: int, at: list[int]) -> Any:
        whole = value.new_zeros(*value.shape[:2], total, value.shape[-1])
        source = {place: index for index, place in enumerate(at)}  # heads of one group bring the same keys: one of them
        places = torch.tensor(list(source), device=value.device)
        whole = whole.index_copy(2, places, value[:, :, list(source.values())])
        return site_name(slot, layer), lambda live: whole.reshape(live.shape)

    def stop(value: Tensor) -> None:
        raise Stop(value)

    hooks = [
        replaced("q", q, arch.n_heads, chosen),
        replaced("k", k, arch.n_kv_heads, groups),
        replaced("v", v, arch.n_kv_heads, groups),
        (site_name("z", layer), stop),
    ]
    any_tokens = torch.zeros(q.shape[:2], dtype=torch.long, device=q.device)
    try:
        final_residual(model, any_tokens, hooks)
    except Stop as found:
        return found.value.reshape(*q.shape[:2], arch.n_heads, -1)[:, :, chosen]
    raise AssertionError("a bridge ran past the z of its layer")
