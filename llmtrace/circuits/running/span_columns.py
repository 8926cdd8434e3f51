"""Which span each token of each prompt belongs to: how a graph with spans meets prompts of any length.

A span begins at its named position (an index is a name too) and ends before the next named one; the tokens before all
of them are "start". So `spans=("S1", "S1+1", "S2", "END")` tells the token S1 from what follows it, in every prompt,
and `spans=range(n)` is position by position. Source: Haklay et al. 2025 (position-aware circuits).
"""

from __future__ import annotations

import re

import torch
from jaxtyping import Int
from torch import Tensor

from llmtrace.circuits.graph import Graph
from llmtrace.errors import UnsupportedError
from llmtrace.prompts import PromptSet, Spans

SpanOf = Int[Tensor, "batch pos"]


def span_of(graph: Graph, prompts: PromptSet) -> SpanOf | None:
    """The index among `graph.spans` of the span that each token is in; None for a graph without spans.

    Raises NotFoundError for a span that the prompts have no position for.
    """
    if not graph.spans:
        return None
    if len(graph.spans) == 1:
        return torch.zeros(prompts.clean.shape, dtype=torch.long)
    begins = [int(name) if re.fullmatch(r"-?\d+", name) else name for name in graph.spans[1:]]
    return Spans.between(prompts, begins).of.clamp(min=0)  # padding is read by nobody


def require_no_spans(graph: Graph, what: str) -> None:
    """Refuse a graph that tells positions apart, where that means nothing."""
    if graph.spans:
        raise UnsupportedError(
            f"{what} has no positions, and this graph has the spans {', '.join(graph.spans)}; "
            "leave spans out, or merge them with circuit.without_spans()."
        )
