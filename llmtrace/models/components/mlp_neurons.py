"""Neurons as functions of what each of them reads, and apart from the rest of their MLP.

    neuron n writes   act(norm(x) . W_in[:, n] + b_in[n]) W_out[n]                                plain
                      (act(norm(x) . W_gate[:, n]) (norm(x) . W_in[:, n]) + b_in[n]) W_out[n]     gated

Only the rows and columns of the chosen neurons are multiplied: the MLP itself is not run. Whether a model's activation
function is the one that is found here, and works on each neuron alone, `require_neurons` asks of the model itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from einops import einsum
from jaxtyping import Float
from torch import Tensor

from llmtrace.models.blocks import activation_of, block_of
from llmtrace.models.components.weights import mlp_weights
from llmtrace.models.protocol import TraceModel


def activation_function(model: TraceModel, layer: int) -> Callable[[Tensor], Tensor] | None:
    """What an MLP does between its weights; None where no such function can be found."""
    return activation_of(block_of(model, layer))


def neuron_results(
    model: TraceModel, layer: int, neurons: Sequence[int], x: Float[Tensor, "neuron row pos d_model"]
) -> Float[Tensor, "neuron row pos d_model"]:
    """What each of `neurons` writes when it reads a stream of its own."""
    w, some = mlp_weights(model, layer), list(neurons)
    normed, axes = w.norm(x), "neuron row pos d_model, d_model neuron -> row pos neuron"
    gate = None if w.W_gate is None else einsum(normed, w.W_gate[:, some], axes)
    return parts_of_neurons(
        model, layer, some, _activations(model, layer, some, einsum(normed, w.W_in[:, some], axes), gate)
    )


def sum_of_neurons(
    model: TraceModel, layer: int, neurons: Sequence[int], x: Float[Tensor, "*lead d_model"]
) -> Float[Tensor, "*lead d_model"]:
    """What `neurons` write together when all of them read the same stream: what an MLP's rest goes without."""
    w, some = mlp_weights(model, layer), list(neurons)
    normed = w.norm(x)
    gate = None if w.W_gate is None else normed @ w.W_gate[:, some]
    return _activations(model, layer, some, normed @ w.W_in[:, some], gate) @ w.W_out[some]


def parts_of_neurons(
    model: TraceModel, layer: int, neurons: Sequence[int], activations: Float[Tensor, "row pos neuron"]
) -> Float[Tensor, "neuron row pos d_model"]:
    """What each of `neurons` writes at these activations."""
    W_out = mlp_weights(model, layer).W_out[list(neurons)]
    return einsum(activations, W_out, "row pos neuron, neuron d_model -> neuron row pos d_model")


def _activations(
    model: TraceModel,
    layer: int,
    neurons: list[int],
    linear: Float[Tensor, "*lead neuron"],
    gate: Float[Tensor, "*lead neuron"] | None,
) -> Float[Tensor, "*lead neuron"]:
    """From the products with the weights on; a gated MLP adds b_in after the gate."""
    act, bias = activation_function(model, layer), mlp_weights(model, layer).b_in[neurons]
    assert act is not None, "require_neurons has not been asked"
    return act(linear + bias) if gate is None else act(gate) * linear + bias
