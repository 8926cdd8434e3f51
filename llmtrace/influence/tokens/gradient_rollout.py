"""Gradient rollout: attention multiplied through the layers, each pattern weighed by how much the metric minds it.

    A^_l = I + mean_h ( d metric / d A_lh * A_lh )^+,    score(j) = (A^_L ... A^_2 A^_1)[i, j],    i: the metric's place

The form is the simple one of 2021b, R <- R + A_l R from the first layer on; that of 2021 has a relevance by LRP in the
place of A_lh beside the gradient. The identity stays whole and rows are not made to sum to one, so what the prediction
keeps of its own token is 1 or more, and only scores of one row stand beside each other.
Source: Chefer, Gur & Wolf 2021 ("Beyond Attention Visualization"); Chefer, Gur & Wolf 2021b ("Generic
Attention-model Explainability"). Cost: 1 F + 1 W. Memory: the activations of all layers, and the gradients of their
patterns.
Sign: none, scores are 0 or more; what speaks against the answer is cut off in each layer.
Known failure: with a saturated pattern or a dead ReLU behind it the gradient is 0 and only the identity is left (the OR
gate). Neither MLPs nor the length of values have a part beside the gradient, and a bias of the values that stood as a
constant behind attention instead would change no prediction and yet these scores.

    >>> found = lt.influence.gradient_rollout(model, prompts)
    >>> found.labels[0][found.values[0, -1, :-1].argmax()]
    'Eric'
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from llmtrace.errors import UnsupportedError
from llmtrace.influence.tokens.inputs.input_gradients import require_gradient, require_slope, rows_at_once, steepness
from llmtrace.influence.tokens.results.token_influence import TokenInfluence
from llmtrace.metrics import Metric, MetricLike
from llmtrace.models import Hook, TraceModel, describe, final_residual
from llmtrace.models.arithmetic import recording_gradients
from llmtrace.models.hook_names import site_name
from llmtrace.models.memory import Memory
from llmtrace.progress import track
from llmtrace.prompts import PromptSet, metric_of


def gradient_rollout(
    model: TraceModel, prompts: PromptSet, *, metric: MetricLike | None = None, memory: Memory = "auto"
) -> TokenInfluence:
    """[batch 1 source]: what reaches the metric's position from each token, along attention that the metric minds.

    Raises InputError for a metric without a gradient, or with a gradient of 0 (KL to the clean run); UnsupportedError
    for a bridge that shows other patterns than it attends by.
    """
    bound = metric_of(model, prompts, metric)
    batches = prompts.batches(rows_at_once(model, prompts.clean.shape[1], memory))
    found = [rolled(model, prompts.clean[rows], bound[rows]) for rows in track(batches, "gradient_rollout")]
    return TokenInfluence.of(
        model, prompts, torch.cat(found)[:, None], "gradient_rollout", targets=bound.positions[:, None],
        metric=bound.name,
    )  # fmt: skip


def rolled(model: TraceModel, tokens: Int[Tensor, "batch pos"], metric: Metric) -> Float[Tensor, "batch source"]:
    """The row of the metric's position, carried back from the last layer to the first: no product of whole maps."""
    patterns, gradients = pattern_gradients(model, tokens, metric)
    row = torch.zeros(tokens.shape, dtype=patterns[0].dtype, device=patterns[0].device)
    row.scatter_(1, metric.positions.to(row.device)[:, None], 1)
    for pattern, gradient in zip(reversed(patterns), reversed(gradients), strict=True):
        step = (gradient * pattern).clamp(min=0).mean(1)
        row = row + (row[:, None] @ step)[:, 0]
    return row


def pattern_gradients(
    model: TraceModel, tokens: Int[Tensor, "batch pos"], metric: Metric
) -> tuple[list[Float[Tensor, "batch head query key"]], list[Float[Tensor, "batch head query key"]]]:
    """The pattern of every layer, and the metric's gradient by it. One forward and one backward pass."""
    patterns: list[Tensor] = []

    def keep(pattern: Tensor) -> Tensor:
        patterns.append(pattern)
        return pattern  # a bridge stays on the autograd path only when the hook returns its tensor

    hooks: list[Hook] = [(site_name("resid_pre", 0), lambda value: value.detach().requires_grad_(True))]
    hooks += [(site_name("pattern", layer), keep) for layer in range(describe(model).n_layers)]
    with recording_gradients(model):
        final = final_residual(model, tokens, hooks)
        values = metric.of_residual(model, metric.here(final))
        require_gradient(metric, values)
        *gradients, at_end = torch.autograd.grad(values.sum(), [*patterns, final], allow_unused=True)
    if any(gradient is None for gradient in gradients):
        raise UnsupportedError(
            "No gradient reaches the patterns that this TransformerBridge shows, so every score would be that of the "
            "identity; load it with backend='hooked', or use input_x_gradient."
        )
    require_slope(metric, steepness(at_end, final), values.dtype)
    return [pattern.detach() for pattern in patterns], gradients
