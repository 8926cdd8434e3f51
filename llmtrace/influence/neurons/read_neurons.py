"""An MLP as keys and values: which tokens a neuron answers to, and which tokens it writes.

    key     n(e_t) . W_in[:, i] + b_in[i]          the pre-activation of neuron i when the stream is token t alone
    gate    n(e_t) . W_gate[:, i]                  in a gated MLP, where `in` is the part that the gate multiplies
    value   W_out[i] . u_t                         what one unit of activation adds to token t's logit, over the scale

e and u are the two ends of the vocabulary (`vocabulary`), n the norm before the MLP. Source: Geva et al. 2021 (keys),
2022 (values). Cost: no pass; neurons x d_vocab x d_model. Law: the values of all neurons, weighted by activation, are
the MLP's direct effect on the logits.
Sign: a positive key raises the neuron, a positive value the token's logit.
Known failure: deep neurons read what attention wrote, not embeddings; hold the key against `neuron_statistics`, and the
value against an ablation. A neuron of negative activation writes the opposite of its value.

    >>> lt.influence.read_neurons(model, [lt.Neuron(3, 52)])
    NeuronReading(1 neurons: m3.n52 writes '44 <unk> <bos>')
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from llmtrace.errors import InputError, UnsupportedError
from llmtrace.influence.vocabulary import readout, token_vectors
from llmtrace.models import TraceModel, describe, mlp_weights, provenance, require_additive, token_labels
from llmtrace.models.hook_names import EVERY_PART
from llmtrace.nodes import Neuron, NodeLike, place_of, read_node
from llmtrace.results import Result

if TYPE_CHECKING:
    import pandas as pd

TokenScores = tuple[tuple[str, float], ...]


@dataclass(frozen=True, eq=False)
class NeuronReading(Result):
    """For every neuron and side ("key", or "gate" and "in"; "value"): highest and lowest tokens, outermost first."""

    neurons: tuple[Neuron, ...]
    sides: tuple[str, ...]
    highest: tuple[tuple[TokenScores, ...], ...]  # neuron, side
    lowest: tuple[tuple[TokenScores, ...], ...]
    provenance: Mapping[str, Any]

    def of(self, neuron: Neuron | str, side: str = "value") -> tuple[TokenScores, TokenScores]:
        """(highest, lowest) tokens of one side: of "value", the promoted and the suppressed ones."""
        row = place_of((read_node(neuron),), [(n,) for n in self.neurons], "this reading")
        if side not in self.sides:
            raise InputError(f"Expected one of the sides {', '.join(self.sides)}, got {side!r}.")
        column = self.sides.index(side)
        return self.highest[row][column], self.lowest[row][column]

    def df(self) -> pd.DataFrame:
        """One row per neuron, side and token; `rank` counts from the highest (1, 2) or the lowest (-1, -2)."""
        import pandas as pd

        rows = [
            (str(neuron), side, sign * (i + 1), token, value)
            for neuron in self.neurons
            for side in self.sides
            for sign, found in zip((1, -1), self.of(neuron, side), strict=True)
            for i, (token, value) in enumerate(found)
        ]
        return pd.DataFrame(rows, columns=["neuron", "side", "rank", "token", "score"])

    def __repr__(self) -> str:
        says = "; ".join(f"{n} writes {' '.join(t for t, _ in self.of(n)[0][:3])!r}" for n in self.neurons[:3])
        return f"NeuronReading({len(self.neurons)} neurons: {says})"


@torch.no_grad()
def read_neurons(model: TraceModel, neurons: Sequence[NodeLike], *, k: int = 10) -> NeuronReading:
    """The `k` highest and lowest tokens on each side of each neuron.

    Raises UnsupportedError for an attention-only model and for norms after the blocks.
    """
    arch = describe(model)
    if arch.attn_only:
        raise UnsupportedError("This model is attention-only, so it has no neurons; read its heads (ov_circuit).")
    chosen = arch.require_all(neurons, (Neuron,), "to read")
    require_additive(model, "Reading neurons", reads=("mlp",), recomputes=EVERY_PART)
    size = arch.d_vocab
    if not 1 <= k <= size:
        raise InputError(f"Expected k from 1 to {size}, the tokens of the vocabulary; got {k}.")
    embedded, seen = token_vectors(model)[:size], readout(model)
    sides = ("gate", "in", "value") if arch.gated else ("key", "value")
    highest, lowest = [], []
    for neuron in chosen:
        scores = neuron_sides(model, neuron, embedded, seen)
        highest.append(tuple(_extremes(model, scores[side], k, largest=True) for side in sides))
        lowest.append(tuple(_extremes(model, scores[side], k, largest=False) for side in sides))
    return NeuronReading(chosen, sides, tuple(highest), tuple(lowest), provenance(model).as_dict())


def neuron_sides(
    model: TraceModel,
    neuron: Neuron,
    embedded: Float[Tensor, "token d_model"],
    seen: Float[Tensor, "d_vocab d_model"],
) -> dict[str, Float[Tensor, " token"]]:
    """A neuron's score of every token, by side."""
    w, i = mlp_weights(model, neuron.layer), neuron.index
    read = w.norm(embedded)
    value = seen @ w.W_out[i]
    if w.W_gate is None:
        return {"key": read @ w.W_in[:, i] + w.b_in[i], "value": value}
    return {"gate": read @ w.W_gate[:, i], "in": read @ w.W_in[:, i], "value": value}


def _extremes(model: TraceModel, scores: Float[Tensor, " token"], k: int, *, largest: bool) -> TokenScores:
    found = scores.topk(k, largest=largest)
    return tuple(zip(token_labels(model, found.indices[None].cpu())[0], found.values.tolist(), strict=True))
