"""How sure the model is of its next token: what can be seen from outside.

    value = sign x log p(first choice)

Source: Hendrycks & Gimpel 2017. Cost: none beyond the shared pass and its unembedding.
Sign: larger = more like prompts at which the model did what is watched for. Known failure: a model is often sure of
what it was made to say.
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from llmtrace.audit.labelled import LabelledPrompts
from llmtrace.audit.layers import sign_of
from llmtrace.audit.seen import Seen, look
from llmtrace.audit.watch import Watch
from llmtrace.models import TraceModel, provenance


@dataclass(frozen=True, eq=False)
class OutputProbability(Watch):
    sign: float

    def value(self, seen: Seen) -> Float[Tensor, " batch"]:
        return self.sign * surest(seen)


def fit(model: TraceModel, labelled: LabelledPrompts) -> OutputProbability:
    """The sign alone is learned."""
    labelled.require_both("to learn a sign from")
    seen = look(model, labelled.prompts, labelled.spans, ())
    sign = sign_of(surest(seen).cpu(), labelled.labels)
    return OutputProbability("output_probability", provenance(model).as_dict(), sign)


def surest(seen: Seen) -> Float[Tensor, " batch"]:
    """Log-probability of the first choice."""
    return seen.logits.float().log_softmax(-1).max(-1).values
