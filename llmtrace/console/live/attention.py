"""Attention of the clean prompt: all heads pooled, a layer as bytes, one query exactly."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from llmtrace.console import packing
from llmtrace.console.live.run import LiveRun
from llmtrace.console.schemas import Row
from llmtrace.errors import UnsupportedError
from llmtrace.models import Architecture, Hook, TraceModel, describe, final_residual
from llmtrace.models.hook_names import site_name
from llmtrace.nodes import Head
from llmtrace.signals import attention_pattern, capture


def overview(model: TraceModel, run: LiveRun) -> bytes:
    """One pass; each layer's patterns are pooled while they are there, for all of them together would be large."""
    arch, pooled = _causal(model), dict[int, Any]()

    def pool(layer: int) -> Hook:
        return site_name("pattern", layer), lambda pattern: pooled.__setitem__(layer, _pooled(pattern))

    with torch.no_grad(), run.on(model):
        final_residual(model, run.prompts.clean, map(pool, range(arch.n_layers)))
    return packing.safetensors({"pooled": np.stack([pooled[layer] for layer in range(arch.n_layers)])})


def _pooled(pattern: Float[Tensor, "1 head query key"]) -> Any:
    return packing.pooled(pattern[0].detach().float().cpu().numpy())


def layer(model: TraceModel, run: LiveRun, layer: int) -> bytes:
    found = packing.packed(pattern(model, run, layer).numpy())
    return packing.safetensors({"packed": found})


def row(model: TraceModel, run: LiveRun, layer: int, head: int, query: int) -> Row:
    describe(model).require(Head(layer, head))
    query = int(run.prompts.position(query)[0])
    attention = pattern(model, run, layer)[head, query, : query + 1].tolist()
    return Row(run=run.id, layer=layer, head=head, query=query, attention=attention)


def pattern(model: TraceModel, run: LiveRun, layer: int) -> Float[Tensor, "head query key"]:
    """Under the run's edits; kept, for a head or a row of the same layer is likely to be next."""
    _causal(model)
    key = f"{run.id} {layer}"
    found = run.patterns.get(key)
    if found is None:
        with run.on(model):
            trace = capture(model, run.prompts, what="pattern", layers=[layer])
        found = attention_pattern(trace, layer)[0].float().cpu()
        run.patterns.put(key, found, found.nbytes)
    return found


def _causal(model: TraceModel) -> Architecture:
    """Rows are sent up to the token itself."""
    if not (arch := describe(model)).causal:
        raise UnsupportedError("Expected a model whose tokens look back only, got one that looks both ways; trace it.")
    return arch
