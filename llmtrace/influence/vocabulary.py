"""The vocabulary at the two ends of the residual stream: what a token brings in, and the direction that each reads out.

in    the token's embedding as it enters the first block (scaled or normed where the model does so), no position; with
      `through_mlp0` the first MLP's output added: in many models that MLP finishes the embedding (Wang et al. 2022)
out   W_U with the final norm's weight (and centring) folded in, centred over the vocabulary: logits mean something up
      to a constant, so no score here changes when a model is loaded with or without weight processing

Norm biases belong to neither: they add the same to every token. A final soft cap bends logits and keeps their order.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from llmtrace.errors import UnsupportedError
from llmtrace.models import Norm, TraceModel, describe, embedding, final_norm, run_mlp

CHUNK = 4096  # tokens embedded at once


@torch.no_grad()
def token_vectors(
    model: TraceModel, tokens: Int[Tensor, " n"] | None = None, *, through_mlp0: bool = False
) -> Float[Tensor, "n d_model"]:
    """What each token (default: all of them) brings into the first block. Cost: no layer is run, or one MLP."""
    arch = describe(model)
    if through_mlp0 and arch.attn_only:
        raise UnsupportedError(
            "This model is attention-only, so no MLP finishes its embedding; leave through_mlp0 out."
        )
    tokens = torch.arange(model.W_E.shape[0]) if tokens is None else tokens
    apart = arch.positional == "standard"  # else nothing but the token is in the first stream
    found = torch.cat([embedding(model, chunk[:, None], split=apart)[0, :, 0] for chunk in tokens.split(CHUNK)])
    return found + run_mlp(model, 0, found) if through_mlp0 else found


def without_bias(norm: Norm, x: Float[Tensor, "*lead d_model"]) -> Float[Tensor, "*lead d_model"]:
    """norm(x) less the norm's bias."""
    return norm.frozen(x, norm.scale(x))


def readout(model: TraceModel) -> Float[Tensor, "d_vocab d_model"]:
    """A row for each token: what of the final residual stream, over its scale, becomes that token's logit."""
    seen = final_norm(model).frozen_transpose(model.W_U.detach().T, model.W_U.new_ones(1, 1))
    return seen - seen.mean(0)


def through_norm(norm: Norm, weight: Float[Tensor, "*lead d_model d_out"]) -> Float[Tensor, "*lead d_model d_out"]:
    """Weights that read a normed stream, as they read the stream itself: the norm's weight and centring folded in."""
    weight = weight.mT
    return norm.frozen_transpose(weight, weight.new_ones(1).expand(*weight.shape[:-1], 1)).mT
