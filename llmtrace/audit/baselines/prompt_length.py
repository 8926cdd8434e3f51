"""How long the prompt is: what every statistic that grows with length would find as well.

    value = sign x tokens

Cost: none. Sign: larger = more like prompts at which the model did what is watched for. Known failure: knows nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from llmtrace.audit.labelled import LabelledPrompts
from llmtrace.audit.layers import sign_of
from llmtrace.audit.seen import Seen
from llmtrace.audit.watch import Watch
from llmtrace.models import TraceModel, provenance


@dataclass(frozen=True, eq=False)
class Length(Watch):
    sign: float

    def value(self, seen: Seen) -> Float[Tensor, " batch"]:
        return self.sign * seen.lengths.float()


def fit(model: TraceModel, labelled: LabelledPrompts) -> Length:
    """The sign alone is learned."""
    sign = sign_of(labelled.prompts.lengths.float(), labelled.labels)
    return Length("prompt_length", provenance(model).as_dict(), sign)
