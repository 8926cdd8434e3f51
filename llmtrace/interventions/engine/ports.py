"""Ports and writes as arithmetic: what a port makes of the residual stream, what a change of an activation writes."""

from __future__ import annotations

from dataclasses import dataclass

from einops import einsum
from jaxtyping import Float
from torch import Tensor

from llmtrace.models import (
    Norm,
    TraceModel,
    attention_weights,
    head_readers,
    mlp_norm,
    mlp_readers,
    mlp_weights,
    run_mlp,
)
from llmtrace.nodes import Head, KvHead, Logits, Mlp, Port, Site

WRITERS = ("z", "mlp_out", "mlp_post", "attn_out")  # kinds of activations that are written to the residual stream


def port_site(port: Port, n_layers: int) -> Site:
    """The activation that a port makes, of those that make one of their own."""
    site = port.site(n_layers)
    assert site is not None, port
    return site


def read_port(model: TraceModel, port: Port, stream: Float[Tensor, "*lead d_model"]) -> Float[Tensor, "*lead d"]:
    """What a port makes of the residual stream that it reads."""
    node = port.node
    if isinstance(node, Logits):
        return stream
    if isinstance(node, Mlp):
        return run_mlp(model, node.layer, stream)
    (inlet,) = inlets(model, port)
    return inlet(stream)


@dataclass(frozen=True, eq=False)
class Inlet:
    """One activation that a port makes of what it reads: q, k or v of a head; the pre-activations of an MLP, of which a
    gated one has two. `head`: which head of the activation."""

    name: str
    head: int | None
    norm: Norm
    weight: Float[Tensor, "d_model d_out"]
    bias: Float[Tensor, " d_out"]

    def __call__(self, stream: Float[Tensor, "*lead d_model"]) -> Float[Tensor, "*lead d_out"]:
        return self.norm(stream) @ self.weight + self.bias


def inlets(model: TraceModel, port: Port) -> tuple[Inlet, ...]:
    """Where a port's reading comes into a live run: everything after it stays the model's own."""
    node = port.node
    if isinstance(node, Mlp):
        norm = mlp_norm(model, node.layer)
        return tuple(Inlet(r.hook, None, norm, r.weight[0], r.bias[0]) for r in mlp_readers(model, node.layer))
    assert isinstance(node, Head | KvHead) and port.slot is not None, port
    reader, norm = head_readers(model, node.layer)[port.slot], attention_weights(model, node.layer).norm
    return (Inlet(reader.hook, node.head, norm, reader.weight[node.head], reader.bias[node.head]),)


def written(
    model: TraceModel, site: Site, moved: Float[Tensor, "batch pos *rest"]
) -> Float[Tensor, "batch pos d_model"]:
    """What a difference of a written activation adds to the residual stream."""
    match site.kind, site.index:
        case "z", None:
            W_O = attention_weights(model, site.layer).W_O
            return einsum(moved, W_O, "batch pos head d_head, head d_head d_model -> batch pos d_model")
        case "z", head:
            W_O = attention_weights(model, site.layer).W_O[head]
            return einsum(moved, W_O, "batch pos d_head, d_head d_model -> batch pos d_model")
        case "mlp_post", None:
            return einsum(
                moved, mlp_weights(model, site.layer).W_out, "batch pos d_mlp, d_mlp d_model -> batch pos d_model"
            )
        case "mlp_post", neuron:
            return moved[..., None] * mlp_weights(model, site.layer).W_out[neuron]
    return moved
