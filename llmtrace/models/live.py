"""Does replacing an activation change anything? Asked of the model itself, since some bridges compute on beside it.

A TransformerBridge shows activations by their TransformerLens names, but not all of them are on the way: on some
architectures the wrapped module goes on with its own pattern, or adds its own residual stream. A patch there would have
no effect, silently. A HookedTransformer computes with every activation it shows.

Cost: two forward passes on 4 tokens per kind of activation, once per state of the weights.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from llmtrace.errors import UnsupportedError
from llmtrace.models.additive import probe_tokens
from llmtrace.models.protocol import TraceModel
from llmtrace.models.provenance import weights_state
from llmtrace.models.run import final_residual, is_bridge

_answers: WeakKeyDictionary[Any, dict[tuple[str, object], bool]] = WeakKeyDictionary()


def require_live(model: TraceModel, names: Iterable[str]) -> None:
    """Refuse to change activations that the model does not go on with."""
    if not is_bridge(model):
        return
    module: Any = model
    known, state = _answers.setdefault(module, {}), weights_state(module)
    for name in names:
        if (name, state) not in known:
            known[name, state] = _is_live(model, name)
        if not known[name, state]:
            raise UnsupportedError(
                f"Replacing {name} changes nothing in this TransformerBridge: the wrapped model goes on with its own. "
                "Load it with backend='hooked', or change what depends on it (z, or q, k and v)."
            )


@torch.no_grad()
def _is_live(model: TraceModel, name: str) -> bool:
    def moved(value: Tensor) -> Tensor:
        return value.masked_fill(value.isfinite(), 0.0) + 0.5 * torch.rand_like(value)

    tokens = probe_tokens(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # transformer-lens 4 warns that an edit is discarded: that is what is asked
        return not torch.equal(final_residual(model, tokens), final_residual(model, tokens, [(name, moved)]))
