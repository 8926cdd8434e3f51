"""The residual stream from stage to stage: how long it is, how far it turns, which stage made what it is in the end.

    norm      ||x_s||
    step      ||x_s - x_(s-1)||, what attention or an MLP added (the first: the embedding itself)
    cosine    cos(x_s, x_(s-1))
    share     <x_s - x_(s-1), x_final> / ||x_final||^2: shares of all stages sum to 1
    direct    the same differences through the frozen final norm, along a metric: they sum to it, less its constant

Source: Elhage et al. 2021 (the stream as a sum). Sign: of `share`, positive points along the final stream; of `direct`,
positive raises the metric. Cost: one forward pass; memory stages x batch x positions x d_model. Steps are what the
stream receives, so models that norm their blocks' outputs are read like any other.
Known failure: length is not importance; a long vector may point where nobody reads.

    >>> lt.influence.residual_stream(model, prompts)
    StreamScores(9 stages at END: norm 1.5 to 25.5)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from einops import einsum
from jaxtyping import Float
from torch import Tensor

from llmtrace.errors import NotFoundError
from llmtrace.influence.direct_logit_attribution import logit_direction
from llmtrace.influence.stages import stream_stages
from llmtrace.metrics import Metric
from llmtrace.models import TraceModel, describe, final_norm, provenance
from llmtrace.models.memory import Memory
from llmtrace.prompts import PromptSet, as_prompts, metric_of
from llmtrace.prompts.choice import Choice
from llmtrace.results import Result
from llmtrace.signals import capture

if TYPE_CHECKING:
    import pandas as pd

MEASURES = ("norm", "step", "cosine", "share")


@dataclass(frozen=True, eq=False)
class StreamScores(Result):
    """The measures at one position of each prompt, a row for each stage. `direct` only where a metric was asked for."""

    stages: tuple[str, ...]
    added_by: tuple[str, ...]  # what came in between a stage and the one before
    norm: Float[Tensor, "stage batch"]
    step: Float[Tensor, "stage batch"]
    cosine: Float[Tensor, "stage batch"]  # of the first stage 1: it is compared with itself
    share: Float[Tensor, "stage batch"]
    direct: Float[Tensor, "stage batch"] | None
    metric: str | None
    position: str
    provenance: Mapping[str, Any]

    def of(self, measure: str) -> Float[Tensor, "stage batch"]:
        found = getattr(self, measure, None) if measure in (*MEASURES, "direct") else None
        if found is None:
            known = ", ".join(MEASURES) + ("" if self.direct is None else ", direct")
            raise NotFoundError(f"Expected one of {known}, got {measure!r}; 'direct' needs metric= in residual_stream.")
        return found

    def df(self) -> pd.DataFrame:
        """One row per stage: means over prompts."""
        import pandas as pd

        measures = [*MEASURES, *([] if self.direct is None else ["direct"])]
        means = {measure: self.of(measure).mean(1).tolist() for measure in measures}
        return pd.DataFrame({"stage": self.stages, "added_by": self.added_by, **means})

    def __repr__(self) -> str:
        first, last = self.norm[0].mean().item(), self.norm[-1].mean().item()
        return f"StreamScores({len(self.stages)} stages at {self.position}: norm {first:.3g} to {last:.3g})"


@torch.no_grad()
def residual_stream(
    model: TraceModel,
    prompts: PromptSet | str | Sequence[str],
    *,
    position: Choice = "END",
    metric: str | Metric | None = None,
    memory: Memory = "auto",
) -> StreamScores:
    """Every stage at `position`. `metric`: a linear one ("logit_diff") adds `direct`, read at the metric's position."""
    prompts = as_prompts(model, prompts)
    stages = stream_stages(describe(model))
    (position,), at = prompts.chosen(position), prompts.position(position)[:, None]
    trace = capture(model, prompts, what=tuple(stages.values()), positions=at, memory=memory)
    stream = torch.stack([trace[name][:, 0] for name in stages.values()])
    added = steps(stream)
    final = stream[-1]
    direct, name = None, None
    if metric is not None:
        bound = metric_of(model, prompts, metric)
        direct, name = _direct(model, bound, stages, prompts, added, at, memory), bound.name
    return StreamScores(
        stages=tuple(stages), added_by=_added_by(tuple(stages)),
        norm=stream.norm(dim=-1), step=added.norm(dim=-1),
        cosine=torch.cosine_similarity(stream, torch.cat([stream[:1], stream[:-1]]), dim=-1),
        share=einsum(added, final, "stage batch d_model, batch d_model -> stage batch") / final.square().sum(-1),
        direct=direct, metric=name, position=str(position), provenance=provenance(model).as_dict(),
    )  # fmt: skip


def steps(stream: Float[Tensor, "stage batch d_model"]) -> Float[Tensor, "stage batch d_model"]:
    """What came in before each stage; the first is the embedding."""
    return torch.cat([stream[:1], stream.diff(dim=0)])


def _direct(
    model: TraceModel,
    metric: Metric,
    stages: Mapping[str, str],
    prompts: PromptSet,
    added: Float[Tensor, "stage batch d_model"],
    at: Tensor,
    memory: Memory,
) -> Float[Tensor, "stage batch"]:
    direction = logit_direction(model, metric)
    if not torch.equal(metric.positions.cpu(), at[:, 0].cpu()):
        where = metric.positions[:, None]
        trace = capture(model, prompts, what=tuple(stages.values()), positions=where, memory=memory)
        added = steps(torch.stack([trace[name][:, 0] for name in stages.values()]))
    norm = final_norm(model)
    seen = norm.frozen_transpose(direction, norm.scale(added.sum(0)))
    return einsum(added, seen, "stage batch d_model, batch d_model -> stage batch")


def _added_by(stages: tuple[str, ...]) -> tuple[str, ...]:
    """Stage `1_pre` follows an MLP where there is a `0_mid`, else the whole layer 0."""
    found = ["embedding"]
    for before, stage in pairwise(stages):
        layer, _, kind = before.partition("_")
        whole = kind == "pre" and not stage.endswith("_mid")
        found.append(f"layer {layer}" if whole else f"MLP {layer}" if kind == "mid" else f"attention {layer}")
    return tuple(found)
