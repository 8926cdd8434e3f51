"""The noun of the token methods: what each target position takes from each source position."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from llmtrace.influence.tokens.results.span_influence import (
    SpanInfluence,
    mean_by_span,
    require_rows,
    require_spans,
    sum_by_span,
)
from llmtrace.models import TraceModel, provenance, token_labels
from llmtrace.prompts.prompt_set import PromptSet
from llmtrace.prompts.spans import Spans
from llmtrace.results import Result

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class TokenInfluence(Result):
    """How much each target position takes from each source position. `rows_sum_to_one` says whether rows are shares.

    targets    the position of each row, per prompt; None: one row for every position
    per_layer  the steps that `values` puts together, where the method has them
    total      what a row sums to when nothing is missed, for methods that are complete
    fingerprints   of the prompts, so that spans of others are refused; None: nobody knows
    """

    values: Float[Tensor, "batch target source"]
    labels: tuple[tuple[str, ...], ...]
    method: str
    layer: int | None
    rows_sum_to_one: bool
    provenance: Mapping[str, Any]
    lengths: Int[Tensor, " batch"] | None = None  # real tokens per prompt; None: all
    targets: Int[Tensor, "batch target"] | None = None
    per_layer: Float[Tensor, "layer batch target source"] | None = None
    total: Float[Tensor, "batch target"] | None = None
    metric: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    fingerprints: Int[Tensor, " batch"] | None = None

    @classmethod
    def of(
        cls,
        model: TraceModel,
        prompts: PromptSet,
        values: Float[Tensor, "batch target source"],
        method: str,
        *,
        layer: int | None = None,
        rows_sum_to_one: bool = False,
        targets: Int[Tensor, "batch target"] | None = None,
        per_layer: Float[Tensor, "layer batch target source"] | None = None,
        total: Float[Tensor, "batch target"] | None = None,
        metric: str | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> TokenInfluence:
        """What a method found on these prompts, with what every result carries: tokens, lengths and provenance."""
        return cls(
            values=values, labels=token_labels(model, prompts.clean), method=method, layer=layer,
            rows_sum_to_one=rows_sum_to_one, provenance=provenance(model).as_dict(), lengths=prompts.lengths,
            targets=targets, per_layer=per_layer, total=total, metric=metric, options=options or {},
            fingerprints=prompts.fingerprints,
        )  # fmt: skip

    @property
    def gap(self) -> Float[Tensor, "batch target"] | None:
        """What each row misses of the total, or of 1 where rows are shares: the method's own completeness check."""
        if self.total is None:
            return 1 - self.values.sum(-1) if self.rows_sum_to_one else None
        return self.total - self.values.sum(-1)

    @property
    def missed(self) -> float | None:
        """The gap as a share of the total: the sum of its sizes over that of the total's, all rows together."""
        if (gap := self.gap) is None:
            return None
        whole = torch.ones_like(gap) if self.total is None else self.total
        return (gap.abs().sum() / whole.abs().sum()).item()

    def rows(self, prompt: int) -> list[tuple[int, list[float]]]:
        """(target position, one value for each position up to it) of a prompt, without padding."""
        n = len(self.labels[prompt]) if self.lengths is None else int(self.lengths[prompt])
        at = range(n) if self.targets is None else self.targets[prompt].tolist()
        return [(t, row[: t + 1]) for t, row in zip(at, self.values[prompt].tolist(), strict=False)]

    def df(self) -> pd.DataFrame:
        """One row per prompt, target and source up to it; padding has none."""
        import pandas as pd

        rows = [
            (prompt, target, labels[target], source, labels[source], value)
            for prompt, labels in enumerate(self.labels)
            for target, by_source in self.rows(prompt)
            for source, value in enumerate(by_source)
        ]
        return pd.DataFrame(rows, columns=["prompt", "target", "target_token", "source", "source_token", "value"])

    def by_span(self, spans: Spans, *, rows: str = "tokens") -> SpanInfluence:
        """What each target takes from each span. Raises MismatchError for spans of other prompts.

        rows   "tokens": a row for each target token; "spans": the mean over the target tokens of each span
        """
        require_rows(rows)
        require_spans(spans)
        batch, _, width = self.values.shape
        spans.require_fit(batch, width)
        spans.require_same(self.fingerprints)
        values, total = sum_by_span(self.values, spans), self.total
        at = torch.arange(width).expand(batch, -1) if self.targets is None else self.targets
        pairs = zip(self.labels, at.tolist(), strict=True)
        names = tuple(tuple(f"{labels[t]} ({t})" for t in row) for labels, row in pairs)
        real = spans.of.gather(1, at.to(spans.of.device)) >= 0
        if rows == "spans":
            values = mean_by_span(values, at, spans)
            total = None if total is None else mean_by_span(total, at, spans)
            names = (spans.names,) * batch
        else:
            values = values.masked_fill(~real.to(values.device)[..., None], torch.nan)
        return SpanInfluence(
            values=values, rows=names, names=spans.names, sizes=spans.sizes, method=self.method, metric=self.metric,
            rows_sum_to_one=self.rows_sum_to_one, provenance=self.provenance, total=total,
            options={**self.options, "rows": rows}, fingerprints=self.fingerprints,
        )  # fmt: skip

    def __repr__(self) -> str:
        where = "all layers" if self.layer is None else f"layer {self.layer}"
        of = "" if self.metric is None else f" of {self.metric}"
        prompts, targets, sources = self.values.shape
        rows = "" if self.targets is None else f"{targets} of "
        missed = "" if (share := self.missed) is None or share < 5e-4 else f"; rows miss {share:.1%} of the total"
        return f"TokenInfluence({self.method}{of}, {where}: {prompts} prompts x {rows}{sources} tokens{missed})"
