"""Lay out the weights of a `HookedTransformer` so that its forward pass copies none of them.

TransformerLens 3.9 rearranges weights on *every* call: `W_U.T.contiguous()`, `W_gate.T.contiguous()`,
`rearrange(W_Q, "head d_model d_head -> (head d_head) d_model")` and so on, to feed `F.linear` as Hugging Face does.
A tensor whose memory is already in that order makes each of them a view. Names, shapes and values stay, so hooks,
state dicts and weight reads notice nothing; only strides change.

Cost: one pass over the weights, one parameter at a time; afterwards one copy of the weights in memory, as before.
Source: TransformerLens' `components.{unembed,abstract_attention,grouped_query_attention,mlps.gated_mlp}` and
`utilities.attention`.
"""

from __future__ import annotations

from typing import Any

# parameter name -> the order in which TransformerLens wants its axes in memory
MEMORY_ORDER = {
    "unembed.W_U": (1, 0),
    **{f"attn.{name}": (0, 2, 1) for name in ("W_Q", "W_K", "W_V", "_W_K", "_W_V")},
    "attn.W_O": (2, 0, 1),
}
GATED_MEMORY_ORDER = {f"mlp.{name}": (1, 0) for name in ("W_in", "W_gate", "W_out")}


def lay_out(model: Any) -> None:
    """Change the strides of a HookedTransformer's parameters in place; values are untouched.

    A plain MLP reads W_in and W_out as they are (`addmm`), only a gated one transposes them.
    """
    orders = MEMORY_ORDER | (GATED_MEMORY_ORDER if model.cfg.gated_mlp else {})
    for name, parameter in model.named_parameters():
        order = next((order for suffix, order in orders.items() if name.endswith(suffix)), None)
        if order is None:
            continue
        inverse = tuple(order.index(axis) for axis in range(len(order)))
        parameter.data = parameter.data.permute(order).contiguous().permute(inverse)
