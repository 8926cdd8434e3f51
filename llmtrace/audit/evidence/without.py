"""Prompts without some of their tokens: the same words, as if those had never been written."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Bool
from torch import Tensor

from llmtrace.prompts import PromptSet, Spans


def without(prompts: PromptSet, spans: Spans, gone: Bool[Tensor, "batch pos"]) -> tuple[PromptSet, Spans] | None:
    """Prompts and spans without the tokens of `gone`; BOS and the last token stay. None where nothing would go."""
    real = torch.arange(prompts.clean.shape[1])
    gone = gone & prompts.mask & (real != (prompts.lengths - 1)[:, None])
    gone[:, 0] &= not prompts.prepend_bos
    kept = prompts.mask & ~gone
    if not bool(gone.any()):
        return None
    lengths = kept.sum(1)
    order = (~kept).to(torch.int8).argsort(dim=1, stable=True)[:, : int(lengths.max())]
    inside = torch.arange(order.shape[1]) < lengths[:, None]
    tokens = prompts.clean.gather(1, order).masked_fill(~inside, prompts.pad_id)
    shorter = replace(
        prompts, clean=tokens, corrupted=tokens, lengths=lengths, positions={"END": lengths - 1}, corruption="none",
        texts=tuple("" for _ in prompts.texts), corrupted_texts=tuple("" for _ in prompts.texts),
    )  # fmt: skip
    return shorter, Spans(spans.names, spans.of.gather(1, order).masked_fill(~inside, -1), shorter.fingerprints)
