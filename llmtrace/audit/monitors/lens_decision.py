"""How early the model has decided: at how many layers the lens already prefers what it will say to the runner-up.

    value = sign x share of layers l with   lens_l(first choice) > lens_l(second choice)

`lens_l` is the logit lens, `unembed(final norm(x_l))`; both choices are those of the model's own output. The sign is
learned. Source: nostalgebraist 2020; early decision: Halawi et al. 2024. Cost: none beyond the shared pass, and two
logits a layer. Sign: larger = more like prompts at which the model did what is watched for.
Known failure: early layers may keep their content in a basis that the unembedding cannot read. Blind to which answer it
is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from llmtrace.audit.labelled import LabelledPrompts
from llmtrace.audit.layers import sign_of
from llmtrace.audit.seen import Place, Seen, look
from llmtrace.audit.watch import Watch
from llmtrace.models import TraceModel, describe, provenance, unembed


@dataclass(frozen=True, eq=False)
class EarlyDecision(Watch):
    layers: int
    sign: float

    def places(self) -> tuple[Place, ...]:
        return tuple(("resid_post", layer) for layer in range(self.layers))

    def value(self, seen: Seen) -> Float[Tensor, " batch"]:
        return self.sign * decided(seen, self.layers)

    def evidence(self) -> dict[str, Any]:
        return {"alarm": "early" if self.sign > 0 else "late"}


def fit(model: TraceModel, labelled: LabelledPrompts) -> EarlyDecision:
    """The sign alone is learned."""
    labelled.require_both("to learn a sign from")
    layers = describe(model).n_layers
    seen = look(model, labelled.prompts, labelled.spans, [("resid_post", layer) for layer in range(layers)])
    sign = sign_of(decided(seen, layers).cpu(), labelled.labels)
    return EarlyDecision("lens_decision", provenance(model).as_dict(), layers, sign)


def decided(seen: Seen, layers: int) -> Float[Tensor, " batch"]:
    """Share of layers at which the first choice is ahead of the second."""
    choices = seen.logits.topk(2, dim=-1).indices  # batch choice
    stages = torch.stack([seen.at_end["resid_post", layer] for layer in range(layers)])
    lens = unembed(seen.model, stages, choices)  # layer batch choice
    return (lens[..., 0] > lens[..., 1]).float().mean(0)
