"""How scattered the attention of the last token is.

    value = sign x mean over heads h of a layer of  - sum over j of A[h, END, j] log A[h, END, j]

Layer and sign are those that tell the classes apart best. Source: Clark et al. 2019 (entropy of heads).
Cost: none beyond the shared pass.
Sign: larger = more like prompts at which the model did what is watched for.
Known failure: grows with the length of the prompt. Blind to what is looked at.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from llmtrace.audit.evidence.roc import auroc
from llmtrace.audit.labelled import LabelledPrompts
from llmtrace.audit.layers import sign_of
from llmtrace.audit.seen import Place, Seen, look
from llmtrace.audit.watch import Watch
from llmtrace.models import TraceModel, describe, provenance


@dataclass(frozen=True, eq=False)
class AttentionEntropy(Watch):
    layer: int
    sign: float

    def places(self) -> tuple[Place, ...]:
        return (("pattern", self.layer),)

    def value(self, seen: Seen) -> Float[Tensor, " batch"]:
        return self.sign * entropy(seen, self.layer)

    def evidence(self) -> dict[str, Any]:
        return {"layer": self.layer, "alarm": "scattered" if self.sign > 0 else "narrow"}


def fit(model: TraceModel, labelled: LabelledPrompts, *, layer: int | None = None) -> AttentionEntropy:
    """At `layer` (None: where the classes are told apart best)."""
    labelled.require_both("to tell apart")
    layers = describe(model).require_layers(None if layer is None else [layer])
    seen = look(model, labelled.prompts, labelled.spans, [("pattern", one) for one in layers])
    found = {one: entropy(seen, one).cpu() for one in layers}
    chosen = max(found, key=lambda one: (abs(auroc(found[one], labelled.labels) - 0.5), -one))
    sign = sign_of(found[chosen], labelled.labels)
    return AttentionEntropy("attention_entropy", provenance(model).as_dict(), chosen, sign)


def entropy(seen: Seen, layer: int) -> Float[Tensor, " batch"]:
    """Mean over heads, in nats; keys that are not looked at add nothing."""
    rows = seen.at_end["pattern", layer].float()
    return torch.special.entr(rows).sum(-1).mean(-1)
