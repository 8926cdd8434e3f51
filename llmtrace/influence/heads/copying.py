"""Copying: does a head that reads a token raise that same token? From the weights alone.

    copying       sum Re(lambda) / sum |lambda| of the OV circuit's eigenvalues: 1 copies, -1 suppresses
    copying_top   share of tokens that are among the k which reading them raises most
    suppressing   share of tokens that are among the k which reading them lowers most

Source: Elhage et al. 2021 (eigenvalues, of all tokens, from the embedding alone); Wang et al. 2022 (top k = 5, of
names there, here of `tokens` or of some by lot, through the first MLP where there is one).
Cost: no pass; d_vocab d_model^2 once, then per head d_head x d_head eigenvalues and as many logits as it takes to tell
who is at the ends. SmolLM2, 270 heads: 4 s on one core.
Sign: of `copying`, positive raises the token that is read and negative lowers it; the others are shares.
Known failure: a head that copies what it reads need not read anything worth copying (`head_behaviour`, `name_movers`);
a head that writes nothing to the logits scores 0.

    >>> [head.label for head, _ in lt.influence.copying_scores(model).top("copying", 3)]
    ['3.7', '3.5', '3.1']
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from einops import einsum
from jaxtyping import Bool, Float, Int
from torch import Tensor

from llmtrace.errors import InputError
from llmtrace.influence.heads.head_table import HeadTable
from llmtrace.influence.heads.ov_qk import shared_by
from llmtrace.influence.rows import columns_of
from llmtrace.influence.vocabulary import readout, token_vectors, without_bias
from llmtrace.models import (
    AttentionWeights,
    Norm,
    TraceModel,
    attention_weights,
    describe,
    provenance,
    require_additive,
)
from llmtrace.models.hook_names import EVERY_PART
from llmtrace.progress import track

# Is a token among the k that a write raises most, or lowers most? Exact, without most of the logits:
#     raised     fewer than k other tokens t have  write . u_t >= write . u_own        lowered    the same with <=
# A few others are enough to tell that a token is far from both ends. So the vocabulary is read in pieces that double,
# and only writes go on whose token may still be at an end: of SmolLM2's 69,120 writes 6 % see more than 512 of its
# 49,152 tokens, 1 % see all. A tie counts as larger and as smaller, so one that reaches past the k is at neither end.
FIRST = 512  # tokens of the first piece


def at_the_ends(
    writes: Float[Tensor, "n d_model"], seen: Float[Tensor, "d_vocab d_model"], tokens: Int[Tensor, " n"], k: int
) -> tuple[Bool[Tensor, " n"], Bool[Tensor, " n"]]:
    """(raised, lowered): whether each write's own token is among the k largest and among the k smallest logits."""
    tokens = tokens.to(writes.device)
    own = einsum(writes, seen[tokens], "n d_model, n d_model -> n")[:, None]
    above, below = torch.zeros_like(tokens), torch.zeros_like(tokens)
    within = torch.arange(len(writes), device=writes.device)  # writes that may still be at an end
    start, stop = 0, FIRST
    while start < len(seen) and len(within):
        logits = writes[within] @ seen[start:stop].T
        _blank(logits, tokens[within] - start)
        above[within] += (logits >= own[within]).sum(1)
        below[within] += (logits <= own[within]).sum(1)
        within = within[(above[within] < k) | (below[within] < k)]
        start, stop = stop, 2 * stop
    return above < k, below < k


def _blank(logits: Float[Tensor, "n piece"], own: Int[Tensor, " n"]) -> None:
    """A token is no rival of itself, whichever way its logit was rounded: NaN is neither larger nor smaller."""
    row = ((own >= 0) & (own < logits.shape[1])).nonzero()[:, 0]
    logits[row, own[row]] = torch.nan


COLUMNS = columns_of("llmtrace.influence.heads.copying:copying_scores")


@torch.no_grad()
def copying_scores(
    model: TraceModel, *, tokens: Sequence[int] | None = None, k: int = 5, draws: int = 256, seed: int = 0
) -> HeadTable:
    """Both forms for every head. `tokens`: of which the top-k form is taken (default: `draws` of them, by lot).

    Raises UnsupportedError for norms after the blocks, where no matrix says what a head writes.
    """
    arch = describe(model)
    require_additive(model, "A copying score", reads=("attention",), recomputes=EVERY_PART)
    size = model.W_E.shape[0]
    chosen = _chosen(tokens, draws, size, seed)
    if not 1 <= k < size:
        raise InputError(f"Expected k from 1 to {size - 1}, got {k}; it counts the tokens that are raised most.")
    seen = readout(model)
    read = token_vectors(model, chosen, through_mlp0=not arch.attn_only)
    cross = _embedding_to_readout(model, seen)
    rows: list[Tensor] = []
    for layer in track(range(arch.n_layers), "copying scores"):
        w = attention_weights(model, layer)
        seen_by_layer = cross if w.norm.weight is None else cross * w.norm.weight
        eigen = [eigenvalue_copying(core) for core in _cores(w, seen_by_layer, arch.group)]
        values = einsum(without_bias(w.norm, read), w.W_V, "n d_model, kv_head d_model d_head -> kv_head n d_head")
        writes = einsum(
            shared_by(values, arch.group), w.W_O, "head n d_head, head d_head d_model -> head n d_model"
        ).flatten(0, 1)
        ends = at_the_ends(writes, seen, chosen.repeat(arch.n_heads), k)
        shares = [end.unflatten(0, (arch.n_heads, -1)).double().mean(1).cpu() for end in ends]
        rows.append(torch.stack([torch.tensor(eigen, dtype=torch.float64), *shares], 1))
    return HeadTable(
        arch.heads, COLUMNS, torch.cat(rows), "copying_scores", provenance(model).as_dict(),
        {"k": k, "tokens": len(chosen), "token_seed": None if tokens is not None else seed},
    )  # fmt: skip


def eigenvalue_copying(core: Float[Tensor, "d_head d_head2"]) -> float:
    """sum Re(lambda) / sum |lambda|, 0 where the head writes nothing."""
    found = torch.linalg.eigvals(core.double().cpu())
    size = found.abs().sum()
    return (found.real.sum() / size).item() if size > 0 else 0.0


def _embedding_to_readout(model: TraceModel, seen: Float[Tensor, "d_vocab d_model"]) -> Float[Tensor, "out d_model"]:
    """sum over tokens of u_t n(e_t), all that the eigenvalues need of the vocabulary; the norm's weight comes later."""
    arch = describe(model)
    bare = Norm(arch.norm, None, None, attention_weights(model, 0).norm.eps)
    return seen.T @ without_bias(bare, token_vectors(model))[: len(seen)]


def _cores(
    w: AttentionWeights, cross: Float[Tensor, "out d_model"], group: int
) -> Float[Tensor, "head d_head d_head2"]:
    """W_O U^T E W_V of each head: the OV circuit's eigenvalues in d_head x d_head."""
    read = einsum(cross, w.W_V, "out d_model, kv_head d_model d_head -> kv_head out d_head")
    return einsum(w.W_O, shared_by(read, group), "head d_head out, head out d_head2 -> head d_head d_head2")


def _chosen(tokens: Sequence[int] | None, draws: int, size: int, seed: int) -> Int[Tensor, " n"]:
    if tokens is None:
        if draws < 1:
            raise InputError(f"Expected at least one token, got draws={draws}; say how many are drawn.")
        return torch.randperm(size, generator=torch.Generator().manual_seed(seed))[:draws].sort().values
    if not tokens or not all(isinstance(t, int) and 0 <= t < size for t in tokens):
        raise InputError(f"Expected token numbers from 0 to {size - 1}, got {list(tokens)[:5]}; leave tokens out.")
    return torch.tensor(list(tokens))
