"""What attention brings from each source token, as vectors: the pieces that token methods measure.

T_i(x_j) = sum_h A_h[i, j] v_hj W_O_h             sum_j T_i(x_j) + b_O = what attention adds to the stream (law 51)
"""

from __future__ import annotations

from einops import einsum, repeat
from jaxtyping import Float
from torch import Tensor

from llmtrace.models import TraceModel, attention_weights, describe


def value_writes(
    model: TraceModel, layer: int, v: Float[Tensor, "batch source kv_head d_head"]
) -> Float[Tensor, "batch source head d_model"]:
    """v_hj W_O_h: what a head would write of a source token if it attended to nothing else."""
    W_O = attention_weights(model, layer).W_O
    of_heads = repeat(v, "batch pos kv_head d_head -> batch pos (kv_head group) d_head", group=describe(model).group)
    return einsum(of_heads, W_O, "batch source head d_head, head d_head d_model -> batch source head d_model")


def attention_write(
    model: TraceModel, layer: int, z: Float[Tensor, "batch pos head d_head"]
) -> Float[Tensor, "batch pos d_model"]:
    """What attention adds to the stream: all heads and b_O."""
    w = attention_weights(model, layer)
    return einsum(z, w.W_O, "batch pos head d_head, head d_head d_model -> batch pos d_model") + w.b_O
