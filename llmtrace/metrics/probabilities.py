"""Probabilities of answers, from all logits of the answer position.

    probability       summed probability of the correct tokens
    log_probability   its logarithm, in nats
    probability_diff  P(correct) - P(wrong), the measure of Greater-Than (Hanna et al. 2023)

Cost: all vocabulary rows are read. Sign: positive speaks for the correct tokens.
Known failure: a probability near 0 or 1 hardly moves, whatever a part does to the logits.

    >>> lt.interventions.ablate(model, prompts, ["3.2"], metric="probability")
    Effects(mean ablation on probability: 1 interventions, 4 prompts, before 0.989; 3.2 -0.316)
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from llmtrace.metrics.answers import Answers, log_probability_of, padded, require_disjoint
from llmtrace.metrics.metric import Metric, Reduce
from llmtrace.shapes import Positions, Tensor


def probability(positions: Positions | Sequence[int], correct: Answers) -> Metric:
    """Summed probability of the correct tokens, in [0, 1]."""
    return _all_rows("probability", positions, lambda rows, *answers: log_probability_of(rows, *answers).exp(), correct)


def log_probability(positions: Positions | Sequence[int], correct: Answers) -> Metric:
    """Logarithm (nats) of the summed probability of the correct tokens."""
    return _all_rows("log_probability", positions, log_probability_of, correct)


def probability_diff(positions: Positions | Sequence[int], correct: Answers, wrong: Answers) -> Metric:
    """Summed probability of the correct tokens minus that of the wrong tokens, in [-1, 1]."""
    require_disjoint(correct, wrong)
    return _all_rows("probability_diff", positions, _p_diff, correct, wrong)


def _p_diff(rows: Tensor, *answers: Tensor) -> Tensor:
    return log_probability_of(rows, *answers[:2]).exp() - log_probability_of(rows, *answers[2:]).exp()


def _all_rows(name: str, positions: Positions | Sequence[int], reduce: Reduce, *sets: Answers) -> Metric:
    words = ("correct", "wrong")
    context = tuple(tensor for word, answers in zip(words, sets, strict=False) for tensor in padded(word, answers))
    return Metric(name, torch.as_tensor(positions), None, None, reduce, context)
