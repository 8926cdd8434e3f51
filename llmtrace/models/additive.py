"""Does a model compute what our view of it says? Asked of the model itself, once, on a few tokens.

Three claims carry the exact methods, and configurations do not tell whether they hold (a multiplier on the residual
stream, a scale on the logits, a bias inside a gate):

    readout     final norm, W_U, b_U and the soft cap give the model's own logits: every metric needs it
    additive    the writes of all nodes and the biases add up to the final residual stream, and every reader is the
                norm and the weights of our view: edges, paths and attribution need it
    neurons     the activation function of each MLP works on every neuron alone, and W_out of what comes out of it is
                what the MLP writes: neurons as nodes need it

Models that llmtrace did not load are asked too. Cost: two forward passes on 4 tokens, once per state of the weights.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from llmtrace.errors import UnsupportedError
from llmtrace.models.architecture import describe
from llmtrace.models.neurons import activation_function
from llmtrace.models.protocol import TraceModel
from llmtrace.models.provenance import weights_state
from llmtrace.models.run import Hook, final_residual, logits
from llmtrace.models.weights import (
    Reader,
    attention_weights,
    block_of,
    head_readers,
    mlp_norm,
    mlp_readers,
    mlp_weights,
)

TOKENS = 4
TOLERANCE = {torch.float64: 1e-4, torch.float32: 1e-3}  # of the largest value; a wrong view is off by O(1)
HALF = 0.1

_answers: WeakKeyDictionary[Any, dict[str, tuple[object, str]]] = WeakKeyDictionary()


def require_readout(model: TraceModel) -> None:
    """Refuse a model whose logits are not what its final norm and unembedding give."""
    if problem := _answer(model, "readout", _readout_problem):
        raise UnsupportedError(f"Metrics are read off the final residual stream, and {problem}; use another model.")


def require_additive(model: TraceModel, method: str, *, post_norm: bool = False) -> None:
    """Refuse a model whose residual stream is not the sum of its writes, or whose readers are not norm and weights.

    post_norm   the method takes for a head's write what the residual stream receives of it after the norm
    """
    if not post_norm:
        describe(model).require_pre_norm(method)
    if problem := _answer(model, "additive", _additive_problem):
        raise UnsupportedError(f"{method} needs writes that add up in the residual stream, and {problem}.")


def require_neurons(model: TraceModel, method: str) -> None:
    """Refuse a model whose neurons cannot be run apart from their MLP.

    Those are attention-only models, mixtures of experts, norms after the MLP (all neurons share their scale) or inside
    it, and activation functions that cannot be reached.
    """
    arch = describe(model)
    if arch.attn_only:
        raise UnsupportedError(f"{method} needs MLPs, and this model is attention-only.")
    if arch.post_norm:
        raise UnsupportedError(
            f"{method} needs neurons that write apart; this model norms what its MLP's neurons write together "
            "(post-norm, as Gemma 2 and OLMo 2 do), so what one of them writes depends on the others."
        )
    if problem := _answer(model, "neurons", _neurons_problem):
        raise UnsupportedError(f"{method} needs neurons that can be run apart from their MLP, and {problem}.")


def _answer(model: Any, question: str, ask: Callable[[TraceModel], str]) -> str:
    known, state = _answers.setdefault(model, {}), weights_state(model)
    if question not in known or known[question][0] != state:
        with torch.no_grad():
            known[question] = (state, ask(model))
    return known[question][1]


def _readout_problem(model: TraceModel) -> str:
    tokens = probe_tokens(model)
    if _far(logits(model, tokens), model(tokens)):
        return "this model's logits are something else (it scales or shifts them, or norms in a way of its own)"
    return ""


def _additive_problem(model: TraceModel) -> str:
    arch, kept = describe(model), dict[str, Tensor]()

    def keep(name: str) -> Hook:
        return name, lambda value: kept.__setitem__(name, value.detach())

    def at(layer: int, name: str) -> str:
        return f"blocks.{layer}.{name}"

    if not arch.attn_only and (problem := _mixture(model)):
        return problem
    readers = {layer: _readers(model, layer) for layer in range(arch.n_layers)}
    names = [at(0, "hook_resid_pre")]
    for layer, found in readers.items():
        names += [at(layer, "hook_resid_pre"), at(layer, "attn.hook_z"), *(reader.hook for _, _, reader in found)]
        if not arch.attn_only:
            names += [at(layer, "hook_mlp_out")] + ([] if arch.parallel else [at(layer, "hook_resid_mid")])
    final = final_residual(model, probe_tokens(model), [keep(name) for name in dict.fromkeys(names)])
    if missing := [name for name in names if name not in kept]:
        return f"this model has no {missing[0]}"
    total = kept[at(0, "hook_resid_pre")]
    for layer, found in readers.items():
        w = attention_weights(model, layer)
        attention = torch.einsum("bphe,hed->bpd", kept[at(layer, "attn.hook_z")], w.W_O) + w.b_O
        total = total + w.post_norm(attention)
        total = total if arch.attn_only else total + kept[at(layer, "hook_mlp_out")]
        for stream, norm, reader in found:
            read = torch.einsum("bpd,rde->bpre", norm(kept[at(layer, stream)]), reader.weight) + reader.bias
            if _far(read, kept[reader.hook].reshape(*read.shape[:2], -1, read.shape[-1])):
                return f"here {reader.hook} is not the norm and the weights of this model's layer {layer}"
    return "this model's do not (it scales its blocks' outputs, or norms them)" if _far(total, final) else ""


def _mixture(model: TraceModel) -> str:
    """Whether a layer has anything but one MLP."""
    layers = range(describe(model).n_layers)
    lacking = [layer for layer in layers if not hasattr(getattr(block_of(model, layer), "mlp", None), "W_out")]
    return f"layer {lacking[0]} of this model has no weights of one MLP (a mixture of experts?)" if lacking else ""


def _neurons_problem(model: TraceModel) -> str:
    arch, kept = describe(model), dict[str, Tensor]()
    if problem := _mixture(model):
        return problem

    def keep(name: str) -> Hook:
        return name, lambda value: kept.__setitem__(name, value.detach())

    read = ("mlp.hook_pre", "mlp.hook_post", "hook_mlp_out", *(["mlp.hook_pre_linear"] if arch.gated else []))
    names = [f"blocks.{layer}.{name}" for layer in range(arch.n_layers) for name in read]
    final_residual(model, probe_tokens(model), [keep(name) for name in names])
    if missing := [name for name in names if name not in kept]:
        return f"this model has no {missing[0]}"
    some = slice(1, None, 2)  # not all of them: a function that mixes neurons gives itself away
    for layer in range(arch.n_layers):
        pre, post, out, *linear = (kept[f"blocks.{layer}.{name}"] for name in read)
        w, act = mlp_weights(model, layer), activation_function(model, layer)
        if act is None:
            return f"the activation function of layer {layer} is nowhere to be found"
        if post.shape != pre.shape or w.W_out.shape[0] != pre.shape[-1]:
            return f"layer {layer} of this model has other neurons before than after its activation function"
        acted = act(pre[..., some].contiguous())
        acted = acted * linear[0][..., some] + w.b_in[some] if arch.gated else acted
        if _far(acted, post[..., some]):
            return f"in layer {layer} a neuron's activation depends on other neurons, or on more than is known here"
        if _far(post @ w.W_out + w.b_out, out):
            return f"here layer {layer}'s MLP writes something else than W_out makes of its neurons"
    return ""


def _readers(model: TraceModel, layer: int) -> list[tuple[str, Any, Reader]]:
    """(the stream it reads, its norm, the reader) for every reader of a layer."""
    arch = describe(model)
    norm = attention_weights(model, layer).norm
    found: list[tuple[str, Any, Reader]] = [("hook_resid_pre", norm, r) for r in head_readers(model, layer).values()]
    if arch.attn_only:
        return found
    stream = "hook_resid_pre" if arch.parallel else "hook_resid_mid"
    return found + [(stream, mlp_norm(model, layer), reader) for reader in mlp_readers(model, layer)]


def probe_tokens(model: TraceModel) -> Tensor:
    """A few tokens, on which a model is asked about itself."""
    arch = describe(model)
    return torch.arange(min(TOKENS, arch.n_ctx), device=model.W_E.device)[None] % model.W_E.shape[0]


def _far(ours: Tensor, theirs: Tensor) -> bool:
    if ours.shape != theirs.shape:
        return True
    scale = theirs.abs().max().clamp(min=1e-6)
    return bool((ours - theirs).abs().max() > TOLERANCE.get(theirs.dtype, HALF) * scale)
