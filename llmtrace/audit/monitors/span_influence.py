"""Which span the next word comes from: the instruction, or somebody else's words.

    value = (sum over the tokens of other spans - sum over the instruction's) / sum over all words of |score|

`score(j)` is what token j does for the model's first choice against its second: by DecompX (every path, frozen) or by
occlusion (the token taken away). Shares of one prompt, so that prompts can be compared.
Source: Modarressi et al. 2023 (DecompX); Zeiler & Fergus 2014 (occlusion). Cost: DecompX 1 F to ask for the two
choices, 1 F and a sweep back; occlusion 1 F and about half an F per token.
Sign: larger = more from other spans than from the instruction.
Known failure: an instruction works by changing what is done with the document's words, and gets little of the influence
even where it is followed. Blind to what spans do together.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from llmtrace.audit.evidence.lever import Lever, Words
from llmtrace.audit.labelled import LabelledPrompts
from llmtrace.audit.monitors.span_attention import UNNAMED
from llmtrace.audit.seen import Seen, look
from llmtrace.audit.watch import Watch
from llmtrace.errors import InputError
from llmtrace.influence import TokenInfluence, decompx, occlusion
from llmtrace.models import TraceModel, provenance
from llmtrace.prompts import PromptSet, Spans

By = Literal["decompx", "occlusion"]
SCORES: dict[str, Callable[..., TokenInfluence]] = {"decompx": decompx, "occlusion": occlusion}


@dataclass(frozen=True, eq=False)
class SpanShare(Watch):
    """`others`: the named spans beside the instruction."""

    passes: ClassVar[float] = 2.0

    by: By
    span: str

    def value(self, seen: Seen) -> Float[Tensor, " batch"]:
        raise InputError(
            f"Expected prompts to run again for {self.monitor}, got one pass; ask measure(model, prompts, spans)."
        )

    @torch.no_grad()
    def measure(self, model: TraceModel, prompts: PromptSet, spans: Spans) -> Float[Tensor, " batch"]:
        asked = between_choices(model, prompts, spans)
        scores = SCORES[self.by](model, asked).values[:, 0].float().cpu()  # batch source
        members = spans.members
        named = [i for i, name in enumerate(spans.names) if name not in UNNAMED and name != self.span]
        other = (scores * members[:, named].any(1)).sum(-1)
        own = (scores * members[:, spans.index(self.span)]).sum(-1) if self.span in spans.names else 0.0
        whole = (scores.abs() * prompts.mask).sum(-1).clamp(min=1e-9)
        return (other - own) / whole

    def lever(self) -> Lever | None:
        return None if self.span in UNNAMED else Words(self.span)

    def evidence(self) -> dict[str, Any]:
        return {"span": self.span, "by": self.by}


def fit_decompx(model: TraceModel, labelled: LabelledPrompts, *, span: str = "instruction") -> SpanShare:
    """Nothing is learned. Raises NotFoundError for a span that the prompts do not have."""
    return _fit(model, labelled, "decompx", span)


def fit_occlusion(model: TraceModel, labelled: LabelledPrompts, *, span: str = "instruction") -> SpanShare:
    """Nothing is learned. Raises NotFoundError for a span that the prompts do not have."""
    return _fit(model, labelled, "occlusion", span)


def _fit(model: TraceModel, labelled: LabelledPrompts, by: By, span: str) -> SpanShare:
    labelled.spans.index(span)
    return SpanShare(f"span_{by}", provenance(model).as_dict(), by, span)


def between_choices(model: TraceModel, prompts: PromptSet, spans: Spans) -> PromptSet:
    """The same prompts, whose answers are the model's own first choice and its second. Cost: 1 F."""
    choices = look(model, prompts, spans, ()).logits.topk(2, dim=-1).indices.tolist()
    return replace(
        prompts, correct=tuple((first,) for first, _ in choices), wrong=tuple((second,) for _, second in choices),
        default_metric="logit_diff",
    )  # fmt: skip
