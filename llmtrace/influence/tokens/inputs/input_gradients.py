"""How a metric minds its input vectors: gradients at the first block's input, along a given change.

    sum over points of < change_j, d metric / d x_j >

Cost: one forward pass over the stacked points and one backward pass (one for each reading of the same row: the graph
is kept between them). Memory: the activations of all layers, for all points.
"""

from __future__ import annotations

import torch
from einops import einsum
from jaxtyping import Float, Int
from torch import Tensor

from llmtrace.errors import InputError
from llmtrace.influence.tokens.inputs.metric_readings import Readings
from llmtrace.metrics import Metric
from llmtrace.models import TraceModel, describe, final_residual, require_live
from llmtrace.models.arithmetic import recording_gradients
from llmtrace.models.hook_names import site_name
from llmtrace.models.memory import Memory, at_once, budget, numbers_kept

# Slopes below this are rounding: the metric's gradient at its position times the residual stream's length.
FLAT = {torch.float64: 1e-9, torch.float32: 1e-3, torch.bfloat16: 1e-2, torch.float16: 1e-2}
ENOUGH = 2**31  # bytes: on a CPU a larger stack is not faster
INPUT = site_name("resid_pre", 0)


def slopes_along(
    model: TraceModel,
    tokens: Int[Tensor, "batch pos"],
    readings: Readings,
    points: Float[Tensor, "point batch pos d_model"],
    change: Float[Tensor, "batch pos d_model"],
    *,
    refuse_flat: bool = False,
) -> tuple[Float[Tensor, "reading pos"], Float[Tensor, "point reading"]]:
    """(the slopes along `change`, summed over the points; the metric at each point).

    Raises InputError for a metric without a gradient, and with `refuse_flat` where the gradient is 0 everywhere.
    """
    n_points = len(points)
    with recording_gradients(model):
        leaf = points.flatten(0, 1).detach().requires_grad_(True)
        final = final_residual(model, tokens.repeat(n_points, 1), [(INPUT, lambda _: leaf)])
        values = readings.value(model, final.unflatten(0, (n_points, -1)))
        require_gradient(readings.metric, values)
        found = change.new_zeros(len(readings.row), tokens.shape[1])
        turns, steepest = readings.turns, 0.0
        for turn in turns:
            total = values[:, turn.to(values.device)].sum()
            slope, at_end = torch.autograd.grad(total, [leaf, final], retain_graph=turn is not turns[-1])
            rows = readings.row[turn].to(slope.device)
            found[turn.to(found.device)] = einsum(
                slope.unflatten(0, (n_points, -1))[:, rows], change[rows],
                "point reading pos d_model, reading pos d_model -> reading pos",
            )  # fmt: skip
            steepest = max(steepest, steepness(at_end, final))
    if refuse_flat:
        require_slope(readings.metric, steepest, values.dtype)
    return found, values.detach()


def require_gradient(metric: Metric, values: Tensor) -> None:
    """Refuse a metric that no gradient goes through."""
    if not values.requires_grad:
        raise InputError(
            f"Expected a metric with a gradient, got {metric.name}, which has none (a count or an argmax?); "
            "use 'logit_diff' or 'log_probability'."
        )


def steepness(gradient: Float[Tensor, "*rows d_model"], final: Float[Tensor, "*rows d_model"]) -> float:
    """How much a metric minds its own residual stream at most: it tells a slope from rounding (`FLAT`)."""
    return float(gradient.norm(dim=-1).max() * final.detach().norm(dim=-1).max())


def require_slope(metric: Metric, steepest: float, dtype: torch.dtype) -> None:
    """KL to the clean run has its minimum at the clean run: every score would be 0 (law 34)."""
    if steepest < FLAT[dtype]:
        raise InputError(
            f"Expected a task metric: the gradient of {metric.name} is zero at the clean run, as that of KL to the "
            "clean run always is, so every score would be 0; use 'logit_diff' or 'log_probability'."
        )


def require_inputs(model: TraceModel) -> None:
    """Refuse a bridge that does not go on with the input that it is given."""
    require_live(model, [INPUT])


def rows_at_once(model: TraceModel, width: int, memory: Memory) -> int:
    """How many runs of `width` tokens fit, all activations kept for the backward pass."""
    arch, device = describe(model), model.W_E.device
    room = budget(memory, device)
    room = min(room, ENOUGH) if memory == "auto" and device.type == "cpu" else room
    each = width * arch.n_layers * numbers_kept(arch, width) * model.W_E.element_size()
    return at_once(room, each, 2**20, "one run with its gradient", asked=memory)
