"""The first view: what each head and MLP adds to the answer's logit difference directly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llmtrace.console.live.run import LiveRun
from llmtrace.console.schemas import HeadMap, Overview
from llmtrace.errors import LLMTraceError
from llmtrace.influence import direct_logit_attribution
from llmtrace.models import TraceModel, describe
from llmtrace.nodes import Head, Mlp, Node

WHAT = (
    "What each head and MLP writes on the straight way to the logits, the last norm's scale held: positive speaks for "
    "the answer. Blind to what goes through later layers."
)


def overview(model: TraceModel, run: LiveRun) -> Overview:
    python = run.program.of(
        "scores = lt.influence.direct_logit_attribution(model, prompts)",
        "result = dict(zip(map(str, scores.nodes), scores.mean().tolist()))",
    )
    about: dict[str, Any] = {"title": "Direct logit attribution", "unit": "logits", "what": WHAT, "python": python}
    try:
        scores = direct_logit_attribution(model, run.prompts)
    except LLMTraceError as refusal:
        empty = HeadMap(heads=None, mlps=None, refused=str(refusal), **about)
        return Overview(run=run.id, maps=[empty], explained=None, python=python)
    heads, mlps = on_map(model, scores.nodes, scores.mean().tolist())
    found = HeadMap(heads=heads, mlps=mlps, **about)
    return Overview(run=run.id, maps=[found], explained=scores.values.sum().item(), python=python)


def on_map(
    model: TraceModel, nodes: Sequence[Node], values: Sequence[float]
) -> tuple[list[list[float]], list[float] | None]:
    """[layer][head], and a number for each MLP where there are any."""
    arch = describe(model)
    of: Mapping[Node, float] = dict(zip(nodes, values, strict=True))
    heads = [[of[Head(layer, head)] for head in range(arch.n_heads)] for layer in range(arch.n_layers)]
    return heads, [of[Mlp(layer)] for layer in range(arch.n_layers)] if arch.mlps else None
