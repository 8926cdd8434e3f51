"""Granite multiplies embeddings, writes, scores and logits by numbers of its configuration: folded into the weights, it
is a Llama, whose writes add up and whose logits are read off the residual stream as they are.

    W_E <- e W_E,   W_Q <- a sqrt(d_head) W_Q,   W_O, W_down <- r W_O, r W_down,   W_U <- W_U / s
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

OF_CONFIGURATION = ("embedding_multiplier", "attention_multiplier", "residual_multiplier", "logits_scaling")
QUERIES = "self_attn.q_proj"
WRITERS = ("self_attn.o_proj", "mlp.down_proj", "block_sparse_moe.experts.down_proj", "shared_mlp.output_linear")


def has_multipliers(hf: Any) -> bool:
    """Whether the four are there, and every layer is attention and an MLP, or experts: hybrids keep them."""
    if not all(hasattr(hf.config, name) for name in OF_CONFIGURATION):
        return False
    return all(hasattr(layer, "self_attn") and not hasattr(layer, "mamba") for layer in hf.model.layers)


@torch.no_grad()
def fold_multipliers(hf: Any) -> None:
    """In place: the same function, every multiplier 1 and scores divided by sqrt(d_head)."""
    config, inner = hf.config, hf.model
    embedding, attention, residual, logits = (float(getattr(config, name)) for name in OF_CONFIGURATION)
    unembed, embed = hf.get_output_embeddings(), hf.get_input_embeddings()
    if unembed.weight is embed.weight:
        unembed.weight = nn.Parameter(embed.weight.clone(), requires_grad=False)
        config.tie_word_embeddings = False
    embed.weight.mul_(embedding)
    unembed.weight.div_(logits)
    for layer in inner.layers:
        heads = layer.self_attn
        usual = heads.head_dim**-0.5
        for name, parameter in layer.named_parameters():
            owner = name.removesuffix(".weight").removesuffix(".bias")
            parameter.mul_(attention / usual if owner == QUERIES else residual if owner in WRITERS else 1.0)
        heads.scaling, layer.residual_multiplier = usual, 1.0
    inner.embedding_multiplier = 1.0
    config.embedding_multiplier = config.residual_multiplier = config.logits_scaling = 1.0
    config.attention_multiplier = inner.layers[0].self_attn.scaling
