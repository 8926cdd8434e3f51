"""A metric by name, bound to prompts and a model: what every method does with its `metric=`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from llmtrace.errors import InputError
from llmtrace.metrics import METRICS, Metric
from llmtrace.models import TraceModel, describe, final_residual, require_readout, unembed
from llmtrace.prompts.prompt_set import PromptSet
from llmtrace.prompts.texts import as_prompts


def metric_of(model: TraceModel, prompts: PromptSet, metric: str | Metric | Callable[..., Any] | None = None) -> Metric:
    """`prompts.metric(metric)`; a metric that measures distance from a reference run (kl) takes the model's clean run.

    Cost: nothing, or one forward pass without the unembedding for a reference. Checks that the prompts fit the model.
    """
    if not isinstance(prompts, PromptSet):
        raise InputError(
            f"Expected a PromptSet, which says what the right answer is, got {type(prompts).__name__}; "
            "make one with ioi(model) or from_pairs(model, pairs)."
        )
    describe(model)  # refuses what is no model
    prompts = as_prompts(model, prompts)
    require_readout(model)
    metric = prompts.default_metric if metric is None else metric
    if not isinstance(metric, str) or "reference" not in METRICS[metric].needs:
        return prompts.metric(metric)
    with torch.no_grad():
        final = final_residual(model, prompts.clean)
        here = final[torch.arange(len(prompts), device=final.device), prompts.positions["END"].to(final.device)]
        return prompts.metric(metric, reference=unembed(model, here))
