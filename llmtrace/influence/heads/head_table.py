"""`HeadTable`: a row for every head of a model, a column for every score."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from llmtrace.errors import InputError, MismatchError, NotFoundError, did_you_mean
from llmtrace.models import taken_from
from llmtrace.nodes import Head, place_of, read_node
from llmtrace.results import Result

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class HeadTable(Result):
    """`left_out`: scores that this model does not allow, each with the reason."""

    heads: tuple[Head, ...]
    columns: tuple[str, ...]
    values: Float[Tensor, "head score"]
    method: str
    provenance: Mapping[str, Any]
    options: Mapping[str, Any] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)

    def of(self, head: Head | str | tuple[int, int]) -> dict[str, float]:
        """One head's scores by name. Raises NotFoundError when it was not scored."""
        row = place_of((read_node(head),), [(h,) for h in self.heads], self.method)
        return dict(zip(self.columns, self.values[row].tolist(), strict=True))

    def column(self, name: str) -> Float[Tensor, " head"]:
        """One score of every head. Raises NotFoundError for a score that is not in the table."""
        if name not in self.columns:
            why = f" It was left out: {self.left_out[name]}" if name in self.left_out else ""
            raise NotFoundError(
                f"Expected a score of this table, one of {', '.join(self.columns)}; got {name!r}."
                + (why or did_you_mean(name, list(self.columns)))
            )
        return self.values[:, self.columns.index(name)]

    def top(self, name: str, k: int = 10) -> list[tuple[Head, float]]:
        """The `k` heads with the largest score, largest first."""
        if k < 1:
            raise InputError(f"Expected at least one head, got k={k}; say how many.")
        values = self.column(name)
        order = values.argsort(descending=True, stable=True)[:k].tolist()
        return [(self.heads[i], values[i].item()) for i in order]

    def __or__(self, other: HeadTable) -> HeadTable:
        """Both tables' columns side by side; they must be of the same heads of the same model."""
        if self.heads != other.heads or taken_from(self.provenance) != taken_from(other.provenance):
            raise MismatchError("Expected two tables of the same heads of one model; score them on the same model.")
        if both := set(self.columns) & set(other.columns):
            raise InputError(f"Expected tables with different scores, got {sorted(both)[0]!r} in both; join one.")
        return replace(
            self,
            columns=(*self.columns, *other.columns),
            values=torch.cat([self.values, other.values.to(self.values)], 1),
            method=f"{self.method} + {other.method}",
            options={**self.options, **other.options},
            left_out={**self.left_out, **other.left_out},
        )

    def df(self) -> pd.DataFrame:
        """One row per head: its label, layer and number, then a column for each score."""
        import pandas as pd

        names = {"head": [h.label for h in self.heads], "layer": [h.layer for h in self.heads],
                 "index": [h.head for h in self.heads]}  # fmt: skip
        return pd.DataFrame({**names, **dict(zip(self.columns, self.values.T.tolist(), strict=True))})

    def __repr__(self) -> str:
        best = [(name, *self.top(name, 1)[0]) for name in self.columns[:4]]
        leaders = ", ".join(f"{name} {head.label} {value:.2f}" for name, head, value in best)
        return f"HeadTable({len(self.heads)} heads, {len(self.columns)} scores; highest: {leaders})"

    def _repr_html_(self) -> str:
        return str(self.df().to_html(max_rows=16, float_format=lambda value: f"{value:.3f}"))
