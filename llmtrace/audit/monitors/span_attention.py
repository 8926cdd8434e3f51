"""Share of attention that the last token pays to the instruction: heads that lose sight of it give the alarm.

    share(h) = sum over instruction tokens of A[h, END, j] / sum over the tokens of all named spans
    value    = 1 - mean over the chosen heads of share

The heads are found on labelled prompts: those whose share falls furthest where the model did what is watched for,

    separation(h) = (mean over False - mean over True) / (deviation over False + deviation over True)

Source: Hung et al. 2024 (Attention Tracker), who take heads with mean - 4 deviations of one class above mean + 4
deviations of the other; here the `count` largest, since small models have none so clear. Cost: none beyond the shared
pass. Sign: larger = less attention on the instruction.
Known failure: attention is where a head looks, not what it moves; an attack that the head reads and ignores looks like
one that it follows. Blind to MLPs, and to what earlier layers had moved into the tokens that are looked at.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from llmtrace.audit.evidence.lever import Lever, Nodes
from llmtrace.audit.labelled import LabelledPrompts
from llmtrace.audit.seen import Place, Seen, look
from llmtrace.audit.watch import Watch
from llmtrace.errors import InputError
from llmtrace.models import TraceModel, describe, provenance
from llmtrace.nodes import Head
from llmtrace.prompts.spans import REST

UNNAMED = (REST, "start", "template")  # no words of anybody's


@dataclass(frozen=True, eq=False)
class SpanAttention(Watch):
    """`heads`: the furthest apart first, with their `separation` on the prompts that they were found on."""

    span: str
    heads: tuple[Head, ...]
    separation: tuple[float, ...]

    def places(self) -> tuple[Place, ...]:
        return tuple(("pattern", layer) for layer in sorted({head.layer for head in self.heads}))

    def value(self, seen: Seen) -> Float[Tensor, " batch"]:
        shares = {layer: share(seen, layer, self.span) for _, layer in self.places()}
        return 1 - torch.stack([shares[head.layer][:, head.head] for head in self.heads]).mean(0)

    def lever(self) -> Lever:
        return Nodes(self.heads)

    def evidence(self) -> dict[str, Any]:
        return {"span": self.span, "heads": [head.label for head in self.heads]}


def fit(model: TraceModel, labelled: LabelledPrompts, *, span: str = "instruction", count: int = 6) -> SpanAttention:
    """`count` heads. Raises NotFoundError for a span that the prompts do not have, InputError for fewer than one
    head."""
    labelled.spans.index(span)
    if count < 1:
        raise InputError(f"Expected at least one head to watch, got count={count}; leave it out for 6.")
    arch = describe(model)
    layers = sorted({head.layer for head in arch.heads})
    seen = look(model, labelled.prompts, labelled.spans, [("pattern", layer) for layer in layers])
    shares = torch.stack([share(seen, layer, span) for layer in layers], 1).double().cpu()  # batch layer head
    false, true = shares[~labelled.labels], shares[labelled.labels]
    apart = (false.mean(0) - true.mean(0)) / (_deviation(false) + _deviation(true) + 1e-9)
    order = apart.flatten().argsort(descending=True)[:count].tolist()
    heads = tuple(Head(layers[at // arch.n_heads], at % arch.n_heads) for at in order)
    return SpanAttention(
        "span_attention", provenance(model).as_dict(), span, heads, tuple(apart.flatten()[order].tolist())
    )


def share(seen: Seen, layer: int, span: str) -> Float[Tensor, "batch head"]:
    """Of the last token's attention to words of anybody's, the part on one span; a half where it looks at none."""
    rows = seen.at_end["pattern", layer].float()
    named = torch.zeros_like(seen.members[:, 0])
    for name in seen.names:
        named = named | (seen.span(name) if name not in UNNAMED else False)
    on_span = (rows * seen.span(span)[:, None, : rows.shape[-1]]).sum(-1)
    on_named = (rows * named[:, None, : rows.shape[-1]]).sum(-1)
    return torch.where(on_named > 1e-6, on_span / on_named.clamp(min=1e-6), 0.5)


def _deviation(shares: Float[Tensor, "batch layer head"]) -> Float[Tensor, "layer head"]:
    return shares.std(0, correction=0)
