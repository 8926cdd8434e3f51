"""`EdgeScores`: one number per edge, kept per prompt, with the method and what it cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from jaxtyping import Float, Int
from torch import Tensor

from llmtrace.circuits.graph import Graph
from llmtrace.influence import NodeScores
from llmtrace.methods import with_conventions
from llmtrace.nodes import Edge
from llmtrace.results import Result

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class EdgeScores(Result):
    """`values` is zero where the graph has no edge. A score of edge u->v estimates m(edge patched) - m(clean)."""

    graph: Graph
    per_prompt: Float[Tensor, "batch node port"]
    method: str
    metric: str
    provenance: Mapping[str, Any]
    passes: str
    options: Mapping[str, Any] = field(default_factory=dict)
    seconds: float | None = None  # that it took, where it was measured
    fingerprints: Int[Tensor, " batch"] | None = None  # of the prompts; None: nobody knows
    higher_is_better: bool = True  # of the metric: False for distances

    @property
    def values(self) -> Float[Tensor, "node port"]:
        """Mean over prompts: it does not depend on how prompts were batched."""
        return self.per_prompt.mean(0)

    def without_spans(self) -> EdgeScores:
        """Summed over the spans of a graph with spans: for first-order scores those of the graph without."""
        return replace(self, graph=self.graph.without_spans, per_prompt=self.graph.merged(self.per_prompt))

    def without_neurons(self) -> EdgeScores:
        """Summed over the neurons and the rest of each MLP: for first-order scores those of the graph without."""
        return replace(self, graph=self.graph.without_neurons, per_prompt=self.graph.in_mlps(self.per_prompt))

    def by_node(self) -> NodeScores:
        """The edges out of each node added up: for EAP the attribution patching of the node (law 29)."""
        return NodeScores(
            nodes=self.graph.nodes, values=self.per_prompt.sum(2).T, total=None, method=f"{self.method} by node",
            metric=self.metric, provenance=self.provenance, options=self.options, fingerprints=self.fingerprints,
        )  # fmt: skip

    @property
    def told(self) -> str:
        """The method with its conventions, by which its numbers differ."""
        return with_conventions(self.method, self.options, ("direction", "ablation"))

    def of(self, edge: Edge | str) -> Float[Tensor, " batch"]:
        """One edge's score per prompt. Raises InputError when the graph has no such edge."""
        row, column = self.graph.index(edge)
        return self.per_prompt[:, row, column]

    def top(self, k: int = 10) -> list[tuple[Edge, float]]:
        """The `k` edges of largest mean magnitude; ties in the order of the graph."""
        rows, columns = self.graph.real.nonzero(as_tuple=True)
        values = self.values.cpu()[rows, columns]
        order = values.abs().argsort(descending=True, stable=True)[:k].tolist()
        return [(Edge(self.graph.nodes[rows[i]], self.graph.ports[columns[i]]), values[i].item()) for i in order]

    def df(self) -> pd.DataFrame:
        """One row per edge, largest magnitude first."""
        import pandas as pd

        ranked = self.top(self.graph.n_edges)
        return pd.DataFrame({"edge": [str(edge) for edge, _ in ranked], "score": [score for _, score in ranked]})

    def __repr__(self) -> str:
        leaders = ", ".join(f"{edge} {score:+.3g}" for edge, score in self.top(2))
        return f"EdgeScores({self.told} of {self.metric}: {self.graph.n_edges:,} edges; {leaders})"
