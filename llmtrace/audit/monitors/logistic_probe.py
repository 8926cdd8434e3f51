"""A direction of the residual stream that a regularised logistic regression learned.

    value = log odds = x . w + b      x: what leaves a layer, at the last token, standardised over the prompts of the
    fit

Source: Alain & Bengio 2017. Cost: none beyond the shared pass; the fit takes scikit-learn.
Sign: larger = likelier that the model did what is watched for.
Known failure: with more numbers than prompts a probe separates anything; only held-out kinds say what it learned. What
can be read need not be used: the causal step tells. Blind to what is not linear, and to other positions than the last.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from llmtrace.audit.labelled import LabelledPrompts
from llmtrace.audit.layers import best_layer, between, streams
from llmtrace.audit.monitors.mean_difference import StreamDirection
from llmtrace.errors import InputError, LLMTraceError
from llmtrace.models import TraceModel, provenance


def fit(
    model: TraceModel, labelled: LabelledPrompts, *, layer: int | None = None, strength: float = 0.01
) -> StreamDirection:
    """At `layer` (None: where kinds that were left out are told apart best).

    strength   scikit-learn's C: smaller holds the weights back more

    Raises InputError for a strength of 0 or less, LLMTraceError without scikit-learn.
    """
    labelled.require_both("to tell apart")
    if strength <= 0:
        raise InputError(f"Expected a strength above 0, got {strength}; leave it out for 0.01.")
    found = streams(model, labelled, layer)
    chosen = best_layer(found, labelled)
    x = found[chosen]
    mean, spread = x.mean(0), x.std(0).clamp(min=1e-9)
    weight, bias = logistic((x - mean) / spread, labelled.labels, strength)
    weight = weight / spread
    unit = weight / weight.norm()
    way = unit * float(between(x, labelled.labels) @ unit)  # so far the classes are apart along it
    return StreamDirection(
        "logistic_probe", provenance(model).as_dict(), chosen, weight.float(), float(bias - mean @ weight), way.float()
    )


def logistic(x: Float[Tensor, "batch d"], labels: Tensor, strength: float) -> tuple[Float[Tensor, " d"], float]:
    """Weights and intercept, both classes counting alike."""
    linear_model = require_sklearn("linear_model")
    found = linear_model.LogisticRegression(C=strength, class_weight="balanced", max_iter=2000, tol=1e-8)
    found.fit(x.numpy(), labels.numpy())
    return torch.from_numpy(found.coef_[0]).double(), float(found.intercept_[0])


def require_sklearn(part: str) -> Any:
    """A module of scikit-learn, which only fitting needs."""
    from importlib import import_module

    try:
        return import_module(f"sklearn.{part}")
    except ModuleNotFoundError as error:
        raise LLMTraceError(
            "Fitting this monitor needs scikit-learn, which is not installed; pip install 'llmtrace-interp[audit]'."
        ) from error
