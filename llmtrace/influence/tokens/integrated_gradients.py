"""Integrated gradients: the slope along the whole way from "no token" to the token, not at its end alone.

    score(j) = < x_j - x'_j, mean_k d metric / d x_j at x' + t_k (x - x') >,      t_k = (k - 1/2) / K

x, x': inputs of the first block, of the prompt and of a baseline (`baseline_inputs.py`). Source: Sundararajan et al.
2017; points by the midpoint rule. Cost: 1 F + K (F + W); points ride in one batch where memory allows.
Sign: positive raises the metric. Complete: the row sums to m(x) - m(x') as K grows (`total`; the rest is `gap`).
Known failure: the baseline decides. From "zero" the path is a change of length, which a model with norms hardly minds
until the very start, so the gap goes slowly; points between two texts are no texts. Few points miss much: see the gap.

    >>> found = lt.influence.integrated_gradients(model, prompts, steps=8)
    >>> found.labels[0][found.values[0, -1].argmax()]
    'Eric'
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from llmtrace.errors import InputError
from llmtrace.influence.tokens.inputs.baseline_inputs import baseline_inputs
from llmtrace.influence.tokens.inputs.input_gradients import INPUT, require_inputs, rows_at_once, slopes_along
from llmtrace.influence.tokens.inputs.metric_readings import Readings, in_order
from llmtrace.influence.tokens.results.token_influence import TokenInfluence
from llmtrace.metrics import MetricLike
from llmtrace.models import TraceModel, embedding, final_residual
from llmtrace.models.memory import Memory
from llmtrace.progress import track
from llmtrace.prompts import PromptSet, metric_of

STEPS = 64  # of tiny-english's 7.5 logits 16 points miss 6.4, 32 miss 1.4, 64 miss .3: the slope leaps on the way


def integrated_gradients(
    model: TraceModel,
    prompts: PromptSet,
    *,
    metric: MetricLike | None = None,
    baseline: str = "mean",
    steps: int = STEPS,
    memory: Memory = "auto",
) -> TokenInfluence:
    """[batch 1 source]: each token's share of m(prompt) - m(baseline).

    baseline   "mean" (embedding of the vocabulary), "zero", "resample" (the corrupted prompt's inputs) or "pad"
    steps      points of the path

    Raises InputError for a metric without a gradient and for less than one step.
    """
    bound = metric_of(model, prompts, metric)
    readings = Readings.one_per_prompt(bound)
    values, total = read_paths(model, prompts, readings, baseline=baseline, steps=steps, memory=memory)
    return TokenInfluence.of(
        model, prompts, values[:, None], "integrated_gradients", total=total[:, None], metric=bound.name,
        targets=bound.positions[:, None], options={"baseline": baseline, "steps": steps},
    )  # fmt: skip


def read_paths(
    model: TraceModel,
    prompts: PromptSet,
    readings: Readings,
    *,
    baseline: str = "mean",
    steps: int = STEPS,
    memory: Memory = "auto",
) -> tuple[Float[Tensor, "reading source"], Float[Tensor, " reading"]]:
    """The scores of every reading, and what each row should sum to."""
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise InputError(f"Expected a whole number of steps from 1 on, got {steps!r}; {STEPS} is the default.")
    require_inputs(model)
    width, start = prompts.clean.shape[1], baseline_inputs(model, prompts, baseline).detach()
    fit, parts = rows_at_once(model, width, memory), []
    for rows in track(prompts.batches(fit), "integrated_gradients"):
        chosen, some = readings.within(rows, len(prompts))
        tokens = prompts.clean[rows]
        parts.append((chosen, *_of_batch(model, tokens, start[rows], some, steps, max(1, fit // len(tokens)))))
    return in_order(parts)


def _of_batch(
    model: TraceModel,
    tokens: Int[Tensor, "batch pos"],
    start: Float[Tensor, "batch pos d_model"],
    readings: Readings,
    steps: int,
    points_at_once: int,
) -> tuple[Float[Tensor, "reading source"], Float[Tensor, " reading"]]:
    inputs = embedding(model, tokens)[0].detach()
    change = inputs - start
    times = (torch.arange(steps, dtype=torch.float64) + 0.5) / steps
    slopes = torch.zeros((), dtype=inputs.dtype, device=inputs.device)
    for some in times.split(points_at_once):
        points = start + some.to(inputs)[:, None, None, None] * change
        slopes = slopes + slopes_along(model, tokens, readings, points, change)[0]
    with torch.no_grad():
        both = torch.cat([inputs, start])
        final = final_residual(model, tokens.repeat(2, 1), [(INPUT, lambda _: both)])
        at_end, at_start = readings.value(model, final.unflatten(0, (2, -1)))
    return slopes / steps, at_end - at_start
