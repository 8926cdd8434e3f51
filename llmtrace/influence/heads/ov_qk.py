"""OV and QK circuits: what a head writes when it reads a token, and how much a token looks for another.

    OV[a, b] = n(e_a) W_V W_O u_b               what reading token a adds to the logit of b, over the final scale
    QK[a, b] = (n(e_a) W_Q + b_Q) R_d (n(e_b) W_K + b_K)^T / scale        the score of query a for key b, d back

e: what a token brings into the stream, u: what the logits read of it (`vocabulary`), n: the norm before the head, with
the token's own scale. OV leaves out what is the same for every token read (b_V, the norm's bias), so weight processing
changes neither. R_d: rotary embedding at distance d; ALiBi's slope comes on top and is left out.

Source: Elhage et al. 2021. Cost: no pass through the layers; memory d_vocab x d_head twice (a `LowRank`).
Sign: positive OV raises the logit of b, positive QK makes a look at b.
Known failure: later heads read what earlier ones wrote, not the embedding; `through_mlp0` takes the first step of that.
Refused: norms after the blocks (what a head writes is no linear map), norms of queries and keys, capped scores.

    >>> lt.influence.ov_circuit(model, lt.Head(3, 7))
    LowRank(OV circuit of 3.7: 204 x 204 of rank 16 at most)
    >>> lt.influence.qk_circuit(model, lt.Head(2, 6))
    LowRank(QK circuit of 2.6: 204 x 204 of rank 16 at most)
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from llmtrace.errors import InputError, UnsupportedError
from llmtrace.influence.heads.low_rank import LowRank
from llmtrace.influence.vocabulary import readout, token_vectors, without_bias
from llmtrace.models import TraceModel, attention_weights, describe, require_additive, require_no_hooks
from llmtrace.models.components.query_key import dot_product_problem, rotation, score_scale
from llmtrace.models.hook_names import EVERY_PART
from llmtrace.nodes import Head, NodeLike, read_node


@torch.no_grad()
def ov_circuit(model: TraceModel, head: NodeLike, *, through_mlp0: bool = False) -> LowRank:
    """[read token, written token] of one head."""
    head = _require_head(model, head)
    require_additive(model, "The OV circuit", reads=("attention",), recomputes=EVERY_PART)
    w = attention_weights(model, head.layer)
    read = without_bias(w.norm, token_vectors(model, through_mlp0=through_mlp0))
    W_V = w.W_V[head.head // describe(model).group]
    return LowRank(read @ W_V, w.W_O[head.head] @ readout(model).T, f"OV circuit of {head.label}")


@torch.no_grad()
def qk_circuit(model: TraceModel, head: NodeLike, *, distance: int = 0, through_mlp0: bool = False) -> LowRank:
    """[query token, key token] of one head. `distance`: how far back the key is, which rotary models feel."""
    head = _require_head(model, head)
    require_products(model, distance, "The QK circuit")
    turned = rotation(model, head.layer, distance + 1)  # a query at position `distance` ([-1]), a key at 0 ([0])
    w = attention_weights(model, head.layer)
    kv = head.head // describe(model).group
    read = w.norm(token_vectors(model, through_mlp0=through_mlp0))
    queries, keys = read @ w.W_Q[head.head] + w.b_Q[head.head], read @ w.W_K[kv] + w.b_K[kv]
    if turned is not None:
        queries, keys = queries @ turned[-1].to(queries), keys @ turned[0].to(keys)
    return LowRank(queries / score_scale(model, head.layer), keys.T, f"QK circuit of {head.label}")


def require_products(model: TraceModel, distance: int, method: str) -> None:
    """Raises UnsupportedError where scores are no dot products, InputError for a distance that means nothing."""
    arch = describe(model)
    require_no_hooks(model, method)
    if problem := dot_product_problem(model):
        raise UnsupportedError(
            f"{method} needs scores that are a product of queries and keys, and {problem}; look at patterns instead "
            "(head_behaviour)."
        )
    if arch.positional != "rotary" and distance:
        raise InputError(
            f"Expected distance=0 on a model with {arch.positional} positions, whose weights know none; got {distance}."
        )
    if not 0 <= distance < arch.n_ctx:
        raise InputError(f"Expected a distance from 0 to {arch.n_ctx - 1}, got {distance}; count tokens back.")


def shared_by(x: Float[Tensor, "kv_head *rest"], group: int) -> Float[Tensor, "head *rest"]:
    """What a key-value head has, for each query head that uses it. For small matrices only."""
    return x.repeat_interleave(group, 0)


def _require_head(model: TraceModel, written: NodeLike) -> Head:
    head = read_node(written)
    if not isinstance(head, Head):
        raise InputError(f"Expected a head such as Head(9, 6) or '9.6', got {head!r}; name one.")
    describe(model).require(head)
    return head
