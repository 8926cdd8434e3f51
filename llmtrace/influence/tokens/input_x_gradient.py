"""Input x gradient: how much the metric would change along each token's own input vector, at the slope of this point.

    score(j) = < x_j, d metric / d x_j >,      x_j: what enters the first block, token and position together

Source: Denil et al. 2014; Shrikumar et al. 2017. Cost: 1 F + 1 W, and one prompt's pass without tokens for the gap.
Sign: positive raises the metric. Complete for metrics that are affine in the inputs: the row then sums to
m(x) - m(0), where 0 is the input of zeros. `total` is that difference and `gap` what the row misses of it; behind an
RMSNorm the row sums to nearly nothing, since the metric does not mind the length of what is normed.
Known failure: a slope is local. Where attention or a ReLU is saturated the slope is 0 and so is the score, whatever the
token does (the OR gate).

    >>> found = lt.influence.input_x_gradient(model, prompts)
    >>> found.labels[0][found.values[0, -1].argmax()]
    'Eric'
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from llmtrace.influence.tokens.inputs.input_gradients import INPUT, require_inputs, rows_at_once, slopes_along
from llmtrace.influence.tokens.inputs.metric_readings import Readings, in_order
from llmtrace.influence.tokens.results.token_influence import TokenInfluence
from llmtrace.metrics import MetricLike
from llmtrace.models import TraceModel, embedding, final_residual
from llmtrace.models.memory import Memory
from llmtrace.progress import track
from llmtrace.prompts import PromptSet, metric_of


def input_x_gradient(
    model: TraceModel, prompts: PromptSet, *, metric: MetricLike | None = None, memory: Memory = "auto"
) -> TokenInfluence:
    """[batch 1 source]: each token's share of the metric by its gradient.

    Raises InputError for a metric without a gradient, or with a gradient of 0 (KL to the clean run).
    """
    bound = metric_of(model, prompts, metric)
    values, total = read_gradients(model, prompts, Readings.one_per_prompt(bound), memory=memory)
    return TokenInfluence.of(
        model, prompts, values[:, None], "input_x_gradient", total=total[:, None], targets=bound.positions[:, None],
        metric=bound.name,
    )  # fmt: skip


def read_gradients(
    model: TraceModel, prompts: PromptSet, readings: Readings, *, memory: Memory = "auto"
) -> tuple[Float[Tensor, "reading source"], Float[Tensor, " reading"]]:
    """The scores of every reading, and what each row should sum to."""
    require_inputs(model)
    width, parts = prompts.clean.shape[1], []
    for rows in track(prompts.batches(rows_at_once(model, width, memory)), "input_x_gradient"):
        chosen, some = readings.within(rows, len(prompts))
        tokens = prompts.clean[rows]
        inputs = embedding(model, tokens)[0].detach()
        found, at = slopes_along(model, tokens, some, inputs[None], inputs, refuse_flat=True)
        parts.append((chosen, found, at[0] - without_tokens(model, tokens, some)))
    return in_order(parts)


@torch.no_grad()
def without_tokens(model: TraceModel, tokens: Tensor, readings: Readings) -> Float[Tensor, " reading"]:
    """m(0): the metric where every input is zero. One row serves all, since without tokens all prompts are alike."""
    final = final_residual(model, tokens[:1], [(INPUT, torch.zeros_like)])
    return Readings(readings.metric, torch.zeros_like(readings.row)).value(model, final)
