"""Composition: how much of what one head writes a later head can read with its queries, keys or values. From weights.

    Q: ||W_OV W_QK|| / (||W_OV|| ||W_QK||)     K: ||W_OV W_QK^T|| / (...)     V: ||W_OV W_OV'|| / (...)     Frobenius

W_OV = W_V W_O of the sender, W_QK = W_Q R_d W_K^T and W_OV' of the receiver, with norms folded in: their weights and
centring stand before what reads, and where a norm centres, W_O is centred too. Biases play no part. Scores lie in
[0, 1]. `baseline`, 1/sqrt(d_model), is exact: root mean square when the two are turned against each other at random.

`alignment` is the score over the largest that the two heads' singular values allow (every direction that the sender
writes strongly is one that the receiver reads strongly): 1 when nothing could be better placed.

Source: Elhage et al. 2021. ||V O X Y^T|| = ||R_V O X R_Y^T||, R from the QR of V and of Y (`SlotReader`), so a
pair costs one d_head x d_model x d_head product, which heads with the same keys and values share.
Cost: one pass on 8 tokens (are scores dot products?); all pairs of SmolLM2's 270 heads, three slots: 6 s on one core.
Sign: from 0 to 1, and `baseline` is what chance gives.
Known failure: room for composition is not use of it. Path patching says whether the path carries anything.
Refused: norms after the blocks; for Q and K what `qk_circuit` refuses (values can still be asked for: slots=("v",)).

    >>> lt.influence.head_composition(model)
    Composition(32 heads; highest: q 1.3->2.5 0.41, k 1.6->2.4 0.47, v 1.6->2.2 0.56; by chance 0.09)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from einops import einsum, rearrange
from jaxtyping import Float
from torch import Tensor

from llmtrace.errors import InputError, NotFoundError
from llmtrace.influence.heads.ov_qk import require_products, shared_by
from llmtrace.influence.vocabulary import through_norm
from llmtrace.models import AttentionWeights, TraceModel, attention_weights, describe, provenance, require_additive
from llmtrace.models.components.query_key import Rotation, rotation
from llmtrace.models.hook_names import EVERY_PART
from llmtrace.nodes import SLOTS, Head
from llmtrace.results import Result


@dataclass(frozen=True, eq=False)
class SlotReader:
    """What the heads of a layer read through one slot, in factors: the norm of M W for every write M, W never made.

        q  W = W_Q R_d W_K^T        k  W = W_K R_d^T W_Q^T        v  W = W_V W_O                 W = X Y^T
        ||M W|| = ||(M X) R_Y^T||    R_Y: from the QR of Y, the root of its Gram matrix d_head x d_head without squaring

    Heads with the same X are members beside one another, every W of norm 1 (or 0). Heads that share keys and values
    share X in slots k and v, and with it M X, which is what costs.
    """

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


if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class Composition(Result):
    """One number per slot, sender and receiver; NaN where the receiver does not come after the sender."""

    heads: tuple[Head, ...]
    slots: tuple[str, ...]
    values: Float[Tensor, "slot sender receiver"]
    alignment: Float[Tensor, "slot sender receiver"]
    baseline: float
    provenance: Mapping[str, Any]
    options: Mapping[str, Any] = field(default_factory=dict)

    def of(self, slot: str) -> Float[Tensor, "sender receiver"]:
        if slot not in self.slots:
            raise NotFoundError(f"Expected one of the slots {', '.join(self.slots)}, got {slot!r}.")
        return self.values[self.slots.index(slot)]

    def top(self, slot: str, k: int = 10) -> list[tuple[Head, Head, float]]:
        """The `k` pairs (sender, receiver, score) that compose most, largest first."""
        values = self.of(slot)
        order = values.nan_to_num(-1).flatten().argsort(descending=True, stable=True)[:k].tolist()
        pairs = [divmod(i, len(self.heads)) for i in order]
        return [(self.heads[s], self.heads[r], values[s, r].item()) for s, r in pairs if not values[s, r].isnan()]

    def df(self) -> pd.DataFrame:
        """One row per slot and pair."""
        import pandas as pd

        rows = [
            (slot, sender.label, receiver.label, self.values[i, s, r].item(), self.alignment[i, s, r].item())
            for i, slot in enumerate(self.slots)
            for s, sender in enumerate(self.heads)
            for r, receiver in enumerate(self.heads)
            if sender.layer < receiver.layer
        ]
        return pd.DataFrame(rows, columns=["slot", "sender", "receiver", "composition", "alignment"])

    def __repr__(self) -> str:
        best = [(slot, self.top(slot, 1)) for slot in self.slots]
        says = ", ".join(f"{slot} {s.label}->{r.label} {v:.2f}" for slot, found in best for s, r, v in found)
        return f"Composition({len(self.heads)} heads; highest: {says}; by chance {self.baseline:.2f})"

    def _repr_html_(self) -> str:
        return str(self.df().sort_values("composition", ascending=False).to_html(max_rows=12))


@torch.no_grad()
def head_composition(model: TraceModel, *, slots: Sequence[str] = SLOTS, distance: int = 0) -> Composition:
    """Every earlier head against every later one. `distance`: between query and key, which rotary models feel."""
    arch = describe(model)
    slots = tuple(slots)
    if not slots or not set(slots) <= set(SLOTS):
        raise InputError(f"Expected slots among q, k and v, got {list(slots)}; leave slots out for all three.")
    require_additive(model, "Composition", reads=("attention",), recomputes=EVERY_PART)
    turns = bool({"q", "k"} & set(slots))
    if turns:
        require_products(model, distance, "Q- and K-composition")
    senders, readers = list[Tensor](), {slot: list[SlotReader]() for slot in slots}
    for layer in range(arch.n_layers):
        w = _folded(attention_weights(model, layer), arch.norm == "LN")
        turned = rotation(model, layer, distance + 1) if turns else None
        written = shared_by(root(w["V"]), arch.group) @ w["O"]
        senders.append(written / scaled(written)[:, None, None])
        for slot, found in readers.items():
            found.append(slot_reader(slot, w, turned, arch.group))
    values = torch.stack([_norms(senders, found) for found in readers.values()])
    written = torch.cat([squared_spectrum(sender) for sender in senders])
    read = torch.stack([torch.cat([reader.squared_spectrum for reader in found]) for found in readers.values()])
    most = einsum(written, read, "sender i, slot receiver i -> slot sender receiver").sqrt().to(values)
    alignment = values / most.where(most > 0, 1)
    options = {"distance": distance} if arch.positional == "rotary" else {}
    return Composition(arch.heads, slots, values, alignment, arch.d_model**-0.5, provenance(model).as_dict(), options)


def _norms(
    senders: Sequence[Float[Tensor, "head a d_model"]], readers: Sequence[SlotReader]
) -> Float[Tensor, "sender receiver"]:
    """All heads with all later ones in one slot."""
    n_layers, n_heads = len(senders), len(senders[0])
    found = torch.full((n_layers, n_heads, n_layers, n_heads), torch.nan, dtype=torch.float64)
    for later, reader in enumerate(readers):
        for earlier in range(later):
            found[earlier, :, later] = reader.norms(senders[earlier]).cpu()
    return found.flatten(2).flatten(0, 1)


def _folded(w: AttentionWeights, centres: bool) -> dict[str, Tensor]:
    """Weights by letter, as they read the stream and write into it; half precision is widened."""
    found = {letter: through_norm(w.norm, _wide(getattr(w, f"W_{letter}"))) for letter in "QKV"}
    out = _wide(w.W_O)
    return found | {"O": out - out.mean(-1, keepdim=True) if centres else out}


def _wide(x: Tensor) -> Tensor:
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
