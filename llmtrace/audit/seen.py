"""What one pass shows at the last token of each prompt: all that monitors of cached activations read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from llmtrace.models import TraceModel, describe, unembed
from llmtrace.models.hook_names import site_name
from llmtrace.prompts import PromptSet, Spans
from llmtrace.signals import capture

Place = tuple[str, int]  # a kind of activation and its layer


@dataclass(frozen=True, eq=False)
class Seen:
    """`at_end[kind, layer]` is [batch *rest]; of a pattern its last row, [batch head key]. Of the last layer, the
    residual stream is always there."""

    model: TraceModel
    at_end: Mapping[Place, Tensor]
    names: tuple[str, ...]
    members: Bool[Tensor, "batch span key"]  # which tokens each span has
    lengths: Tensor
    tokens: Tensor
    _kept: dict[str, Any] = field(default_factory=dict)

    def stream(self, layer: int) -> Float[Tensor, "batch d_model"]:
        """What leaves a layer. Where the norm takes the mean away, so does this: no weight processing changes it
        then."""
        found = self.at_end["resid_post", layer].float()
        return found - found.mean(-1, keepdim=True) if describe(self.model).norm == "LN" else found

    @property
    def logits(self) -> Float[Tensor, "batch d_vocab"]:
        """What the model says next. Computed once for all monitors."""
        if "logits" not in self._kept:
            last = describe(self.model).n_layers - 1
            self._kept["logits"] = unembed(self.model, self.at_end["resid_post", last])
        found: Tensor = self._kept["logits"]
        return found

    def span(self, name: str) -> Bool[Tensor, "batch key"]:
        """The tokens of a span; none where no prompt has it."""
        if name not in self.names:
            return torch.zeros_like(self.members[:, 0])
        return self.members[:, self.names.index(name)]


@torch.no_grad()
def look(model: TraceModel, prompts: PromptSet, spans: Spans, places: Iterable[Place]) -> Seen:
    """One pass over the prompts. Cost: 1 F without the unembedding."""
    last = ("resid_post", describe(model).n_layers - 1)
    wanted = sorted({*places, last})
    names = {place: site_name(*place) for place in wanted}
    trace = capture(model, prompts, what=tuple(names.values()), positions="END")
    found = {place: trace[name][:, :, 0] if place[0] in ("pattern", "scores") else trace[name][:, 0]
             for place, name in names.items()}  # fmt: skip
    device = found[last].device
    return Seen(model, found, spans.names, spans.members.to(device), prompts.lengths, prompts.clean)
