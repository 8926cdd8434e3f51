"""Answers as tensors: what metrics of correct and wrong tokens read."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from llmtrace.errors import InputError, MismatchError
from llmtrace.metrics.metric import gathered
from llmtrace.shapes import Float, Int, Tensor

Answers = Sequence[Sequence[int]]  # per prompt: one or more token ids


def padded(which: str, answers: Answers) -> tuple[Int[Tensor, "batch n"], Float[Tensor, "batch n"]]:
    """Ragged answer sets as (tokens, mask); a repeated token counts once, padding repeats the first with mask 0."""
    sets = [list(dict.fromkeys(int(token) for token in answer)) for answer in answers]
    for prompt, answer in enumerate(sets):
        if not answer or min(answer) < 0:
            raise InputError(
                f"Expected one or more {which} token ids for each prompt, got {answer} for prompt {prompt}; "
                f"give its {which} answers or choose a metric that needs none."
            )
    widest = max(map(len, sets), default=0)
    tokens = torch.tensor([answer + answer[:1] * (widest - len(answer)) for answer in sets])
    mask = torch.tensor([[1.0] * len(a) + [0.0] * (widest - len(a)) for a in sets], dtype=torch.float64)
    return tokens, mask


def require_disjoint(correct: Answers, wrong: Answers) -> None:
    if len(correct) != len(wrong):
        raise MismatchError(
            f"Expected correct and wrong answers of the same prompts, got {len(correct)} and {len(wrong)}; "
            "give a list of tokens for each prompt."
        )
    for prompt, (right, other) in enumerate(zip(correct, wrong, strict=False)):
        if both := set(right) & set(other):
            raise InputError(
                f"Expected correct and wrong answers to differ, got token {min(both)} in both for prompt {prompt}; "
                "take it out of one."
            )


def log_probability_of(rows: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
    """[*lead batch]: log of the summed probability of `tokens` [batch n] where `mask` is not 0."""
    return gathered(rows.log_softmax(-1), tokens).masked_fill(mask == 0, -torch.inf).logsumexp(-1)
