"""Mean logit of the correct tokens minus mean logit of the wrong tokens: linear in the logits.

Source: Wang et al. 2022. Cost: a few vocabulary rows are read. Sign: positive speaks for the correct tokens.
Known failure: blind to a third token that wins; `probability` sees it.

    >>> lt.interventions.ablate(model, prompts, ["3.2"], metric="logit_diff")
    Effects(mean ablation on logit_diff: 1 interventions, 4 prompts, before 8.72; 3.2 -6.28)
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from einops import einsum

from llmtrace.metrics.answers import Answers, padded, require_disjoint
from llmtrace.metrics.metric import Metric
from llmtrace.shapes import Positions, Tensor


def logit_diff(positions: Positions | Sequence[int], correct: Answers, wrong: Answers) -> Metric:
    """Mean logit of the correct tokens minus mean logit of the wrong tokens. Blind to a constant, antisymmetric."""
    positions = torch.as_tensor(positions)
    require_disjoint(correct, wrong)
    (right_tokens, right), (wrong_tokens, left) = padded("correct", correct), padded("wrong", wrong)
    weights = torch.cat([right / right.sum(-1, keepdim=True), -left / left.sum(-1, keepdim=True)], dim=-1)
    return Metric(
        "logit_diff", positions, torch.cat([right_tokens, wrong_tokens], dim=-1), weights, _weighted_sum, (weights,)
    )


def _weighted_sum(rows: Tensor, weights: Tensor) -> Tensor:
    return einsum(rows, weights, "... batch n, batch n -> ... batch")
