"""A direction of the residual stream that was drawn by lot: what any number read there would find.

    value = sign x x . r / |r|      at the layer, and of the length, of `mean_difference`

Cost: none beyond the shared pass. Sign: larger = more like prompts at which the model did what is watched for.
Known failure: one draw; another seed gives another number.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from llmtrace.audit.labelled import LabelledPrompts
from llmtrace.audit.layers import sign_of, streams
from llmtrace.audit.monitors.mean_difference import StreamDirection, fit as mean_difference
from llmtrace.models import TraceModel


def fit(model: TraceModel, labelled: LabelledPrompts, *, layer: int | None = None, seed: int = 0) -> StreamDirection:
    """At `layer` (None: that of `mean_difference`)."""
    found = mean_difference(model, labelled, layer=layer)
    drawn = torch.randn(len(found.weight), generator=torch.Generator().manual_seed(seed))
    unit = drawn / drawn.norm()
    values = streams(model, labelled, found.layer)[found.layer].float() @ unit
    unit = unit * sign_of(values, labelled.labels)
    return replace(found, monitor="random_direction", weight=unit, way=unit * found.way.norm())
