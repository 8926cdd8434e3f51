"""Which edges recur from prompt to prompt: a dependency graph with frequencies, and how surprising they are.

Each prompt (or each prompt set) has a circuit of its own. The frequency of an edge is the share of these circuits that
hold it; its p-value is the probability of such a frequency, or a higher one, if every circuit were drawn at random with
the size it has - a Poisson binomial, exactly - corrected for the number of edges by Benjamini and Hochberg.

Cost: none beyond the scores, which methods keep per prompt. Known failure: a circuit of one prompt is noisy, so an edge
that recurs is a stronger claim than one that does not.

    >>> scores = lt.circuits.eap_ig(model, prompts)
    >>> lt.circuits.patterns(lt.circuits.prompt_circuits(scores, 50))
    Patterns(4 circuits of Graph(4 layers x 8 heads, 1,519 edges): 39 edges in half of them or more, p <= .05)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from llmtrace.circuits.circuit import Circuit
from llmtrace.circuits.edge_scores import EdgeScores
from llmtrace.circuits.graph import Graph
from llmtrace.circuits.rows import SELECTIONS
from llmtrace.circuits.selection.select import require_size
from llmtrace.errors import InputError, MismatchError
from llmtrace.nodes import Edge

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class Patterns:
    """`frequency` is the share of `n` circuits that hold an edge, `p_value` its corrected significance."""

    graph: Graph
    frequency: Float[Tensor, "node port"]
    p_value: Float[Tensor, "node port"]
    n: int

    def top(self, k: int = 10) -> list[tuple[Edge, float]]:
        """The `k` most frequent edges."""
        rows, columns = self.graph.real.nonzero(as_tuple=True)
        values = self.frequency[rows, columns]
        order = values.argsort(descending=True, stable=True)[:k].tolist()
        return [(Edge(self.graph.nodes[rows[i]], self.graph.ports[columns[i]]), values[i].item()) for i in order]

    def circuit(self, *, frequency: float = 0.5, level: float = 0.05) -> Circuit:
        """The edges that are at least so frequent, and significantly so."""
        return Circuit(self.graph, (self.frequency >= frequency) & (self.p_value <= level) & self.graph.real)

    def df(self) -> pd.DataFrame:
        """One row per edge that any circuit holds, the most frequent first."""
        import pandas as pd

        found = [(edge, share) for edge, share in self.top(self.graph.n_edges) if share > 0]
        return pd.DataFrame(
            {
                "edge": [str(edge) for edge, _ in found],
                "frequency": [share for _, share in found],
                "p_value": [self.p_value[self.graph.index(edge)].item() for edge, _ in found],
            }
        )

    def __repr__(self) -> str:
        often = int(((self.frequency >= 0.5) & (self.p_value <= 0.05)).sum())
        return f"Patterns({self.n} circuits of {self.graph}: {often} edges in half of them or more, p <= .05)"


def patterns(circuits: Sequence[Circuit]) -> Patterns:
    """What recurs among circuits of one graph. Raises InputError for fewer than two."""
    if len(circuits) < 2:
        raise InputError(f"Expected two or more circuits to look for what recurs, got {len(circuits)}; add some.")
    graph = circuits[0].graph
    if any(circuit.graph != graph for circuit in circuits):
        raise MismatchError("Expected circuits of one graph; compare like with like.")
    counts = torch.stack([circuit.mask for circuit in circuits]).sum(0)
    by_chance = poisson_binomial_tail([circuit.n_edges / graph.n_edges for circuit in circuits])
    raw = torch.from_numpy(by_chance)[counts]
    corrected = torch.ones(graph.real.shape, dtype=torch.float64)
    corrected[graph.real] = torch.from_numpy(benjamini_hochberg(raw[graph.real].numpy()))
    return Patterns(graph, counts.double() / len(circuits), corrected, len(circuits))


def prompt_circuits(scores: EdgeScores, n_edges: int, *, selection: str = "top") -> list[Circuit]:
    """A circuit for each prompt by its own scores."""
    require_size(scores.graph, n_edges)
    rule = SELECTIONS[selection].function
    return [Circuit(scores.graph, rule(scores.graph, own.abs().cpu(), n_edges)) for own in scores.per_prompt]


def poisson_binomial_tail(shares: Sequence[float]) -> np.ndarray:
    """P(at least k of independent events of these probabilities), k = 0 ... n."""
    mass = np.ones(1)
    for share in shares:
        mass = np.convolve(mass, [1 - share, share])
    return np.clip(mass[::-1].cumsum()[::-1], 0.0, 1.0)


def benjamini_hochberg(p_values: np.ndarray) -> np.ndarray:
    """p-values adjusted to the false discovery rate."""
    order = np.argsort(p_values)
    scaled = p_values[order] * len(p_values) / np.arange(1, len(p_values) + 1)
    adjusted = np.minimum.accumulate(scaled[::-1])[::-1]
    found = np.empty_like(adjusted)
    found[order] = np.clip(adjusted, 0.0, 1.0)
    return found
