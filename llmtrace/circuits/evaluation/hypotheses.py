"""Three hypotheses about a circuit, each with a p-value: what Shi et al. ask of a circuit before they believe it.

    equivalence    H0: circuit and model beat each other equally often, P(m(C) > m(M)) within 1/2 +- tolerance
    independence   H0: what is left without the circuit, m(M \\ C), tells nothing of what the model does, m(M)
    minimality     H0: an edge moves m(C) no more than an edge of a random path that is added to C

A small p-value speaks against the circuit in the first two and for the edge in the third. Equivalence is a binomial
test over prompts; independence a permutation test of HSIC (Gaussian kernels, median widths); minimality compares
|mean m(C) - mean m(C \\ e)| with its distribution over inflated circuits.
Source: Shi et al. 2024 (arXiv 2410.13032), sections 3 and 4. Cost: 3 circuit runs, one for each edge and two for each
draw. Known failure: with few prompts nothing is rejected; that is no evidence for the circuit.

    >>> circuit = lt.circuits.discover(model, prompts, n_edges=10)
    >>> lt.circuits.hypothesis_tests(model, prompts, circuit, draws=3)
    Hypotheses(logit_diff: equivalence p = 0.155, independence p = 0.161, 0 of 10 edges needed)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float
from scipy.stats import binom
from torch import Tensor

from llmtrace.circuits.circuit import Circuit
from llmtrace.circuits.graph import Graph
from llmtrace.circuits.running.background import Ablation, Background
from llmtrace.circuits.running.run_circuit import background_if_it_fits, run_circuits
from llmtrace.errors import InputError
from llmtrace.interventions import Memory
from llmtrace.metrics import MetricLike
from llmtrace.models import TraceModel
from llmtrace.nodes import Edge
from llmtrace.prompts import PromptSet, metric_of

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class Hypotheses:
    """`minimality[i]` is the p-value of `edges[i]`, whose removal moves the metric by `moved[i]` in the mean."""

    equivalence: float
    independence: float
    edges: tuple[Edge, ...]
    moved: Float[Tensor, " edge"]
    minimality: Float[Tensor, " edge"]
    metric: str

    def needed(self, *, level: float = 0.05) -> tuple[Edge, ...]:
        """Edges whose H0 falls at this level, by Holm's correction for as many tests."""
        order = self.minimality.argsort(stable=True).tolist()
        found: list[Edge] = []
        for rank, index in enumerate(order):
            if self.minimality[index] > level / (len(order) - rank):
                break
            found.append(self.edges[index])
        return tuple(found)

    def df(self) -> pd.DataFrame:
        """One row per edge of the circuit, the most needed first."""
        import pandas as pd

        order = self.moved.argsort(descending=True).tolist()
        return pd.DataFrame(
            {
                "edge": [str(self.edges[i]) for i in order],
                "moved": self.moved[order].tolist(),
                "p": self.minimality[order].tolist(),
            }
        )

    def __repr__(self) -> str:
        return (
            f"Hypotheses({self.metric}: equivalence p = {self.equivalence:.3g}, independence p = "
            f"{self.independence:.3g}, {len(self.needed())} of {len(self.edges)} edges needed)"
        )


def hypothesis_tests(
    model: TraceModel,
    prompts: PromptSet,
    circuit: Circuit,
    *,
    metric: MetricLike | None = None,
    ablation: Ablation | Background = "resample",
    tolerance: float = 0.1,
    draws: int = 100,
    seed: int = 0,
    memory: Memory = "auto",
) -> Hypotheses:
    """The three tests on these prompts; take prompts that did not choose the edges where you can.

    draws   random paths for minimality, permutations (times ten) for independence

    Raises InputError for no draws or a tolerance outside 0 to 1/2.
    """
    if draws < 1 or not 0 <= tolerance < 0.5:
        raise InputError(f"Expected draws from 1 on and a tolerance from 0 to 0.5, got {draws} and {tolerance}.")
    circuit.require_model(model)
    bound, full = metric_of(model, prompts, metric), Circuit.full(circuit.graph)
    generator = torch.Generator().manual_seed(seed)
    ablation, memory = background_if_it_fits(model, circuit.graph, prompts, ablation, memory)

    def values(some: Sequence[Circuit]) -> Float[Tensor, "circuit batch"]:
        return run_circuits(model, prompts, some, ablation=ablation, metric=bound, memory=memory).double().cpu()

    whole, alone, rest = values([full, circuit, full - circuit])
    edges = circuit.edges
    less = values([without(circuit, *circuit.graph.index(edge)) for edge in edges]) if edges else alone[None][:0]
    moved = (alone - less).mean(1).abs()
    by_chance = [_added(circuit, generator) for _ in range(draws)]
    larger, smaller = values([one for one, _ in by_chance]), values([other for _, other in by_chance])
    null = (larger - smaller).mean(1).abs()
    return Hypotheses(
        equivalence=equally_often(alone, whole, tolerance),
        independence=independence(rest, whole, 10 * draws, generator),
        edges=edges,
        moved=moved,
        minimality=(1 + (null[None] >= moved[:, None]).sum(1)).double() / (1 + draws),
        metric=bound.name,
    )


def equally_often(ours: Float[Tensor, " batch"], theirs: Float[Tensor, " batch"], tolerance: float = 0.0) -> float:
    """The p-value of P(ours > theirs) within 1/2 +- tolerance; ties say nothing."""
    differ = (ours - theirs).abs() > 1e-9 * theirs.abs().clamp(min=1)
    n, won = int(differ.sum()), int((ours > theirs)[differ].sum())
    far = abs(won - n / 2)  # at least so far from half, under the worst probability that H0 allows
    p = 0.5 + tolerance
    return 1.0 if n == 0 else float(min(1.0, binom.cdf(n / 2 - far, n, p) + binom.sf(n / 2 + far - 1, n, p)))


def independence(
    x: Float[Tensor, " batch"], y: Float[Tensor, " batch"], permutations: int, generator: torch.Generator
) -> float:
    """The p-value of x and y being independent: how often a shuffled y has the HSIC of the real one, or more."""
    of_x, of_y = (_centred(_kernel(values)) for values in (x, y))
    real = hsic(of_x, of_y)
    orders = [torch.randperm(len(y), generator=generator) for _ in range(permutations)]
    shuffled = torch.stack([hsic(of_x, of_y[order][:, order]) for order in orders])
    return float((1 + (shuffled >= real - 1e-12).sum()) / (1 + permutations))


def hsic(of_x: Float[Tensor, "batch batch"], of_y: Float[Tensor, "batch batch"]) -> Tensor:
    """trace(K H L H) / (n - 1)^2, from kernels that are centred already."""
    return (of_x * of_y).sum() / max(1, len(of_x) - 1) ** 2


def _kernel(values: Float[Tensor, " batch"]) -> Float[Tensor, "batch batch"]:
    apart = (values[:, None] - values[None]).abs()
    width = apart[apart > 0].median() if bool((apart > 0).any()) else apart.new_ones(())
    return torch.exp(-(apart**2) / (2 * width**2))


def _centred(kernel: Float[Tensor, "batch batch"]) -> Float[Tensor, "batch batch"]:
    return kernel - kernel.mean(0, keepdim=True) - kernel.mean(1, keepdim=True) + kernel.mean()


def without(circuit: Circuit, row: int, column: int) -> Circuit:
    """The circuit less one edge."""
    mask = circuit.mask.clone()
    mask[row, column] = False
    return Circuit(circuit.graph, mask)


def _added(circuit: Circuit, generator: torch.Generator) -> tuple[Circuit, Circuit]:
    """The circuit with a random path that it did not have, and the same less one of the path's edges."""
    graph = circuit.graph
    path = random_path(graph, generator)
    new = (path & ~circuit.mask).nonzero()
    if len(new) == 0:  # all of it was there: any of its edges
        new = path.nonzero()
    row, column = new[int(torch.randint(len(new), (), generator=generator))].tolist()
    inflated = Circuit(graph, circuit.mask | path)
    return inflated, without(inflated, row, column)


def random_path(graph: Graph, generator: torch.Generator) -> Bool[Tensor, "node port"]:
    """From the logits back to an input: at each node any of its ports, at each port any of its writers."""
    path, column = torch.zeros_like(graph.real), len(graph.ports) - 1
    while True:
        rows = graph.real[:, column].nonzero().flatten()
        row = int(rows[torch.randint(len(rows), (), generator=generator)])
        path[row, column] = True
        if row < graph.before(0):
            return path
        columns = graph.columns_of[row]
        column = columns[int(torch.randint(len(columns), (), generator=generator))]
