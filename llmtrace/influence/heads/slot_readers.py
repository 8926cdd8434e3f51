"""What the heads of a layer read through one slot, in factors: the norm of M W for every write M, W never made.

    q  W = W_Q R_d W_K^T        k  W = W_K R_d^T W_Q^T        v  W = W_V W_O                     W = X Y^T
    ||M W|| = ||(M X) R_Y^T||        R_Y: from the QR of Y, the root of its Gram matrix d_head x d_head without squaring

Heads that share keys and values share X in slots k and v, and with it M X, which is what costs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from einops import einsum, rearrange
from jaxtyping import Float
from torch import Tensor

from llmtrace.models.dot_product import Rotation


@dataclass(frozen=True, eq=False)
class SlotReader:
    """The heads of one layer, those with the same X as members beside one another; every W of norm 1 (or 0)."""

    X: Float[Tensor, "share d_model d_head"]
    R_Y: Float[Tensor, "share member rank d_head"]
    squared_spectrum: Float[Tensor, "head rank"]  # of W: squared singular values, largest first

    def norms(self, writes: Float[Tensor, "sender a d_model"]) -> Float[Tensor, "sender head"]:
        """||M W|| of every write M with every head's W."""
        wide = rearrange(self.X, "share d_model d_head -> d_model (share d_head)")
        read = rearrange(
            writes.flatten(0, 1) @ wide, "row (share d_head) -> share row d_head", share=len(self.X)
        )  # one product of matrices for all of them
        seen = einsum(read, self.R_Y, "share row d_head, share member rank d_head -> share row member rank")
        rows = seen.norm(dim=-1).unflatten(1, (len(writes), -1))
        return rearrange(rows.norm(dim=2), "share sender member -> sender (share member)")


def slot_reader(slot: str, w: Mapping[str, Tensor], turned: Rotation | None, group: int) -> SlotReader:
    """`w`: a layer's folded weights by letter; `turned`: where a query ([-1]) and a key ([0]) are turned to."""
    if slot == "v":
        return _reader(w["V"], root(w["O"].mT).unflatten(0, (-1, group)))
    queries, keys = (x if turned is None else x @ turned[at].to(x) for x, at in ((w["Q"], -1), (w["K"], 0)))
    if slot == "k":
        return _reader(keys, root(queries).unflatten(0, (-1, group)))
    return _reader(queries, root(keys).repeat_interleave(group, 0)[:, None])


def root(x: Float[Tensor, "head rows d_head"]) -> Float[Tensor, "head rank d_head"]:
    """R with R^T R = x^T x: all that the norm of M x^T depends on."""
    return torch.linalg.qr(x, mode="r").R


def scaled(x: Float[Tensor, "head a b"]) -> Float[Tensor, " head"]:
    """What each head's factor is divided by to have norm 1; a head of zeros stays zero."""
    size = x.flatten(1).norm(dim=1)
    return size.where(size > 0, 1)


def squared_spectrum(x: Float[Tensor, "head a b"]) -> Float[Tensor, "head rank"]:
    """Squared singular values, largest first."""
    return torch.linalg.svdvals(x).square()


def _reader(X: Float[Tensor, "share d_model d_head"], R_Y: Float[Tensor, "share member rank d_head"]) -> SlotReader:
    core = einsum(root(X), R_Y, "share a d_head, share member b d_head -> share member a b").flatten(0, 1)
    size = scaled(core)[:, None, None]
    return SlotReader(X, R_Y / size.unflatten(0, R_Y.shape[:2]), squared_spectrum(core / size))
