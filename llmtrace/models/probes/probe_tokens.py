"""A few tokens, on which a model is asked about itself."""

from __future__ import annotations

import torch
from torch import Tensor

from llmtrace.models.architecture import describe
from llmtrace.models.protocol import TraceModel

TOKENS = 4


def probe_tokens(model: TraceModel) -> Tensor:
    arch = describe(model)
    return torch.arange(min(TOKENS, arch.n_ctx), device=model.W_E.device)[None] % model.W_E.shape[0]
