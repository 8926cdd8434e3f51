"""Raw attention: the pattern of a layer, averaged over heads, or of one head.

Cost: one forward pass. Law: rows sum to one (less with attention sinks), nothing attends forward (law 5).
Known failure: attention is not attribution. A head may look at a token and write nothing of it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from llmtrace.influence.scores import TokenInfluence
from llmtrace.models import TraceModel, describe, provenance
from llmtrace.nodes import Head
from llmtrace.prompts import PromptSet, as_prompts
from llmtrace.signals import attention_pattern, capture


@torch.no_grad()
def raw_attention(
    model: TraceModel, prompts: PromptSet | str | Sequence[str], *, layer: int = 0, head: int | None = None
) -> TokenInfluence:
    """[batch target source]: how much each token attends to each earlier one, in one head or in the mean of a layer."""
    prompts = as_prompts(model, prompts)
    describe(model).require(Head(layer, head or 0))
    trace = capture(model, prompts, what="pattern", layers=[layer])
    pattern = attention_pattern(trace, layer)
    return TokenInfluence(
        values=pattern.mean(1) if head is None else pattern[:, head],
        labels=trace.labels, lengths=trace.lengths, method="raw_attention", layer=layer,
        rows_sum_to_one=not describe(model).sinks, provenance=provenance(model).as_dict(),
    )  # fmt: skip
