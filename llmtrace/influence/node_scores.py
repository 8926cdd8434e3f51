"""The nouns of nodes: scores with labelled axes, their method and options, and their completeness gap."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from jaxtyping import Float, Int
from torch import Tensor

from llmtrace.nodes import Node, place_of, read_node
from llmtrace.results import Result

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class NodeScores(Result):
    """One number per node and prompt. Where the method is a decomposition, `total` is what the scores sum to.

    fingerprints   of the prompts (`PromptSet.fingerprints`); None: nobody knows
    """

    nodes: tuple[Node, ...]
    values: Float[Tensor, "node batch"]
    total: Float[Tensor, " batch"] | None
    method: str
    metric: str
    provenance: Mapping[str, Any]
    options: Mapping[str, Any] = field(default_factory=dict)
    fingerprints: Int[Tensor, " batch"] | None = None

    @property
    def gap(self) -> Float[Tensor, " batch"] | None:
        """What the scores miss of the metric, per prompt: the method's own completeness check."""
        return None if self.total is None else self.total - self.values.sum(0)

    def mean(self) -> Float[Tensor, " node"]:
        return self.values.mean(1)

    def of(self, node: Node | str) -> Float[Tensor, " batch"]:
        """One node's score per prompt, "3.2" or "m1". Raises NotFoundError when it was not scored."""
        return self.values[place_of((read_node(node),), [(n,) for n in self.nodes], self.method)]

    def top(self, k: int = 10) -> list[tuple[Node, float]]:
        """The `k` nodes of largest mean magnitude, biases left out, largest first."""
        means = self.mean().tolist()
        ranked = sorted(range(len(means)), key=lambda i: -abs(means[i]))
        return [(self.nodes[i], means[i]) for i in ranked if not self.nodes[i].constant][:k]

    def df(self) -> pd.DataFrame:
        """One row per node: label, kind, layer, mean, standard deviation over prompts."""
        import pandas as pd

        spread = self.values.std(1, correction=0)
        return pd.DataFrame(
            {
                "node": [node.label for node in self.nodes],
                "kind": [type(node).__name__ for node in self.nodes],
                "layer": [getattr(node, "layer", None) for node in self.nodes],
                "mean": self.mean().tolist(),
                "std": spread.tolist(),
            }
        )

    def __repr__(self) -> str:
        leaders = ", ".join(f"{node.label} {value:+.3g}" for node, value in self.top(3))
        size = f"{len(self.nodes)} nodes, {self.values.shape[1]} prompts"
        return f"NodeScores({self.method} of {self.metric}: {size}; {leaders})"


@dataclass(frozen=True, eq=False)
class SourceScores(Result):
    """One number per head, prompt and source token: how much of the head's score came from attending there."""

    nodes: tuple[Node, ...]
    values: Float[Tensor, "node batch source"]
    labels: tuple[tuple[str, ...], ...]
    method: str
    metric: str
    provenance: Mapping[str, Any]

    def df(self) -> pd.DataFrame:
        """One row per head, prompt and source token."""
        import pandas as pd

        rows = [
            (node.label, prompt, position, text, value)
            for node, by_prompt in zip(self.nodes, self.values.tolist(), strict=True)
            for prompt, by_source in enumerate(by_prompt)
            for position, (text, value) in enumerate(zip(self.labels[prompt], by_source, strict=True))
        ]
        return pd.DataFrame(rows, columns=["node", "prompt", "position", "token", "value"])

    def __repr__(self) -> str:
        heads, prompts, sources = self.values.shape
        return (
            f"SourceScores({self.method} of {self.metric}: {heads} heads, {prompts} prompts, {sources} source tokens)"
        )
