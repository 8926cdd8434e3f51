r"""Does the circuit hold everything, and nothing too much?

    completeness of K    |m(C \ K) - m(M \ K)|      K: nodes of the circuit that are knocked out of both
    minimality of v      |m(C) - m(C \ v)|          what the circuit loses with v

A complete circuit breaks as the model does, whatever K is; K is sampled, and found greedily (one node after the other,
always the one that drives circuit and model furthest apart). Source: Wang et al. 2022, sections 4.1 and 4.2.
Cost: two circuit runs per sampled K; two runs per node of the circuit and greedy step; one per node for minimality.
Known failure: backup that the circuit lacks shows only under a K that silences what it backs up.

    >>> circuit = lt.circuits.discover(model, prompts, n_edges=30)
    >>> lt.circuits.completeness(model, prompts, circuit, draws=1, greedy=1)
    Completeness(3 knock-outs of logit_diff: largest gap 4.27, mean 2.5)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from llmtrace.circuits.circuit import Circuit
from llmtrace.circuits.running.background import Ablation, Background
from llmtrace.circuits.running.run_circuit import background_if_it_fits, run_circuits
from llmtrace.errors import InputError
from llmtrace.interventions import Memory
from llmtrace.metrics import MetricLike
from llmtrace.models import TraceModel
from llmtrace.nodes import Node
from llmtrace.prompts import PromptSet, metric_of
from llmtrace.results import Result

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class Completeness(Result):
    """`circuit[i]` and `model[i]` are m(C \\ K) and m(M \\ K) of `knocked_out[i]`, per prompt; the first K is empty."""

    knocked_out: tuple[tuple[Node, ...], ...]
    circuit: Float[Tensor, "knockout batch"]
    model: Float[Tensor, "knockout batch"]
    metric: str

    @property
    def gaps(self) -> Float[Tensor, " knockout"]:
        """|mean m(C \\ K) - mean m(M \\ K)|, in the metric's unit."""
        return (self.circuit.mean(1) - self.model.mean(1)).abs()

    def df(self) -> pd.DataFrame:
        """One row per K."""
        import pandas as pd

        return pd.DataFrame(
            {
                "knocked_out": [" ".join(node.label for node in nodes) for nodes in self.knocked_out],
                "circuit": self.circuit.mean(1).tolist(),
                "model": self.model.mean(1).tolist(),
                "gap": self.gaps.tolist(),
            }
        )

    def __repr__(self) -> str:
        return (
            f"Completeness({len(self.knocked_out)} knock-outs of {self.metric}: largest gap "
            f"{self.gaps.max().item():.3g}, mean {self.gaps.mean().item():.3g})"
        )


@dataclass(frozen=True, eq=False)
class Minimality(Result):
    """`loss[i]` is m(C) - m(C \\ nodes[i]), per prompt."""

    nodes: tuple[Node, ...]
    loss: Float[Tensor, "node batch"]
    metric: str

    def df(self) -> pd.DataFrame:
        """One row per node, the most needed first."""
        import pandas as pd

        loss = self.loss.mean(1)
        order = loss.abs().argsort(descending=True).tolist()
        return pd.DataFrame({"node": [self.nodes[i].label for i in order], "loss": loss[order].tolist()})

    def __repr__(self) -> str:
        least = self.loss.mean(1).abs().min().item() if len(self.nodes) else float("nan")
        return f"Minimality({len(self.nodes)} nodes of {self.metric}: the least needed changes it by {least:.3g})"


def completeness(
    model: TraceModel,
    prompts: PromptSet,
    circuit: Circuit,
    *,
    metric: MetricLike | None = None,
    ablation: Ablation | Background = "resample",
    draws: int = 10,
    greedy: int = 3,
    seed: int = 0,
    memory: Memory = "auto",
) -> Completeness:
    """Nothing, `draws` random halves of the circuit's nodes, and a greedy K of up to `greedy` nodes, step by step."""
    if draws < 0 or greedy < 0:
        raise InputError(f"Expected 0 or more draws and greedy steps, got {draws} and {greedy}.")
    circuit.require_model(model)
    bound, nodes = metric_of(model, prompts, metric), candidates(circuit)
    ablation, memory = background_if_it_fits(model, circuit.graph, prompts, ablation, memory)
    full, generator = Circuit.full(circuit.graph), torch.Generator().manual_seed(seed)

    def both(sets: Sequence[tuple[Node, ...]]) -> tuple[Tensor, Tensor]:
        runs = [whole.without(*some) for whole in (circuit, full) for some in sets]
        values = run_circuits(model, prompts, runs, ablation=ablation, metric=bound, memory=memory)
        return values[: len(sets)], values[len(sets) :]

    chosen = torch.rand(draws, len(nodes), generator=generator) < 0.5
    sets = [(), *(tuple(node for node, out in zip(nodes, row, strict=True) if out) for row in chosen.tolist())]
    found = [both(sets)]
    worst: tuple[Node, ...] = ()
    for _ in range(min(greedy, len(nodes))):
        tried = [(*worst, node) for node in nodes if node not in worst]
        alone, whole = both(tried)
        at = int((alone.mean(1) - whole.mean(1)).abs().argmax())
        worst = tried[at]
        sets.append(worst)
        found.append((alone[at : at + 1], whole[at : at + 1]))
    alone, whole = (torch.cat(parts) for parts in zip(*found, strict=True))
    return Completeness(tuple(sets), alone, whole, bound.name)


def minimality(
    model: TraceModel,
    prompts: PromptSet,
    circuit: Circuit,
    *,
    metric: MetricLike | None = None,
    ablation: Ablation | Background = "resample",
    memory: Memory = "auto",
) -> Minimality:
    """What the circuit loses with each of its heads and MLPs."""
    circuit.require_model(model)
    bound, nodes = metric_of(model, prompts, metric), candidates(circuit)
    runs = [circuit, *(circuit.without(node) for node in nodes)]
    values = run_circuits(model, prompts, runs, ablation=ablation, metric=bound, memory=memory)
    return Minimality(nodes, values[0] - values[1:], bound.name)


def candidates(circuit: Circuit) -> tuple[Node, ...]:
    """The heads and MLPs of a circuit: without its input nothing is left to compare."""
    return tuple(node for node in circuit.nodes if node.reads)
