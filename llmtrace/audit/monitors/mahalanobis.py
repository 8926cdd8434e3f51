"""How far the residual stream is from what it is on ordinary prompts, in their own deviations.

    value = sqrt((x - mean)' P (x - mean))      P: inverse covariance of the False prompts, shrunk (Ledoit & Wolf 2004)

Source: Lee et al. 2018 (out-of-distribution detection). Cost: none beyond the shared pass; the fit takes scikit-learn.
Sign: larger = less like the reference prompts.
Known failure: whatever is new is far, harmless or not: prompts of another kind raise it as well. Uses no True prompt,
so it is blind to which way is the bad one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from einops import einsum
from jaxtyping import Float
from torch import Tensor

from llmtrace.audit.labelled import LabelledPrompts
from llmtrace.audit.layers import best_layer, streams
from llmtrace.audit.monitors.logistic_probe import require_sklearn
from llmtrace.audit.seen import Place, Seen
from llmtrace.audit.watch import Watch
from llmtrace.errors import InputError
from llmtrace.models import TraceModel, provenance


@dataclass(frozen=True, eq=False)
class Distance(Watch):
    layer: int
    mean: Float[Tensor, " d_model"]
    precision: Float[Tensor, "d_model d_model"]

    def places(self) -> tuple[Place, ...]:
        return (("resid_post", self.layer),)

    def value(self, seen: Seen) -> Float[Tensor, " batch"]:
        away = seen.stream(self.layer).cpu() - self.mean
        squared = einsum(away, self.precision, away, "batch i, i j, batch j -> batch")
        return squared.clamp(min=0).sqrt()

    def evidence(self) -> dict[str, Any]:
        return {"layer": self.layer}


def fit(model: TraceModel, labelled: LabelledPrompts, *, layer: int | None = None) -> Distance:
    """Against the False prompts, at `layer` (None: where the classes are told apart best)."""
    labelled.require_both("to choose a layer by")
    found = streams(model, labelled, layer)
    chosen = best_layer(found, labelled)
    reference = found[chosen][~labelled.labels]
    if len(reference) < 4:
        raise InputError(f"Expected at least 4 False prompts as a reference, got {len(reference)}; add some.")
    shrunk = require_sklearn("covariance").LedoitWolf().fit(reference.numpy())
    precision = torch.from_numpy(shrunk.precision_).float()
    return Distance("mahalanobis", provenance(model).as_dict(), chosen, reference.mean(0).float(), precision)
