"""Does a model compute what our view of it says? Asked of the model itself, once, on a few tokens.

These claims carry the exact methods, and configurations do not tell whether they hold (a multiplier on the residual
stream, a scale on the logits, a bias inside a gate, a clamp of the values). A method names those that it stands on, so
that a mixture of experts has all that does not read through an MLP:

    readout     final norm, W_U, b_U and the soft cap give the model's own logits: every metric needs it
    writes      the writes of all nodes and the biases add up to the final residual stream
    attention   q, k and v are the norm and the weights of our view
    mlp         so are the pre-activations of the one MLP of each layer
    outputs     and each MLP writes what its W_out makes of its neurons
    sources     a head's z is its pattern times its values, however large these are
    neurons     the activation function of each MLP works on every neuron alone, and W_out of what comes out of it is
                what the MLP writes: neurons as nodes need it

Models that llmtrace did not load are asked too, and asked without the user's hooks: these are refused by the parts
that a method computes again. Cost: two forward passes on 4 tokens, once per state of the model.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from llmtrace.errors import UnsupportedError
from llmtrace.models.architecture import describe
from llmtrace.models.arithmetic import require_own_arithmetic
from llmtrace.models.blocks import block_of, mlp_width
from llmtrace.models.components.mlp_neurons import activation_function
from llmtrace.models.components.norm import Norm
from llmtrace.models.components.weights import (
    Reader,
    attention_weights,
    head_readers,
    mlp_norm,
    mlp_readers,
    mlp_weights,
)
from llmtrace.models.forward import Hook, final_residual, logits
from llmtrace.models.hook_names import ELSEWHERE, inner_name, site_name
from llmtrace.models.probes.liveness import require_live_hooks
from llmtrace.models.probes.probe_tokens import probe_tokens
from llmtrace.models.protocol import TraceModel
from llmtrace.models.state import settings, weights_state
from llmtrace.models.user_hooks import require_no_hooks, without_user_hooks

TOLERANCE = {torch.float64: 1e-4, torch.float32: 1e-3}  # of the largest value; a wrong view is off by O(1)
HALF = 0.1
LARGE = 100.0  # times a value: beyond any clamp that a model was trained with
READERS = ("attention", "mlp")
# What lies between an activation that is read and the stream, or the stream and a reader.
BETWEEN = ("stream", "head inputs", "head writes", "mlp inputs", ELSEWHERE)

_answers: WeakKeyDictionary[Any, dict[str, tuple[object, str]]] = WeakKeyDictionary()


def require_readout(model: TraceModel) -> None:
    """Refuse a model whose logits are not what its final norm and unembedding give."""
    if problem := _answer(model, "readout", _readout_problem):
        raise UnsupportedError(f"Metrics are read off the final residual stream, and {problem}; use another model.")


def require_additive(
    model: TraceModel,
    method: str,
    *,
    post_norm: bool = False,
    reads: Collection[str] = READERS,
    recomputes: Collection[str] = (),
) -> None:
    """Refuse a model whose residual stream is not the sum of its writes, or whose readers are not norm and weights; and
    the user's hooks where a write or a reading is computed from weights.

    post_norm    the method takes for a head's write what the residual stream receives of it after the norm
    reads        the readers whose weights it uses: "attention", "mlp"
    recomputes   further parts that it computes again beside the model (`hook_names.PARTS`)
    """
    require_no_hooks(model, method, {*BETWEEN, *recomputes})
    require_live_hooks(model)
    if not post_norm:
        describe(model).require_pre_norm(method)
    questions = [
        "writes",
        *(kind for kind in READERS if kind in reads),
        *(RECOMPUTED[part] for part in recomputes if part in RECOMPUTED),
    ]
    for question in questions:
        if problem := _answer(model, question, ASK[question]):
            raise UnsupportedError(f"{method} needs {NEEDED[question]}, and {problem}.")


def require_neurons(model: TraceModel, method: str) -> None:
    """Refuse a model whose neurons cannot be run apart from their MLP.

    Those are attention-only models, mixtures of experts, norms after the MLP (all neurons share their scale) or inside
    it, and activation functions that cannot be reached.
    """
    require_no_hooks(model, method, ("mlp inputs", "neurons", "mlp writes", ELSEWHERE))
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
    require_own_arithmetic(model)
    known, state = _answers.setdefault(model, {}), (weights_state(model), settings(model))
    if question not in known or known[question][0] != state:
        with without_user_hooks(model), torch.no_grad():
            try:
                problem = ask(model)
            except _Unseen as unseen:
                problem = f"this model has no {unseen}"
            known[question] = (state, problem)
    return known[question][1]


def _readout_problem(model: TraceModel) -> str:
    tokens = probe_tokens(model)
    if _far(logits(model, tokens), model(tokens)):
        return "this model's logits are something else (it scales or shifts them, or norms in a way of its own)"
    return ""


def _writes_problem(model: TraceModel) -> str:
    arch = describe(model)
    kinds = ("z",) if arch.attn_only else ("z", "mlp_out")
    names = [site_name("resid_pre", 0), *(site_name(kind, layer) for layer in range(arch.n_layers) for kind in kinds)]
    final, kept = _seen(model, names)
    total = kept[names[0]]
    for layer in range(arch.n_layers):
        w, z = attention_weights(model, layer), kept[site_name("z", layer)]
        if z.shape[2:] != w.W_O.shape[:2]:
            heads, wide = w.W_O.shape[:2]
            return f"what layer {layer} shows as z is not {heads} heads of the {wide} numbers that W_O reads of each"
        total = total + w.post_norm(torch.einsum("bphe,hed->bpd", z, w.W_O) + w.b_O)
        total = total if arch.attn_only else total + kept[site_name("mlp_out", layer)]
    return "this model's do not (it scales its blocks' outputs, or norms them)" if _far(total, final) else ""


def _attention_problem(model: TraceModel) -> str:
    return _readers_problem(
        model,
        lambda layer: ("resid_pre", attention_weights(model, layer).norm, [*head_readers(model, layer).values()]),
    )


def _mlp_problem(model: TraceModel) -> str:
    arch = describe(model)
    if arch.attn_only:
        return ""
    stream = "resid_pre" if arch.parallel else "resid_mid"
    return _mixture(model) or _readers_problem(
        model, lambda layer: (stream, mlp_norm(model, layer), [*mlp_readers(model, layer)])
    )


def _outputs_problem(model: TraceModel) -> str:
    layers = () if describe(model).attn_only else range(describe(model).n_layers)
    if layers and (problem := _mixture(model)):
        return problem
    names = [site_name(kind, layer) for layer in layers for kind in ("mlp_post", "mlp_out")]
    _, kept = _seen(model, names)
    for layer in layers:
        w = mlp_weights(model, layer)
        if _far(kept[site_name("mlp_post", layer)] @ w.W_out + w.b_out, kept[site_name("mlp_out", layer)]):
            return f"here layer {layer}'s MLP writes something else"
    return ""


def _readers_problem(model: TraceModel, of_layer: Callable[[int], tuple[str, Norm, list[Reader]]]) -> str:
    """`of_layer`: the stream that is read, its norm, and the readers."""
    found = {layer: of_layer(layer) for layer in range(describe(model).n_layers)}
    names = [
        name
        for layer, (stream, _, readers) in found.items()
        for name in (site_name(stream, layer), *(reader.hook for reader in readers))
    ]
    _, kept = _seen(model, names)
    for layer, (stream, norm, readers) in found.items():
        for reader in readers:
            read = torch.einsum("bpd,rde->bpre", norm(kept[site_name(stream, layer)]), reader.weight) + reader.bias
            if _far(read, kept[reader.hook].reshape(*read.shape[:2], -1, read.shape[-1])):
                return f"here {reader.hook} is not the norm and the weights of this model's layer {layer}"
    return ""


def _sources_problem(model: TraceModel) -> str:
    """Once as they are, and once with values so large that a clamp between them and their use shows."""
    arch = describe(model)
    names = [site_name(kind, layer) for layer in range(arch.n_layers) for kind in ("v", "pattern", "z")]
    larger: list[Hook] = [(site_name("v", layer), lambda v: LARGE * v) for layer in range(arch.n_layers)]
    first = None
    for hooks in ([], larger):
        _, kept = _seen(model, names, hooks)
        z = kept[site_name("z", 0)]
        if first is not None and torch.equal(z, first):
            return ""  # a bridge whose values cannot be changed
        first = z
        for layer in range(arch.n_layers):
            v, pattern, z = (kept[site_name(kind, layer)] for kind in ("v", "pattern", "z"))
            v = v.repeat_interleave(arch.group, 2)
            if z.shape != v.shape:
                return f"layer {layer} of this model shows values and z of other shapes ({[*v.shape]}, {[*z.shape]})"
            if _far(torch.einsum("bhqk,bkhd->bqhd", pattern.to(v), v), z):
                return f"layer {layer} of this model does something between its values and what its heads write"
    return ""


def require_one_mlp(model: TraceModel, method: str, layers: Sequence[int]) -> None:
    """Refuse layers that have anything but one MLP of d_mlp neurons. Cost: none, no activation is computed."""
    if problem := _mixture(model, layers):
        raise UnsupportedError(f"{method} needs one MLP in each layer, and {problem}; name layers that have one.")


def _mixture(model: TraceModel, layers: Sequence[int] | None = None) -> str:
    """Whether a layer has anything but one MLP."""
    arch = describe(model)
    layers = range(arch.n_layers) if layers is None else layers
    lacking = [layer for layer in layers if mlp_width(block_of(model, layer)) != arch.d_mlp]
    return f"layer {lacking[0]} of this model has no weights of one MLP (a mixture of experts?)" if lacking else ""


def _neurons_problem(model: TraceModel) -> str:
    arch = describe(model)
    if problem := _mixture(model):
        return problem

    def read(layer: int) -> list[str]:
        shown = [site_name(kind, layer) for kind in ("mlp_pre", "mlp_post", "mlp_out")]
        return [*shown, *([inner_name("mlp_pre_linear", layer)] if arch.gated else [])]

    names = [name for layer in range(arch.n_layers) for name in read(layer)]
    _, kept = _seen(model, names)
    some = slice(1, None, 2)  # not all of them: a function that mixes neurons gives itself away
    for layer in range(arch.n_layers):
        pre, post, out, *linear = (kept[name] for name in read(layer))
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


class _Unseen(Exception):
    """An activation that a model does not show."""


def _seen(model: TraceModel, names: Sequence[str], hooks: Sequence[Hook] = ()) -> tuple[Tensor, dict[str, Tensor]]:
    """The final residual stream and these activations of a pass over a few tokens. Raises `_Unseen`."""
    kept: dict[str, Tensor] = {}

    def keep(name: str) -> Hook:
        return name, lambda value: kept.__setitem__(name, value.detach())

    final = final_residual(model, probe_tokens(model), [*hooks, *(keep(name) for name in dict.fromkeys(names))])
    if missing := [name for name in names if name not in kept]:
        raise _Unseen(missing[0])
    return final, kept


def _far(ours: Tensor, theirs: Tensor) -> bool:
    if ours.shape != theirs.shape:
        return True
    scale = theirs.abs().max().clamp(min=1e-6)
    return bool((ours - theirs).abs().max() > TOLERANCE.get(theirs.dtype, HALF) * scale)


ASK = {
    "writes": _writes_problem, "attention": _attention_problem, "mlp": _mlp_problem, "sources": _sources_problem,
    "outputs": _outputs_problem,
}  # fmt: skip
RECOMPUTED = {"z": "sources", "mlp writes": "outputs"}
NEEDED = {
    "writes": "writes that add up in the residual stream",
    "attention": "queries, keys and values that are a norm and weights",
    "mlp": "MLPs that read through a norm and weights",
    "outputs": "MLPs that write what W_out makes of their neurons",
    "sources": "heads that weight their values with their pattern",
}
