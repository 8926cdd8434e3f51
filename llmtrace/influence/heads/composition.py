"""Composition: how much of what one head writes a later head can read with its queries, keys or values. From weights.

    Q: ||W_OV W_QK|| / (||W_OV|| ||W_QK||)     K: ||W_OV W_QK^T|| / (...)     V: ||W_OV W_OV'|| / (...)     Frobenius

W_OV = W_V W_O of the sender, W_QK = W_Q R_d W_K^T and W_OV' of the receiver, with norms folded in: their weights and
centring stand before what reads, and where a norm centres, W_O is centred too. Biases play no part. Scores lie in
[0, 1]. `baseline`, 1/sqrt(d_model), is exact: root mean square when the two are turned against each other at random.

`alignment` is the score over the largest that the two heads' singular values allow (every direction that the sender
writes strongly is one that the receiver reads strongly): 1 when nothing could be better placed.

Source: Elhage et al. 2021. ||V O X Y^T|| = ||R_V O X R_Y^T||, R from the QR of V and of Y (`slot_readers.py`), so a
pair costs one d_head x d_model x d_head product, which heads with the same keys and values share.
Cost: one pass on 8 tokens (are scores dot products?); all pairs of SmolLM2's 270 heads, three slots: 6 s on one core.
Known failure: room for composition is not use of it. Path patching says whether the path carries anything.
Refused: norms after the blocks; for Q and K what `qk_circuit` refuses (values can still be asked for: slots=("v",)).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from einops import einsum
from jaxtyping import Float
from torch import Tensor

from llmtrace.errors import InputError, NotFoundError
from llmtrace.influence.heads.circuits import require_products, shared_by
from llmtrace.influence.heads.slot_readers import SlotReader, root, scaled, slot_reader, squared_spectrum
from llmtrace.influence.vocabulary import through_norm
from llmtrace.models import AttentionWeights, TraceModel, attention_weights, describe, provenance, require_additive
from llmtrace.models.dot_product import rotation
from llmtrace.nodes import SLOTS, Head

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class Composition:
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
def composition(model: TraceModel, *, slots: Sequence[str] = SLOTS, distance: int = 0) -> Composition:
    """Every earlier head against every later one. `distance`: between query and key, which rotary models feel."""
    arch = describe(model)
    slots = tuple(slots)
    if not slots or not set(slots) <= set(SLOTS):
        raise InputError(f"Expected slots among q, k and v, got {list(slots)}; leave slots out for all three.")
    require_additive(model, "Composition")
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
