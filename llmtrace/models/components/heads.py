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

from llmtrace.errors import InputError
from llmtrace.models.architecture import describe
from llmtrace.models.components.attention import attend
from llmtrace.models.components.norm import Norm
from llmtrace.models.components.weights import Reader, attention_weights, head_readers
from llmtrace.models.protocol import TraceModel

Streams = Float[Tensor, "port row pos d_model"]


def project(reader: Reader, norm: Norm, which: Sequence[int], x: Streams) -> Float[Tensor, "row pos port d_out"]:
    """What some ports of a reader make of the stream that each of them reads: norm, weights, bias."""
    return _through(reader, which, norm(x), range(len(x)))


def _through(
    reader: Reader, which: Sequence[int], normed: Float[Tensor, "stream row pos d_model"], of: Sequence[int]
) -> Float[Tensor, "row pos port d_out"]:
    """The same of normed streams, port i reading stream `of[i]`; ports that share one are one product."""
    some, read = _among(which, len(reader.weight), "ports"), _among(of, len(normed), "streams")
    everyone = some == list(range(len(reader.weight)))
    weight, bias = (reader.weight, reader.bias) if everyone else (reader.weight[some], reader.bias[some])
    if len(set(read)) == 1 and len(read) > 1:
        return einsum(normed[read[0]], weight, "row pos d_model, port d_model d_out -> row pos port d_out") + bias
    normed = normed if read == list(range(len(normed))) else normed[read]
    return einsum(normed, weight, "port row pos d_model, port d_model d_out -> row pos port d_out") + bias


def head_mixtures(
    model: TraceModel,
    layer: int,
    heads: Sequence[int],
    streams: Float[Tensor, "stream row pos d_model"],
    q: Sequence[int],
    k: Sequence[int],
    v: Sequence[int],
) -> Float[Tensor, "row pos head d_head"]:
    """z of `heads` whose ports read streams of their own, or shared ones: `q[i]` says which of `streams` head i reads,
    `k` and `v` which one each key-value head that `heads` use, in order."""
    readers, groups = head_readers(model, layer), kv_heads(model, heads)
    normed = attention_weights(model, layer).norm(streams)
    at = [groups.index(head // describe(model).group) for head in heads]
    keys, values = (_through(readers[slot], groups, normed, of) for slot, of in (("k", k), ("v", v)))
    if at != list(range(len(groups))):
        keys, values = keys[:, :, at], values[:, :, at]
    return attend(model, layer, heads, _through(readers["q"], heads, normed, q), keys, values)


def through_output(
    model: TraceModel, layer: int, heads: Sequence[int], z: Float[Tensor, "row pos head d_head"]
) -> Float[Tensor, "head row pos d_model"]:
    """What each of `heads` writes."""
    W_O = _output_weights(model, layer, heads)
    return einsum(z, W_O, "row pos head d_head, head d_head d_model -> head row pos d_model")


def sum_through_output(
    model: TraceModel, layer: int, heads: Sequence[int], z: Float[Tensor, "row pos head d_head"]
) -> Float[Tensor, "row pos d_model"]:
    """What `heads` write together."""
    W_O = _output_weights(model, layer, heads)
    return einsum(z, W_O, "row pos head d_head, head d_head d_model -> row pos d_model")


def _output_weights(model: TraceModel, layer: int, heads: Sequence[int]) -> Float[Tensor, "head d_head d_model"]:
    W_O = attention_weights(model, layer).W_O
    some = _among(heads, len(W_O), "heads")
    return W_O if some == list(range(len(W_O))) else W_O[some]  # in the order asked for


def _among(chosen: Sequence[int], size: int, what: str) -> list[int]:
    if len(chosen) == 0 or not -size <= min(chosen) <= max(chosen) < size:
        raise InputError(f"Expected {what} from 0 to {size - 1}, at least one, got {list(chosen)}; count from 0.")
    return list(chosen)


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
