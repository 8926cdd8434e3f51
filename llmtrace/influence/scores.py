"""The nouns of this room: scores with labelled axes, their method and options, and their completeness gap."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from llmtrace.influence.span_influence import SpanInfluence, mean_by_span, require_rows, sum_by_span
from llmtrace.nodes import Bias, Node, place_of
from llmtrace.prompts.spans import Spans

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class NodeScores:
    """One number per node and prompt. Where the method is a decomposition, `total` is what the scores sum to."""

    nodes: tuple[Node, ...]
    values: Float[Tensor, "node batch"]
    total: Float[Tensor, " batch"] | None
    method: str
    metric: str
    provenance: Mapping[str, Any]
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def gap(self) -> Float[Tensor, " batch"] | None:
        """What the scores miss of the metric, per prompt: the method's own completeness check."""
        return None if self.total is None else self.total - self.values.sum(0)

    def mean(self) -> Float[Tensor, " node"]:
        return self.values.mean(1)

    def of(self, node: Node) -> Float[Tensor, " batch"]:
        """One node's score per prompt. Raises NotFoundError when it was not scored."""
        return self.values[place_of((node,), [(n,) for n in self.nodes], self.method)]

    def top(self, k: int = 10) -> list[tuple[Node, float]]:
        """The `k` nodes of largest mean magnitude, biases left out, largest first."""
        means = self.mean().tolist()
        ranked = sorted(range(len(means)), key=lambda i: -abs(means[i]))
        return [(self.nodes[i], means[i]) for i in ranked if not isinstance(self.nodes[i], Bias)][:k]

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

    def _repr_html_(self) -> str:
        return str(self.df().to_html(max_rows=12))


@dataclass(frozen=True, eq=False)
class SourceScores:
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


@dataclass(frozen=True, eq=False)
class TokenInfluence:
    """How much each target position takes from each source position. `rows_sum_to_one` says whether rows are shares.

    targets    the position of each row, per prompt; None: one row for every position
    per_layer  the steps that `values` puts together, where the method has them
    total      what a row sums to when nothing is missed, for methods that are complete
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

    @property
    def gap(self) -> Float[Tensor, "batch target"] | None:
        """What each row misses of the total: the method's own completeness check."""
        return None if self.total is None else self.total - self.values.sum(-1)

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
        batch, _, width = self.values.shape
        spans.require_fit(batch, width)
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
            options={**self.options, "rows": rows},
        )  # fmt: skip

    def __repr__(self) -> str:
        where = "all layers" if self.layer is None else f"layer {self.layer}"
        of = "" if self.metric is None else f" of {self.metric}"
        prompts, targets, sources = self.values.shape
        rows = "" if self.targets is None else f"{targets} of "
        return f"TokenInfluence({self.method}{of}, {where}: {prompts} prompts x {rows}{sources} tokens)"


@dataclass(frozen=True, eq=False)
class LensScores:
    """The metric as the residual stream of each stage would give it, and the token it would predict."""

    stages: tuple[str, ...]
    values: Float[Tensor, "stage batch"]
    top_tokens: tuple[tuple[str, ...], ...]  # stage, prompt
    top_probability: Float[Tensor, "stage batch"]
    metric: str
    provenance: Mapping[str, Any]

    def df(self) -> pd.DataFrame:
        """One row per stage and prompt."""
        import pandas as pd

        rows = [
            (stage, prompt, value, self.top_tokens[i][prompt], self.top_probability[i, prompt].item())
            for i, stage in enumerate(self.stages)
            for prompt, value in enumerate(self.values[i].tolist())
        ]
        return pd.DataFrame(rows, columns=["stage", "prompt", self.metric, "top_token", "probability"])

    def __repr__(self) -> str:
        return f"LensScores({self.metric}: {len(self.stages)} stages, {self.values.shape[1]} prompts)"
