"""Heads and MLPs as functions of what each of their ports reads: no layer, no other component is run.

    head h writes   attend(q(x_q), k(x_k), v(x_v)) W_O      every x a residual stream of its own
    MLP writes      mlp(norm(x))

In a post-norm model a head's part of what the residual stream receives is its result under the scale that the layer's
heads have together (`heads_received`): at an edge that scale belongs to the writers.
"""

from __future__ import annotations

from collections.abc import Sequence

from einops import einsum
from jaxtyping import Float
from torch import Tensor

from llmtrace.models.architecture import describe
from llmtrace.models.attend import attend
from llmtrace.models.norm import Norm
from llmtrace.models.protocol import TraceModel
from llmtrace.models.weights import Reader, attention_weights, head_readers

Streams = Float[Tensor, "port row pos d_model"]
KvStreams = Float[Tensor, "kv_port row pos d_model"]


def project(reader: Reader, norm: Norm, which: Sequence[int], x: Streams) -> Float[Tensor, "row pos port d_out"]:
    """What some ports of a reader make of the stream that each of them reads: norm, weights, bias."""
    some = list(which)
    everyone = some == list(range(len(reader.weight)))
    weight, bias = (reader.weight, reader.bias) if everyone else (reader.weight[some], reader.bias[some])
    return einsum(norm(x), weight, "port row pos d_model, port d_model d_out -> row pos port d_out") + bias


def head_results(
    model: TraceModel, layer: int, heads: Sequence[int], q: Streams, k: KvStreams, v: KvStreams
) -> Float[Tensor, "head row pos d_model"]:
    """What `heads` write when each reads its own streams; one stream of `k` and `v` for each key-value head that
    `heads` use, in order."""
    w, readers, groups = attention_weights(model, layer), head_readers(model, layer), kv_heads(model, heads)
    at = [groups.index(head // describe(model).group) for head in heads]
    keys, values = (project(readers[slot], w.norm, groups, x) for slot, x in (("k", k), ("v", v)))
    if at != list(range(len(groups))):
        keys, values = keys[:, :, at], values[:, :, at]
    z = attend(model, layer, heads, project(readers["q"], w.norm, heads, q), keys, values)
    return through_output(model, layer, heads, z)


def through_output(
    model: TraceModel, layer: int, heads: Sequence[int], z: Float[Tensor, "row pos head d_head"]
) -> Float[Tensor, "head row pos d_model"]:
    W_O, some = attention_weights(model, layer).W_O, list(heads)
    W_O = W_O if some == list(range(len(W_O))) else W_O[some]  # in the order asked for
    return einsum(z, W_O, "row pos head d_head, head d_head d_model -> head row pos d_model")


def kv_heads(model: TraceModel, heads: Sequence[int]) -> list[int]:
    """The key-value heads that these query heads use."""
    group = describe(model).group
    return sorted({head // group for head in heads})


def heads_received(
    model: TraceModel, layer: int, results: Float[Tensor, "head *lead d_model"]
) -> Float[Tensor, "head *lead d_model"]:
    """What the residual stream receives of the results of *all* heads: these, but for post-norm models."""
    w = attention_weights(model, layer)
    if w.post_norm.kind is None:
        return results
    return w.post_norm.frozen(results, w.post_norm.scale(results.sum(0) + w.b_O))
