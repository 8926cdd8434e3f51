"""Logit lens: what each stage of the residual stream would predict if the model stopped there.

    metric(unembed(final_norm(resid_l)))

Source: nostalgebraist 2020. Cost: one forward pass and one unembedding per stage. Law: the last stage is the model's
own output (law 7). Sign: positive speaks for the answer, as the metric does.
Known failure: early layers may keep their content in a basis that the unembedding cannot read.

    >>> lens = lt.influence.logit_lens(model, prompts)
    >>> [round(value, 2) for value in lens.values.mean(1)[-3:].tolist()]
    [1.38, 3.86, 8.72]
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from llmtrace.influence.stages import stream_stages
from llmtrace.metrics import MetricLike
from llmtrace.models import TraceModel, describe, provenance, token_labels, unembed
from llmtrace.prompts import PromptSet, metric_of
from llmtrace.results import Result
from llmtrace.signals import capture

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class LensScores(Result):
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
        return pd.DataFrame(rows, columns=["stage", "prompt", self.metric, "top_token", "top_probability"])

    def __repr__(self) -> str:
        return f"LensScores({self.metric}: {len(self.stages)} stages, {self.values.shape[1]} prompts)"


@torch.no_grad()
def logit_lens(model: TraceModel, prompts: PromptSet, *, metric: MetricLike | None = None) -> LensScores:
    """The metric, and the top token with its probability, before each layer and after the last.

    Also between attention and MLP where the architecture has that point. Any metric of one position serves.
    """
    metric = metric_of(model, prompts, metric)
    stages = stream_stages(describe(model))
    trace = capture(model, prompts, what=tuple(stages.values()), positions=metric.positions[:, None])
    values, probabilities, tokens = [], [], []
    for name in stages.values():
        logits = unembed(model, trace[name][:, 0])
        values.append(
            metric.of_rows(logits if metric.tokens is None else logits.gather(-1, metric.tokens.to(logits.device)))
        )
        best = logits.softmax(-1).max(-1)
        probabilities.append(best.values)
        tokens.append(token_labels(model, best.indices[:, None]))
    return LensScores(
        stages=tuple(stages),
        values=torch.stack(values),
        top_tokens=tuple(tuple(row[0] for row in stage) for stage in tokens),
        top_probability=torch.stack(probabilities),
        metric=metric.name,
        provenance=provenance(model).as_dict(),
    )
