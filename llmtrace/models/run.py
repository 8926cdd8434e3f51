"""Running a model: one forward pass with hooks, stopped before the unembedding, and the unembedding by rows.

Half of a HookedTransformer's time on CPU goes into unembedding every position and token (`methods.md` 3.1), so
passes end at the final residual stream and `unembed` multiplies what a metric reads. Hooks are plain functions
`activation -> activation or None`; they are installed in a context manager that removes them whatever happens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from llmtrace.errors import LimitError
from llmtrace.models.architecture import describe
from llmtrace.models.protocol import TraceModel
from llmtrace.models.weights import final_norm

Hook = tuple[str, Callable[[Tensor], Tensor | None]]


@dataclass(frozen=True, eq=False)
class KeysValues:
    """What the queries of one layer look back at, as the layer keeps it: before rotation, after any norm of keys."""

    keys: Float[Tensor, "batch pos kv_head d_head"]
    values: Float[Tensor, "batch pos kv_head d_head"]


class Stop(Exception):
    """Ends a pass early, with the activation that was wanted."""

    def __init__(self, value: Tensor):
        super().__init__("stopped")
        self.value = value


class _Last(Stop):
    """Where a HookedTransformer has `stop_at_layer`, on a bridge."""


def final_residual(
    model: TraceModel, tokens: Int[Tensor, "batch pos"], hooks: Iterable[Hook] = ()
) -> Float[Tensor, "batch pos d_model"]:
    """The residual stream after the last block, before the final norm. Cost: one forward pass, no unembedding.

    Hooks run in the order given. Raises LimitError over the context length.
    """
    arch = describe(model)
    if tokens.shape[1] > arch.n_ctx:
        raise LimitError(
            f"Expected at most {arch.n_ctx} tokens (the model's context length), got {tokens.shape[1]}; "
            "shorten the prompt."
        )
    tokens = tokens.to(model.W_E.device)
    installed = [(name, _with_hook_argument(function)) for name, function in hooks]
    if is_bridge(model):
        return _run_bridge(model, tokens, installed, f"blocks.{arch.n_layers - 1}.hook_resid_post")
    with model.hooks(fwd_hooks=installed):
        return model(tokens, stop_at_layer=arch.n_layers, padding_side="right")


def embedding(
    model: TraceModel, tokens: Int[Tensor, "batch pos"], *, split: bool = False
) -> Float[Tensor, "input batch pos d_model"]:
    """What enters the first block: one stream, or token and position embeddings apart. Cost: no layer is run."""
    found: list[Tensor] = []

    def stop(value: Tensor) -> None:
        raise Stop(torch.stack(found) if split else value[None])

    parts: list[Hook] = [(name, found.append) for name in ("hook_embed", "hook_pos_embed")] if split else []
    try:
        final_residual(model, tokens, [*parts, ("blocks.0.hook_resid_pre", stop)])
    except Stop as stopped:
        return stopped.value
    raise AssertionError("the first block was not reached")


def resume(
    model: TraceModel,
    resid: Float[Tensor, "batch pos d_model"],
    layer: int,
    hooks: Iterable[Hook] = (),
    *,
    past: Sequence[KeysValues] | None = None,
    until: int | None = None,
) -> Float[Tensor, "batch pos d_model"]:
    """The residual stream that leaves the last layer (or enters layer `until`) when `resid` enters `layer`.

    past    per layer, the keys and values of the positions before those of `resid`: attention reads them as they are.
            Of fewer prompts than `resid` has rows, they are repeated over the stacked variants.

    Cost: the layers in between, on the positions of `resid`. A bridge cannot start in the middle, so there it is a
    whole pass whose stream is replaced at that layer (the numbers are the same), and it takes no `past`.
    """
    arch = describe(model)
    until = arch.n_layers if until is None else until
    if is_bridge(model):
        assert past is None, "a bridge runs all positions"
        any_tokens = torch.zeros(resid.shape[:2], dtype=torch.long, device=resid.device)
        return final_residual(model, any_tokens, [(f"blocks.{layer}.hook_resid_pre", lambda _: resid), *hooks])
    installed = [(name, _with_hook_argument(function)) for name, function in hooks]
    entries = None if past is None else [Past(kept) for kept in past]
    with model.hooks(fwd_hooks=installed):
        return model(resid, start_at_layer=layer, stop_at_layer=until, past_kv_cache=entries)


def run_and_keep(
    model: TraceModel, tokens: Int[Tensor, "batch pos"], hooks: Iterable[Hook] = ()
) -> tuple[Float[Tensor, "batch pos d_model"], list[KeysValues]]:
    """`final_residual`, and the keys and values of every layer, from which a later pass may go on at any position.

    Not for bridges, whose layers hand out no keys and values. Cost: one forward pass, no unembedding.
    """
    installed = [(name, _with_hook_argument(function)) for name, function in hooks]
    recorders = [_Recorder() for _ in range(describe(model).n_layers)]
    with model.hooks(fwd_hooks=installed):
        # in two steps: a cache beside *tokens* would make TransformerLens mask what it takes for padding
        embedded = model(tokens.to(model.W_E.device), stop_at_layer=0, padding_side="right")
        final = model(embedded, start_at_layer=0, stop_at_layer=len(recorders), past_kv_cache=recorders)
    return final, [recorder.kept for recorder in recorders]


def can_skip_positions(model: TraceModel) -> bool:
    """Whether positions before a change stay as they are, and the model's layers take their keys and values."""
    arch = describe(model)
    return arch.causal and not is_bridge(model) and arch.positional in ("standard", "rotary", "alibi", "none")


class Past:
    """A layer's cache of keys and values as TransformerLens asks for it: frozen, and repeated over stacked variants."""

    def __init__(self, kept: KeysValues):
        self.past_keys = kept.keys
        self._values = kept.values

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        repeats = len(keys) // len(self.past_keys), 1, 1, 1
        return torch.cat([self.past_keys.repeat(repeats), keys], 1), torch.cat(
            [self._values.repeat(repeats), values], 1
        )


class _Recorder:
    """An empty cache of one layer that remembers what came in."""

    past_keys = torch.empty(0, 0)
    kept: KeysValues

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        self.kept = KeysValues(keys, values)
        return keys, values


def is_bridge(model: TraceModel) -> bool:
    """TransformerBridge or a subclass, without importing TransformerLens."""
    return any(base.__name__ == "TransformerBridge" for base in type(model).__mro__)


def _run_bridge(model: TraceModel, tokens: Tensor, hooks: list[tuple[str, Any]], last: str) -> Tensor:
    def stop(value: Tensor, hook: Any) -> None:
        raise _Last(value)

    # On a bridge a hook that replaces the last resid_post changes nothing downstream; ours is read, never replaced.
    with model.hooks(fwd_hooks=[*hooks, (last, stop)]):
        try:
            model(tokens, return_type="logits", attention_mask=torch.ones_like(tokens))
        except _Last as last_stream:
            return last_stream.value
    raise AssertionError("a bridge ran past its last block")


def _with_hook_argument(function: Callable[[Tensor], Tensor | None]) -> Callable[..., Tensor | None]:
    return lambda value, hook: function(value)


def unembed(
    model: TraceModel,
    resid: Float[Tensor, "*lead batch d_model"],
    rows: Int[Tensor, "batch n"] | None = None,
) -> Float[Tensor, "*lead batch n"]:
    """Logits of final residual vectors: all of the vocabulary, or only the rows that each prompt's metric reads."""
    return unembed_normed(model, final_norm(model)(resid), rows)


def unembed_normed(
    model: TraceModel,
    normed: Float[Tensor, "*lead batch d_model"],
    rows: Int[Tensor, "batch n"] | None = None,
) -> Float[Tensor, "*lead batch n"]:
    """The same after the final norm."""
    if rows is None:
        logits = normed @ model.W_U + model.b_U
    else:
        directions = model.W_U.T[rows]  # batch n d_model
        logits = torch.einsum("...bd,bnd->...bn", normed, directions) + model.b_U[rows]
    cap = describe(model).logit_cap
    return cap * torch.tanh(logits / cap) if cap else logits


def logits(
    model: TraceModel, tokens: Int[Tensor, "batch pos"], hooks: Iterable[Hook] = ()
) -> Float[Tensor, "batch pos d_vocab"]:
    """All logits at all positions. Heavy: batch x pos x d_vocab numbers."""
    return unembed(model, final_residual(model, tokens, hooks).transpose(0, 1)).transpose(0, 1)
