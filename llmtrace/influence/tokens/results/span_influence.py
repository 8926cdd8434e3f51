"""What targets take from named stretches of tokens ("the instruction", "the document"): sums over sources.

    value[target, span] = sum over the tokens j of the span of value[target, j]

Every token is in one span, so a row adds up to what it added up to before: shares stay shares, a gap stays a gap.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from einops import einsum
from jaxtyping import Float, Int
from torch import Tensor

from llmtrace.errors import InputError, require_one_of
from llmtrace.prompts.spans import Spans
from llmtrace.results import Result

if TYPE_CHECKING:
    import pandas as pd

ROWS = ("tokens", "spans")


@dataclass(frozen=True, eq=False)
class SpanInfluence(Result):
    """What each row (a target token, or the mean of a span's target tokens) takes from each span.

    rows    names of the rows, per prompt
    sizes   tokens of each span; a span that a prompt does not have has size 0 and values 0
    """

    values: Float[Tensor, "batch row span"]  # NaN: a row that the prompt does not have
    rows: tuple[tuple[str, ...], ...]
    names: tuple[str, ...]
    sizes: Int[Tensor, "batch span"]
    method: str
    rows_sum_to_one: bool
    provenance: Mapping[str, Any]
    total: Float[Tensor, "batch row"] | None = None
    metric: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    fingerprints: Int[Tensor, " batch"] | None = None  # of the prompts; None: nobody knows

    @property
    def gap(self) -> Float[Tensor, "batch row"] | None:
        """What each row misses of the total."""
        return None if self.total is None else self.total - self.values.sum(-1)

    def of(self, name: str) -> Float[Tensor, "batch row"]:
        """What comes from one span. Raises NotFoundError for an unknown one."""
        return self.values[:, :, Spans(self.names, torch.empty(0, 0, dtype=torch.long)).index(name)]

    def df(self) -> pd.DataFrame:
        """One row per prompt, target and span that the prompt has; `tokens` is the span's size."""
        import pandas as pd

        sizes, names = self.sizes.tolist(), self.names
        rows = [
            (prompt, target, names[span], sizes[prompt][span], value)
            for prompt, targets in enumerate(self.rows)
            for target, by_span in zip(targets, self.values[prompt].tolist(), strict=True)
            for span, value in enumerate(by_span)
            if value == value and sizes[prompt][span]
        ]
        return pd.DataFrame(rows, columns=["prompt", "target", "span", "tokens", "value"])

    def __repr__(self) -> str:
        of = "" if self.metric is None else f" of {self.metric}"
        prompts, rows, _ = self.values.shape
        last = ", ".join(
            f"{n} {v:+.3g}" for n, v in zip(self.names, self.values.nanmean((0, 1)).tolist(), strict=True) if v == v
        )
        return f"SpanInfluence({self.method}{of}: {prompts} prompts x {rows} rows; mean {last})"


def sum_by_span(values: Float[Tensor, "batch target source"], spans: Spans) -> Float[Tensor, "batch target span"]:
    """Sums over the sources of each span; padding is in none."""
    members = spans.members.to(values)
    return einsum(values, members, "batch target source, batch span source -> batch target span")


def mean_by_span(
    values: Float[Tensor, "batch target *d"], targets: Int[Tensor, "batch target"], spans: Spans
) -> Float[Tensor, "batch span *d"]:
    """Means over the targets that stand in each span; NaN for a span without one."""
    inside = spans.of.gather(1, targets.to(spans.of.device).clamp(max=spans.of.shape[1] - 1))
    member = (inside[:, None] == torch.arange(len(spans.names))[:, None]).to(values)  # batch span target
    count = member.sum(-1)
    sums = einsum(values.flatten(2) if values.ndim > 2 else values[..., None], member, "b t d, b s t -> b s d")
    means = sums / count.masked_fill(count == 0, torch.nan)[..., None]
    return means if values.ndim > 2 else means[..., 0]


def require_spans(spans: object) -> None:
    if not isinstance(spans, Spans):
        raise InputError(
            f"Expected Spans, got {type(spans).__name__}; make them with Spans.of_text(model, prompts, {{name: text}})."
        )


def require_rows(rows: str) -> None:
    require_one_of("rows", ROWS, rows)
