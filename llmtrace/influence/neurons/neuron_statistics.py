"""What every neuron does over a set of prompts: statistics of its activation, and the tokens on which it is highest.

    activation   what W_out multiplies (`mlp_post`), at every real token, the BOS left out unless asked for
    mean, std, min, max, share_active (> 0), kurtosis (3: normal; large: rare peaks)

Cost: one forward pass over the prompts, a few at a time. Nothing is kept of an activation but running sums and
the k highest: layers x d_mlp x k numbers. Law: the numbers do not depend on the batches. Source: Geva et al. 2021.
Sign: that of the activation.
Known failure: the highest activations are a neuron's loudest moments, not its usual ones; compare `share_active`.

    >>> found = lt.influence.neuron_statistics(model, prompts)
    >>> [str(neuron) for neuron, _ in found.top("kurtosis", 3)]
    ['m3.n113', 'm3.n121', 'm3.n414']
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from llmtrace.errors import InputError, NotFoundError, UnsupportedError, did_you_mean
from llmtrace.influence.neurons.moments import Moments
from llmtrace.influence.rows import STATISTICS
from llmtrace.models import Hook, TraceModel, describe, final_residual, provenance, require_one_mlp, token_labels
from llmtrace.models.hook_names import site_name
from llmtrace.models.memory import Memory, in_one_pass
from llmtrace.nodes import Neuron, read_node
from llmtrace.progress import track
from llmtrace.prompts import PromptSet, as_prompts
from llmtrace.results import Result

if TYPE_CHECKING:
    import pandas as pd

ROWS = 1024  # tokens whose activations are widened at once
ENOUGH = 2**28  # bytes of a pass: larger ones are not faster


@dataclass(frozen=True)
class Example:
    """One of a neuron's highest activations: the token, and what stands around it."""

    activation: float
    prompt: int
    position: int
    before: str
    token: str
    after: str


@dataclass(frozen=True, eq=False)
class NeuronStatistics(Result):
    """`where` holds (prompt, position) of each of the highest activations, largest first."""

    layers: tuple[int, ...]
    mean: Float[Tensor, "layer neuron"]
    std: Float[Tensor, "layer neuron"]
    min: Float[Tensor, "layer neuron"]
    max: Float[Tensor, "layer neuron"]
    share_active: Float[Tensor, "layer neuron"]
    kurtosis: Float[Tensor, "layer neuron"]
    highest: Float[Tensor, "layer neuron k"]
    where: Int[Tensor, "layer neuron k 2"]
    labels: tuple[tuple[str, ...], ...]
    lengths: Int[Tensor, " batch"]
    n_tokens: int
    provenance: Mapping[str, Any]
    options: Mapping[str, Any] = field(default_factory=dict)

    def column(self, name: str) -> Float[Tensor, "layer neuron"]:
        if name not in STATISTICS:
            close = did_you_mean(name, list(STATISTICS))
            raise NotFoundError(f"Expected a statistic, one of {', '.join(STATISTICS)}; got {name!r}.{close}")
        found: Tensor = getattr(self, name)
        return found

    def top(self, name: str = "kurtosis", k: int = 10) -> list[tuple[Neuron, float]]:
        """The `k` neurons with the largest value of a statistic; those that never vary have no kurtosis."""
        values = self.column(name).flatten()
        order = values.nan_to_num(-torch.inf).argsort(descending=True, stable=True)[:k].tolist()
        width = self.mean.shape[1]
        return [(Neuron(self.layers[i // width], i % width), values[i].item()) for i in order]

    def of(self, neuron: Neuron | str) -> dict[str, float]:
        """One neuron's statistics by name."""
        layer, index = self._row(neuron)
        return {name: self.column(name)[layer, index].item() for name in STATISTICS}

    def examples(self, neuron: Neuron | str, k: int = 5, *, window: int = 5) -> list[Example]:
        """The tokens on which a neuron is highest, with `window` tokens on each side."""
        layer, index = self._row(neuron)
        found = []
        places = self.where[layer, index, :k].tolist()
        for value, (prompt, at) in zip(self.highest[layer, index, :k].tolist(), places, strict=True):
            text = self.labels[prompt][: int(self.lengths[prompt])]
            around = text[max(0, at - window) : at], text[at + 1 : at + 1 + window]
            before, after = (_joined(side) for side in around)
            found.append(Example(value, prompt, at, before, text[at], after))
        return found

    def df(self) -> pd.DataFrame:
        """One row per neuron: its statistics, and the token of its highest activation."""
        import pandas as pd

        width = self.mean.shape[1]
        first = self.where[:, :, 0].reshape(-1, 2).tolist()
        return pd.DataFrame(
            {
                "neuron": [str(Neuron(layer, i)) for layer in self.layers for i in range(width)],
                "layer": [layer for layer in self.layers for _ in range(width)],
                **{name: self.column(name).flatten().tolist() for name in STATISTICS},
                "top_token": [self.labels[prompt][at] for prompt, at in first],
            }
        )

    def _row(self, written: Neuron | str) -> tuple[int, int]:
        neuron = read_node(written)
        if not isinstance(neuron, Neuron) or neuron.layer not in self.layers or neuron.index >= self.mean.shape[1]:
            raise NotFoundError(
                f"Expected a neuron of layers {', '.join(map(str, self.layers))}, such as "
                f"{Neuron(self.layers[0], 0)}; got {neuron}."
            )
        return self.layers.index(neuron.layer), neuron.index

    def __repr__(self) -> str:
        layers, width = self.mean.shape
        return f"NeuronStatistics({layers} layers x {width} neurons over {self.n_tokens} tokens)"


@torch.no_grad()
def neuron_statistics(
    model: TraceModel,
    prompts: PromptSet | str | Sequence[str],
    *,
    layers: Sequence[int] | None = None,
    k: int = 10,
    memory: Memory = "auto",
    with_bos: bool = False,
) -> NeuronStatistics:
    """Every neuron of `layers` over all real tokens of `prompts`. `k`: how many of its highest activations are kept."""
    arch = describe(model)
    if arch.attn_only:
        raise UnsupportedError("This model is attention-only, so it has no neurons; look at its heads (head_scores).")
    prompts, layers = as_prompts(model, prompts), arch.require_layers(layers)
    if k < 1:
        raise InputError(f"Expected to keep at least one activation of each neuron, got k={k}.")
    counted = prompts.mask.clone()
    if prompts.prepend_bos and not with_bos:
        counted[:, 0] = False
    if not bool(counted.any()):
        raise InputError("Expected prompts with a token beside their BOS, got none; pass with_bos=True to count it.")
    k = min(k, int(counted.sum()))
    require_one_mlp(model, "Statistics of neurons", layers)
    running = [_Running(arch.d_mlp, k) for _ in layers]
    at_once = in_one_pass(arch, prompts.clean.shape[1], memory, model.W_E, enough=ENOUGH)
    for chunk in track(prompts.batches(at_once), "neuron statistics"):
        some = counted[chunk]
        places = some.nonzero() + torch.tensor([chunk.start, 0])
        hooks = [_taker(layer, one, some, places) for layer, one in zip(layers, running, strict=True)]
        final_residual(model, prompts.clean[chunk], hooks)

    def stacked(name: str) -> Tensor:
        return torch.stack([getattr(one, name) for one in running])

    n = running[0].moments.n
    return NeuronStatistics(
        layers=layers,
        mean=torch.stack([one.moments.mean for one in running]), std=torch.stack([one.moments.std for one in running]),
        min=stacked("least"), max=stacked("highest")[:, 0], share_active=stacked("active") / n,
        kurtosis=torch.stack([one.moments.kurtosis for one in running]),
        highest=stacked("highest").transpose(1, 2), where=stacked("where").transpose(1, 2),
        labels=token_labels(model, prompts.clean), lengths=prompts.lengths, n_tokens=n,
        provenance=provenance(model).as_dict(),
        options={"prompts": prompts.name, "with_bos": with_bos, "n_prompts": len(prompts)},
    )  # fmt: skip


class _Running:
    """What is known of one layer's neurons so far."""

    def __init__(self, width: int, k: int) -> None:
        self.moments = Moments.empty(width)
        self.active = torch.zeros(width, dtype=torch.float64)
        self.least = torch.full((width,), torch.inf, dtype=torch.float64)
        self.highest = torch.full((k, width), -torch.inf, dtype=torch.float64)
        self.where = torch.zeros(k, width, 2, dtype=torch.long)

    def add(self, rows: Float[Tensor, "row neuron"], places: Int[Tensor, "row 2"]) -> None:
        self.moments.add(rows)
        self.active += (rows > 0).sum(0)
        self.least = torch.minimum(self.least, rows.min(0).values)
        best = rows.topk(min(len(self.highest), len(rows)), 0)
        both, where = torch.cat([self.highest, best.values]), torch.cat([self.where, places[best.indices]])
        order = both.argsort(dim=0, descending=True, stable=True)[: len(self.highest)]
        self.highest = both.gather(0, order)
        self.where = where.gather(0, order[..., None].expand(-1, -1, 2))


def _taker(layer: int, running: _Running, counted: Bool[Tensor, "batch pos"], places: Int[Tensor, "row 2"]) -> Hook:
    def take(activation: Tensor) -> None:
        rows = activation.detach()[counted.to(activation.device)]
        for some, at in zip(rows.split(ROWS), places.split(ROWS), strict=True):
            running.add(some.double().cpu(), at)

    return site_name("mlp_post", layer), take


def _joined(tokens: Sequence[str]) -> str:
    """Tokens as text; those of a word tokenizer, which bring no spaces, get them."""
    spaced = any(token != token.strip() for token in tokens)
    return ("" if spaced else " ").join(tokens)
