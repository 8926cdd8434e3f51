"""A direction of the residual stream: from the mean of one class to the mean of the other.

    u = mean over True of x - mean over False of x,      x: what leaves a layer, at the last token
    value = x . u / |u|

Source: Arditi et al. 2024 (refusal), Marks & Tegmark 2024. Cost: none beyond the shared pass.
Sign: larger = nearer to where the model did what is watched for.
Known failure: the direction between two classes of prompts is also that of whatever else differs between them (length,
topic); only intervening along it tells. Blind to what is not linear, and to other positions than the last.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

from llmtrace.audit.evidence.lever import Direction, Lever
from llmtrace.audit.labelled import LabelledPrompts
from llmtrace.audit.layers import best_layer, between, streams
from llmtrace.audit.seen import Place, Seen
from llmtrace.audit.watch import Watch
from llmtrace.models import TraceModel, provenance


@dataclass(frozen=True, eq=False)
class StreamDirection(Watch):
    """value = x . weight + bias at `layer`; `way`: from one class to the other along the direction."""

    layer: int
    weight: Float[Tensor, " d_model"]
    bias: float
    way: Float[Tensor, " d_model"]

    def places(self) -> tuple[Place, ...]:
        return (("resid_post", self.layer),)

    def value(self, seen: Seen) -> Float[Tensor, " batch"]:
        x = seen.stream(self.layer)
        return x @ self.weight.to(x) + self.bias

    def lever(self) -> Lever:
        return Direction(self.layer, self.way)

    def evidence(self) -> dict[str, Any]:
        return {"layer": self.layer, "way": round(float(self.way.norm()), 4)}


def fit(model: TraceModel, labelled: LabelledPrompts, *, layer: int | None = None) -> StreamDirection:
    """At `layer` (None: where kinds that were left out are told apart best)."""
    labelled.require_both("to find a direction between")
    found = streams(model, labelled, layer)
    chosen = best_layer(found, labelled)
    way = between(found[chosen], labelled.labels)
    return StreamDirection(
        "mean_difference", provenance(model).as_dict(), chosen, (way / way.norm()).float(), 0.0, way.float()
    )
