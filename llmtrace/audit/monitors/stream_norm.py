"""Length of the residual stream at the last token.

    value = sign x log |x|      x: what leaves a layer; layer and sign are those that tell the classes apart best

Source: the usual outlier statistic; Heimersheim & Turner 2023 on how norms grow. Cost: none beyond the shared pass.
Sign: larger = more like prompts at which the model did what is watched for.
Known failure: one number out of d_model; blind to every direction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

from llmtrace.audit.evidence.roc import auroc
from llmtrace.audit.labelled import LabelledPrompts
from llmtrace.audit.layers import sign_of, streams
from llmtrace.audit.seen import Place, Seen
from llmtrace.audit.watch import Watch
from llmtrace.models import TraceModel, provenance


@dataclass(frozen=True, eq=False)
class StreamNorm(Watch):
    layer: int
    sign: float

    def places(self) -> tuple[Place, ...]:
        return (("resid_post", self.layer),)

    def value(self, seen: Seen) -> Float[Tensor, " batch"]:
        return self.sign * seen.stream(self.layer).norm(dim=-1).log()

    def evidence(self) -> dict[str, Any]:
        return {"layer": self.layer, "alarm": "long" if self.sign > 0 else "short"}


def fit(model: TraceModel, labelled: LabelledPrompts, *, layer: int | None = None) -> StreamNorm:
    """At `layer` (None: where the classes are told apart best)."""
    labelled.require_both("to tell apart")
    norms = {one: x.norm(dim=-1).log() for one, x in streams(model, labelled, layer).items()}
    chosen = max(norms, key=lambda one: (abs(auroc(norms[one], labelled.labels) - 0.5), -one))
    sign = sign_of(norms[chosen], labelled.labels)
    return StreamNorm("stream_norm", provenance(model).as_dict(), chosen, sign)
