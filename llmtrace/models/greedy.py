"""Greedy decoding with kept keys and values: each new token is one position of one pass.

Cost: one forward pass over the prompt, and one position per new token (on a bridge, and where positions cannot be
skipped, a whole pass per new token: the tokens are the same).
"""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor

from llmtrace.errors import InputError, LimitError
from llmtrace.models.architecture import describe
from llmtrace.models.forward import (
    KeysValues,
    can_skip_positions,
    embedding,
    final_residual,
    hooked,
    run_and_keep,
    unembed,
)
from llmtrace.models.protocol import TraceModel


@torch.no_grad()
def greedy(
    model: TraceModel, tokens: Int[Tensor, " pos"], max_new_tokens: int, *, stop_at: tuple[int, ...] = ()
) -> Int[Tensor, " new"]:
    """The tokens that follow, each the most probable one; the first of `stop_at` ends it and is among them.

    Raises LimitError where the last of them would be predicted from beyond the context.
    """
    n_ctx = describe(model).n_ctx
    if not len(tokens):
        raise InputError("Expected at least one token to go on from, got none; begin with BOS.")
    if len(tokens) + max_new_tokens - 1 > n_ctx:
        raise LimitError(
            f"Expected prompt and new tokens within the context of {n_ctx} tokens, got {len(tokens)} and "
            f"{max_new_tokens}; shorten the prompt or pass max_new_tokens={max(0, n_ctx + 1 - len(tokens))}."
        )
    whole = tokens[None].to(model.W_E.device)
    keeps = can_skip_positions(model)
    if keeps:
        final, kept = run_and_keep(model, whole)
        layers = [_Growing(one) for one in kept]
    else:
        final, layers = final_residual(model, whole), []
    new: list[int] = []
    while True:
        new.append(int(unembed(model, final[:, -1]).argmax(-1)))
        if len(new) == max_new_tokens or new[-1] in stop_at:
            return torch.tensor(new, dtype=tokens.dtype, device=tokens.device)
        whole = torch.cat([whole, whole.new_tensor([[new[-1]]])], dim=1)
        if keeps:
            entering = embedding(model, whole)[0][:, -1:]
            with hooked(model, []):
                final = model(entering, start_at_layer=0, stop_at_layer=len(layers), past_kv_cache=layers)
        else:
            final = final_residual(model, whole)


class _Growing:
    """A layer's cache as TransformerLens asks for it, which remembers what comes in."""

    def __init__(self, kept: KeysValues):
        self.past_keys, self._values = kept.keys, kept.values

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        self.past_keys = torch.cat([self.past_keys, keys], 1)
        self._values = torch.cat([self._values, values], 1)
        return self.past_keys, self._values
