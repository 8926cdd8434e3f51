"""Does replacing an activation change anything, and what is thought? Asked of the model itself, since some bridges
compute on beside it.

A TransformerBridge shows activations by their TransformerLens names, but not all of them are on the way: on some
architectures the wrapped module goes on with its own pattern, or adds its own residual stream. A patch there would have
no effect, silently. On others q, k, v or z has axes of its own (latent attention): what stands in the place of a head
is then half of one. A HookedTransformer computes with every activation it shows.

Cost: two forward passes on 4 tokens per kind of activation, once per state of the model, without the user's hooks.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from llmtrace.errors import UnsupportedError
from llmtrace.models.architecture import describe
from llmtrace.models.forward import final_residual, is_bridge
from llmtrace.models.hook_names import heads_of, is_site
from llmtrace.models.probes.probe_tokens import probe_tokens
from llmtrace.models.protocol import TraceModel
from llmtrace.models.state import settings, weights_state
from llmtrace.models.user_hooks import user_hooks, without_user_hooks

_answers: WeakKeyDictionary[Any, tuple[object, dict[str, str]]] = WeakKeyDictionary()


def require_live(model: TraceModel, names: Iterable[str]) -> None:
    """Refuse to change activations that the model does not go on with."""
    if not is_bridge(model):
        return
    module: Any = model
    state = weights_state(module), settings(module)
    if module not in _answers or _answers[module][0] != state:
        _answers[module] = (state, {})
    known = _answers[module][1]
    for name in names:
        if name not in known:
            with without_user_hooks(model):
                known[name] = _problem(model, name)
        if problem := known[name]:
            raise UnsupportedError(problem)


def require_live_hooks(model: TraceModel) -> None:
    """Refuse hooks of the user's on activations that the model does not go on with: who reads these would see what the
    hooks make of them, and the model's own numbers would be others."""
    if is_bridge(model):
        require_live(model, [hook.name for hook in user_hooks(model) if is_site(hook.name)])


@torch.no_grad()
def _problem(model: TraceModel, name: str) -> str:
    shapes: list[tuple[int, ...]] = []

    def moved(value: Tensor) -> Tensor:
        shapes.append(tuple(value.shape))
        return value.masked_fill(value.isfinite(), 0.0) + 0.5 * torch.rand_like(value)

    heads, tokens = heads_of(name, describe(model)), probe_tokens(model)
    tokens = tokens[:, :-1] if heads == tokens.shape[1] > 1 else tokens  # so that the two axes can be told apart
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # transformer-lens 4 warns that an edit is discarded: that is what is asked
        dead = torch.equal(final_residual(model, tokens), final_residual(model, tokens, [(name, moved)]))
    if dead:
        return (
            f"Replacing {name} changes nothing in this TransformerBridge: the wrapped model goes on with its own. Load "
            "it with backend='hooked', or change what depends on it (z, or q, k and v)."
        )
    if heads is not None and shapes[0][:3] != (*tokens.shape, heads):
        return (
            f"Expected {name} as [batch pos head d_head] with {heads} heads, got {list(shapes[0])} from this "
            "TransformerBridge, where a head is something else; change what its attention writes (attn_out)."
        )
    return ""
