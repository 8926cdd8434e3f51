"""The noun of generation: what each generated token takes from every token before it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from jaxtyping import Float, Int
from torch import Tensor

from llmtrace.influence.tokens.results.span_influence import SpanInfluence, require_rows
from llmtrace.influence.tokens.results.token_influence import TokenInfluence
from llmtrace.prompts import PromptSet
from llmtrace.prompts.spans import Spans
from llmtrace.results import Result

if TYPE_CHECKING:
    import pandas as pd

GENERATED = "generated"  # the span of what was generated


@dataclass(frozen=True, eq=False)
class GenerationInfluence(Result):
    """Row t of `influence` explains token `chosen[t]`; its target is the position before, where it was predicted.

    probability   of each chosen token
    against       what it was compared with; empty where with nothing
    spans         of the prompt, and "generated"
    text          what was generated, as a whole
    prompts       one for each generated token: what stood before it, and the answer that it was
    steps         the same scores as those of `prompts`, so that `validate` can hold them against intervening
    """

    influence: TokenInfluence
    chosen: tuple[str, ...]
    tokens: Int[Tensor, " target"]
    probability: Float[Tensor, " target"]
    against: tuple[str, ...]
    spans: Spans
    text: str
    prompts: PromptSet
    steps: TokenInfluence

    @property
    def values(self) -> Float[Tensor, "target source"]:
        return self.influence.values[0]

    @property
    def labels(self) -> tuple[str, ...]:
        """Prompt and generated tokens, but for the last, which nothing follows."""
        return self.influence.labels[0]

    @property
    def provenance(self) -> Mapping[str, Any]:
        return self.influence.provenance

    @property
    def method(self) -> str:
        return self.influence.method

    @property
    def metric(self) -> str | None:
        return self.influence.metric

    def by_span(self, spans: Spans | None = None, *, rows: str = "tokens") -> SpanInfluence:
        """A column for each span. `rows`: "tokens", one for each generated token; "spans", their mean as one row, for
        what is explained is the generated text alone."""
        require_rows(rows)
        found = self.influence.by_span(self.spans if spans is None else spans)
        if rows == "tokens":
            return replace(found, rows=(tuple(f"{token} ({i})" for i, token in enumerate(self.chosen)),))
        total = None if found.total is None else found.total.mean(1, keepdim=True)
        return replace(
            found, values=found.values.mean(1, keepdim=True), total=total, rows=((GENERATED,),),
            options={**found.options, "rows": rows},
        )  # fmt: skip

    def df(self) -> pd.DataFrame:
        """One row per generated token and source up to where it was predicted."""
        import pandas as pd

        of, names = self.spans.of[0].tolist(), self.spans.names
        rows = [
            (t, self.chosen[t], self.probability[t].item(), self.against[t], j, self.labels[j], names[of[j]], value)
            for t, (_, by_source) in enumerate(self.influence.rows(0))
            for j, value in enumerate(by_source)
        ]
        columns = ["step", "token", "probability", "against", "source", "source_token", "span", "value"]
        return pd.DataFrame(rows, columns=columns)

    def __repr__(self) -> str:
        n, width = self.values.shape
        return f"GenerationInfluence({self.method}: {n} tokens from {width - n + 1}, {self.text[:40]!r})"
