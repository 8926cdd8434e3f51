"""`Effects`: the metric before and after each intervention, per prompt."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from jaxtyping import Float
from torch import Tensor

from llmtrace.errors import InputError
from llmtrace.nodes import Node, place_of
from llmtrace.statistics import bootstrap_interval

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class Effects:
    """One intervention per entry of `nodes` (each entry: the nodes changed together).

    before      the metric on the clean run
    after       the metric with the intervention
    corrupted   the metric on the corrupted run, where there is one: what a full patch would give
    passes      forward passes of the model that this cost, in full passes over the prompts
    """

    nodes: tuple[tuple[Node, ...], ...]
    before: Float[Tensor, " batch"]
    after: Float[Tensor, "node batch"]
    corrupted: Float[Tensor, " batch"] | None
    method: str
    metric: str
    provenance: Mapping[str, Any]
    passes: float
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(" + ".join(node.label for node in together) for together in self.nodes)

    @property
    def change(self) -> Float[Tensor, "node batch"]:
        """after - before: negative where the node was carrying the metric."""
        return self.after - self.before

    def mean(self) -> Float[Tensor, " node"]:
        """Mean change over prompts."""
        return self.change.mean(1)

    def of(self, *nodes: Node) -> Float[Tensor, " batch"]:
        """The change of one intervention. Raises NotFoundError when it was not made."""
        return self.change[place_of(nodes, self.nodes, self.method)]

    def normalised(self) -> Float[Tensor, " node"]:
        """Mean change as a share of the whole way from the clean to the corrupted run: 0 nothing, 1 all of it.

        Raises InputError when there is no corrupted run or both runs give the same mean.
        """
        if self.corrupted is None:
            raise InputError(f"{self.method} has no corrupted run to normalise by; read .mean() instead.")
        whole = (self.corrupted - self.before).mean()
        if whole.abs() <= 1e-6 * max(1e-12, self.before.abs().mean().item()):
            raise InputError(
                "Clean and corrupted runs give the same metric, so no share of the way can be stated; "
                "read .mean(), or choose another corruption."
            )
        return self.mean() / whole

    def interval(self, *, level: float = 0.95, seed: int = 0) -> tuple[Float[Tensor, " node"], Float[Tensor, " node"]]:
        """Bootstrap interval of the mean change over prompts: (low, high)."""
        return bootstrap_interval(self.change, level=level, seed=seed)

    def top(self, k: int = 10) -> list[tuple[tuple[Node, ...], float]]:
        """The `k` largest mean changes by magnitude."""
        means = self.mean().tolist()
        ranked = sorted(range(len(means)), key=lambda i: -abs(means[i]))[:k]
        return [(self.nodes[i], means[i]) for i in ranked]

    def df(self) -> pd.DataFrame:
        """One row per intervention: metric before and after, change, its interval, and its share where defined."""
        import pandas as pd

        low, high = self.interval()
        table = {
            "node": self.labels,
            "layer": [getattr(together[0], "layer", None) for together in self.nodes],
            "before": self.before.mean().item(),
            "after": self.after.mean(1).tolist(),
            "change": self.mean().tolist(),
            "low": low.tolist(),
            "high": high.tolist(),
        }
        with suppress(InputError):  # no corrupted run, or one that gives the same metric: there is no share to state
            table["share"] = self.normalised().tolist()
        return pd.DataFrame(table)

    def __repr__(self) -> str:
        leaders = ", ".join(
            f"{' + '.join(node.label for node in together)} {value:+.3g}" for together, value in self.top(3)
        )
        return (
            f"Effects({self.method} on {self.metric}: {len(self.nodes)} interventions, {len(self.before)} prompts, "
            f"before {self.before.mean().item():.3g}; {leaders})"
        )

    def _repr_html_(self) -> str:
        return str(self.df().to_html(max_rows=12))
