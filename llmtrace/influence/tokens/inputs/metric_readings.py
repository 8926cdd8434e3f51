"""Where a metric is read of a run: one place per prompt as a rule, several places of one run during generation.

A causal model computes every position in one pass, so whatever explains n generated tokens needs one run, not n.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from llmtrace.metrics import Metric
from llmtrace.models import TraceModel


@dataclass(frozen=True, eq=False)
class Readings:
    """Reading e stands in row `row[e]` of a run, at `metric.positions[e]`."""

    metric: Metric
    row: Int[Tensor, " reading"]

    @classmethod
    def one_per_prompt(cls, metric: Metric) -> Readings:
        return cls(metric, torch.arange(len(metric)))

    @property
    def positions(self) -> Int[Tensor, " reading"]:
        return self.metric.positions.cpu()

    def __getitem__(self, index: Tensor | slice) -> Readings:
        return Readings(self.metric[index], self.row[index])

    def within(self, rows: slice, n_rows: int) -> tuple[Int[Tensor, " some"], Readings]:
        """Which readings stand in these rows, and they, their rows counted from the first of these."""
        first, last, _ = rows.indices(n_rows)
        chosen = ((self.row >= first) & (self.row < last)).nonzero()[:, 0]
        return chosen, Readings(self.metric[chosen], self.row[chosen] - first)

    def here(self, values: Float[Tensor, "*lead batch pos d"]) -> Float[Tensor, "*lead reading d"]:
        """What stands at each reading."""
        return values[..., self.row.to(values.device), self.positions.to(values.device), :]

    def value(self, model: TraceModel, final: Float[Tensor, "*lead batch pos d"]) -> Float[Tensor, "*lead reading"]:
        """The metric of each reading, from final residual streams."""
        return self.metric.of_residual(model, self.here(final))

    @property
    def turns(self) -> list[Int[Tensor, " _"]]:
        """The readings, split so that no two of a turn stand in one row: one backward pass serves a turn."""
        turns: list[list[int]] = []
        seen: Counter[int] = Counter()
        for reading, row in enumerate(self.row.tolist()):
            if seen[row] == len(turns):
                turns.append([])
            turns[seen[row]].append(reading)
            seen[row] += 1
        return [torch.tensor(turn) for turn in turns]


def in_order(
    parts: Sequence[tuple[Int[Tensor, " _"], Float[Tensor, "_ source"], Float[Tensor, " _"]]],
) -> tuple[Float[Tensor, "reading source"], Float[Tensor, " reading"]]:
    """Scores and totals of all readings, put together from those of each batch and which readings they are."""
    which, scores, totals = (torch.cat(column) for column in zip(*parts, strict=True))
    order = which.argsort()
    return scores[order], totals[order]
