"""Composition: how much of what one head writes a later head can read with its queries, keys or values. From weights.

    Q: ||W_OV W_QK|| / (||W_OV|| ||W_QK||)     K: ||W_OV W_QK^T|| / (...)     V: ||W_OV W_OV'|| / (...)     Frobenius

W_OV = W_V W_O of the sender, W_QK = W_Q R_d W_K^T and W_OV' of the receiver, with norms folded in: their weights and
centring stand before what reads, and where a norm centres, W_O is centred too. Biases play no part. Scores lie in
[0, 1]. `baseline`, 1/sqrt(d_model), is exact: root mean square when the two are turned against each other at random.

`alignment` is the score over the largest that the two heads' singular values allow (every direction that the sender
writes strongly is one that the receiver reads strongly): 1 when nothing could be better placed.

Source: Elhage et al. 2021. ||V O X Y^T|| = ||R_V O X R_Y^T||, R from the QR of V and of Y (the root of the Gram matrix
d_head x d_head, without squaring), so a pair costs one d_head x d_model x d_head product and nothing is d_model wide.
Cost: no pass; all pairs of SmolLM2's 270 heads, three slots: half a minute on one busy core. With grouped queries the
factors are those of the key-value heads that exist.
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
from llmtrace.influence.heads.circuits import query_and_key_rotations, shared_by
from llmtrace.influence.vocabulary import through_norm
from llmtrace.models import AttentionWeights, TraceModel, attention_weights, describe, provenance, require_additive
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
    senders, readers = [], {slot: list[Tensor]() for slot in slots}
    for layer in range(arch.n_layers):
        w = _folded(attention_weights(model, layer), arch.norm == "LN")
        senders.append(_unit(shared_by(_root(w["V"]), arch.group) @ w["O"]))
        found = _receivers(model, w, layer, slots, distance)
        for slot, reader in found.items():
            readers[slot].append(_unit(reader))
    n = arch.n_heads
    values = torch.full((len(slots), arch.n_layers * n, arch.n_layers * n), float("nan"), dtype=torch.float64)
    most = values.clone()
    written = [_squared_spectrum(sender) for sender in senders]
    for i, slot in enumerate(slots):
        read = [_squared_spectrum(reader) for reader in readers[slot]]
        for later in range(1, arch.n_layers):
            for earlier in range(later):
                pair = einsum(senders[earlier], readers[slot][later], "sender a d, receiver d b -> sender receiver a b")
                at = i, slice(earlier * n, earlier * n + n), slice(later * n, later * n + n)
                values[at] = pair.square().sum((2, 3)).sqrt().cpu()
                most[at] = einsum(written[earlier], read[later], "sender i, receiver i -> sender receiver").sqrt().cpu()
    alignment = values / most.where(most > 0, 1)
    options = {"distance": distance} if arch.positional == "rotary" else {}
    return Composition(arch.heads, slots, values, alignment, arch.d_model**-0.5, provenance(model).as_dict(), options)


def _folded(w: AttentionWeights, centres: bool) -> dict[str, Tensor]:
    """Weights by letter, as they read the stream and write into it; half precision is widened."""
    found = {letter: through_norm(w.norm, _wide(getattr(w, f"W_{letter}"))) for letter in "QKV"}
    out = _wide(w.W_O)
    return found | {"O": out - out.mean(-1, keepdim=True) if centres else out}


def _receivers(
    model: TraceModel, w: dict[str, Tensor], layer: int, slots: Sequence[str], distance: int
) -> dict[str, Float[Tensor, "head d_model rank"]]:
    """For each slot X R_Y^T, which has the norm of X Y^T in front of whatever is written."""
    group = describe(model).group
    found: dict[str, Tensor] = {}
    if {"q", "k"} & set(slots):
        turned = query_and_key_rotations(model, layer, distance, "Q- and K-composition")
        queries = w["Q"] if turned is None else w["Q"] @ turned[-1].to(w["Q"])
        keys = w["K"] if turned is None else w["K"] @ turned[0].to(w["K"])
        found["q"] = queries @ shared_by(_root(keys), group).mT
        found["k"] = shared_by(keys, group) @ _root(queries).mT
    if "v" in slots:
        found["v"] = shared_by(w["V"], group) @ _root(w["O"].mT).mT
    return {slot: found[slot] for slot in slots}


def _wide(x: Tensor) -> Tensor:
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def _root(x: Float[Tensor, "head d_model d_head"]) -> Float[Tensor, "head rank d_head"]:
    """R with R^T R = x^T x: all that the norm of x M depends on."""
    return torch.linalg.qr(x).R


def _unit(x: Float[Tensor, "head a b"]) -> Float[Tensor, "head a b"]:
    """Each head's factor over its norm; a head of zeros stays zero."""
    size = x.flatten(1).norm(dim=1)[:, None, None]
    return x / size.where(size > 0, 1)


def _squared_spectrum(x: Float[Tensor, "head a b"]) -> Float[Tensor, "head rank"]:
    """Squared singular values, largest first."""
    return torch.linalg.svdvals(x).square()
