"""Running a model: one forward pass with hooks, stopped before the unembedding, and the unembedding by rows.

Half of a HookedTransformer's time on CPU goes into unembedding every position and token (GPT-2 small's shape, 8 x 15
tokens: .31 s, without it .12 s; Hugging Face .145 s), so passes end at the final residual stream and `unembed`
multiplies what a metric reads. Hooks are plain functions
`activation -> activation or None`; they are installed in a context manager that removes them whatever happens, under
the model's lock. The user's own hooks run before ours, once: also where a pass starts in the middle.

    >>> tuple(lt.models.final_residual(model, prompts.clean).shape)
    (4, 15, 128)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float, Int
from torch import Tensor

from llmtrace.errors import InputError, LimitError, LLMTraceError, UnsupportedError
from llmtrace.models.architecture import describe
from llmtrace.models.arithmetic import require_own_arithmetic
from llmtrace.models.components.weights import final_norm
from llmtrace.models.hook_names import site_name
from llmtrace.models.lock import lock_of
from llmtrace.models.protocol import TraceModel
from llmtrace.models.rotary_tables import forget_longer_texts
from llmtrace.models.user_hooks import OwnHook, is_hooked, user_hooks

ALIKE = {torch.float64: 1e-5, torch.float32: 1e-4}  # of the largest value: rounding hangs on the size of a batch
_alike: WeakKeyDictionary[Any, set[tuple[object, ...]]] = WeakKeyDictionary()

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
    _require_rows_alike(model, tokens)
    if is_bridge(model):
        return _run_bridge(model, tokens, hooks, site_name("resid_post", arch.n_layers - 1))
    with hooked(model, hooks):
        return model(tokens, stop_at_layer=arch.n_layers, padding_side="right")


def embedding(
    model: TraceModel, tokens: Int[Tensor, "batch pos"], *, split: bool = False
) -> Float[Tensor, "input batch pos d_model"]:
    """What enters the first block: one stream, or token and position embeddings apart. Cost: no layer is run."""
    found: list[Tensor] = []

    def stop(value: Tensor) -> None:
        raise Stop(torch.stack(found) if split else value[None])

    parts: list[Hook] = [(site_name(kind), found.append) for kind in ("embed", "pos_embed")] if split else []
    try:
        final_residual(model, tokens, [*parts, (site_name("resid_pre", 0), stop)])
    except Stop as stopped:
        return stopped.value
    raise AssertionError("the first block was not reached")


def resume(
    model: TraceModel,
    resid: Float[Tensor, "batch pos d_model"],
    layer: int,
    hooks: Iterable[Hook] = (),
    *,
    tokens: Int[Tensor, "prompt whole"],
    past: Sequence[KeysValues | None] | None = None,
    until: int | None = None,
) -> Float[Tensor, "batch pos d_model"]:
    """The residual stream that leaves the last layer (or enters layer `until`) when `resid` enters `layer`.

    tokens  of the run that goes on, up to the last position of `resid` or further: some layers read them again
            (per-layer embeddings, Zamba2). Of fewer prompts than `resid` has rows, they are repeated.
    past    per layer, the keys and values of the positions before those of `resid`: attention reads them as they are.
            Of fewer prompts than `resid` has rows, they are repeated over the stacked variants.

    Cost: the layers in between, on the positions of `resid`. A bridge cannot start in the middle, so there it is a
    whole pass whose stream is replaced at that layer (the numbers are the same), and it takes no `past`.
    """
    arch = describe(model)
    until = arch.n_layers if until is None else until
    if past is not None and len(past) != arch.n_layers:
        raise InputError(f"Expected past= for each of {arch.n_layers} layers, got {len(past)}; write None for none.")
    # `resid` has been through the user's hooks of that place: what they make of it a second time is put back
    hooks = [(site_name("resid_pre", layer), lambda _: resid), *hooks]
    if is_bridge(model):
        assert past is None, "a bridge runs all positions"
        read = tokens[:, : resid.shape[1]].repeat(len(resid) // len(tokens), 1)
        return final_residual(model, read, hooks)
    entries = None if past is None else [kept and Past(kept) for kept in past]
    with hooked(model, hooks):
        return model(resid, start_at_layer=layer, stop_at_layer=until, past_kv_cache=entries)


def run_and_keep(
    model: TraceModel, tokens: Int[Tensor, "batch pos"], hooks: Iterable[Hook] = (), *, since: int = 0
) -> tuple[Float[Tensor, "batch pos d_model"], list[KeysValues]]:
    """`final_residual`, and the keys and values of every layer from layer `since` on: there a later pass may go on at
    any position.

    Not for bridges, whose layers hand out no keys and values. Cost: one forward pass, no unembedding.
    """
    n_layers = describe(model).n_layers
    if not 0 <= since <= n_layers:
        raise InputError(f"Expected since= from 0 to {n_layers}, the layers of the model, got {since}; leave it out.")
    recorders = [_Recorder() for _ in range(since, n_layers)]
    with hooked(model, hooks):
        # in two steps: a cache beside *tokens* would make TransformerLens mask what it takes for padding
        embedded = model(tokens.to(model.W_E.device), stop_at_layer=0, padding_side="right")
        final = model(embedded, start_at_layer=0, stop_at_layer=n_layers, past_kv_cache=[*[None] * since, *recorders])
    return final, [recorder.kept for recorder in recorders]


def can_skip_positions(model: TraceModel) -> bool:
    """Whether positions before a change stay as they are, and the model's layers take their keys and values."""
    positional = describe(model).positional in ("standard", "rotary", "alibi", "none")
    return positional and not is_bridge(model) and looks_back_only(model)


def looks_back_only(model: TraceModel) -> bool:
    """Whether nothing reaches an earlier position: causal attention, and no hook of the user's, which may do anything
    with positions and would count them from where a pass starts."""
    return describe(model).causal and not user_hooks(model)


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


def _require_rows_alike(model: TraceModel, tokens: Int[Tensor, "batch pos"]) -> None:
    """Refuse hooks of the user's that treat the rows of a batch apart: prompts and variants of them are stacked there.

    Asked once per length, on rows of the pass. Cost: two passes over two and three rows; without such hooks none.
    """
    if not (hooks := user_hooks(model)):
        return
    asked = tokens.shape[1], *((hook.name, hook.number) for hook in hooks)
    known = _alike.setdefault(model, set())
    if asked in known:
        return
    known.add(asked)  # the passes below come here too
    names = ", ".join(dict.fromkeys(hook.name for hook in hooks))
    one, two = tokens[:1], tokens[-1:] if len(tokens) > 1 else tokens[:1].flip(1)
    try:
        with torch.no_grad():
            found, other = (final_residual(model, torch.cat(rows)) for rows in ((one, two, one), (two, one)))
    except LLMTraceError:
        known.discard(asked)
        raise
    except Exception as error:
        known.discard(asked)
        raise UnsupportedError(
            f"Prompts and variants are stacked in a batch, and on one of other size your hook on {names} fails "
            f"({type(error).__name__}: {error}); write it for any number of rows, or take it off (model.reset_hooks())."
        ) from error
    if (found - other[[1, 0, 1]]).abs().max() > ALIKE.get(found.dtype, 0.03) * found.abs().max():
        known.discard(asked)
        raise UnsupportedError(
            f"Prompts and variants are stacked in a batch, and your hook on {names} treats its rows apart (or draws by "
            "lot); write it so that each prompt gives what it gives alone, or take it off (model.reset_hooks())."
        )


@contextmanager
def hooked(model: TraceModel, hooks: Iterable[Hook]) -> Iterator[None]:
    """The model with these hooks on it, for this thread alone. Every pass stands in here, also one without hooks: those
    of another thread must not be on.

    Raises UnsupportedError for a hook of the user's on the model itself (it would get a stream for logits), and for
    other arithmetic than the model's.
    """
    if is_hooked(model):
        raise UnsupportedError(
            "Passes end before the unembedding, so your hook on the model itself would get a residual stream for "
            "logits; put it on a hook point, or take it off (handle.remove())."
        )
    require_own_arithmetic(model)
    own = [(name, OwnHook(function)) for name, function in hooks]
    with lock_of(model), ExitStack() as stack:
        try:
            stack.enter_context(model.hooks(fwd_hooks=own))
        except KeyError as error:  # on 4.x; a bridge of 3.9 goes on without
            missing = next(name for name, _ in own if name not in model.hook_dict)
            raise UnsupportedError(
                f"This model shows no {missing}: that layer is of another kind; use a method that does not need it."
            ) from error
        yield


def _run_bridge(model: TraceModel, tokens: Tensor, hooks: Iterable[Hook], last: str) -> Tensor:
    def stop(value: Tensor) -> None:
        raise _Last(value)

    forget_longer_texts(model)
    # On a bridge a hook that replaces the last resid_post changes nothing downstream; ours is read, never replaced.
    with hooked(model, [*hooks, (last, stop)]):
        try:
            model(tokens, return_type="logits", attention_mask=torch.ones_like(tokens))
        except _Last as last_stream:
            return last_stream.value
    raise UnsupportedError(
        f"Expected the residual stream that leaves the last block at {last}, got a TransformerBridge that does not "
        "show it; use another model."
    )


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
