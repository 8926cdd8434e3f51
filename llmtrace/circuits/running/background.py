"""`Background`: what removed edges carry, and what ports read when no edge is live. All circuits stand on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor

from llmtrace.circuits.graph import Graph
from llmtrace.circuits.running.span_columns import SpanOf
from llmtrace.errors import MismatchError
from llmtrace.interventions import Mean
from llmtrace.prompts import PromptSet

Ablation = str | Mean
Buffer = Float[Tensor, "node batch pos d_model"]
Stream = Float[Tensor, "batch pos d_model"]


@dataclass(frozen=True, eq=False)
class Background:
    """`writes[u]` is what an edge out of u carries once it is removed; `idle` is None where it is 0 everywhere.

    attn, mlp   what the ports of each layer read when nothing is live (`attn` has the logits' stream last)
    span_of     where the graph tells positions apart: the span of each token
    """

    name: str
    graph: Graph
    writes: Buffer
    attn: Sequence[Stream]
    mlp: Sequence[Stream]
    idle: Buffer | None = None
    first: int = 0  # before this position live and ablated writes are the same
    span_of: SpanOf | None = None

    def rows(self, rows: slice, width: int) -> Background:
        """The same of some prompts, the first `width` positions."""

        def cut(value: Tensor) -> Tensor:
            return value[rows, :width]

        return Background(
            self.name, self.graph, self.writes[:, rows, :width], [*map(cut, self.attn)], [*map(cut, self.mlp)],
            None if self.idle is None else self.idle[:, rows, :width], self.first,
            None if self.span_of is None else cut(self.span_of),
        )  # fmt: skip

    def some(self, prompts: Int[Tensor, " chosen"]) -> Background:
        """The same of chosen prompts."""
        return Background(
            self.name, self.graph, self.writes[:, prompts], [value[prompts] for value in self.attn],
            [value[prompts] for value in self.mlp], None if self.idle is None else self.idle[:, prompts], self.first,
            None if self.span_of is None else self.span_of[prompts],
        )  # fmt: skip

    def require_fits(self, graph: Graph, prompts: PromptSet) -> None:
        """Refuse a background of another graph or of other prompts."""
        if self.graph != graph or self.writes.shape[1:3] != prompts.clean.shape:
            raise MismatchError(
                f"Expected a background of {graph} on {list(prompts.clean.shape)} tokens, got one of {self.graph} on "
                f"{list(self.writes.shape[1:3])}; make it with background(model, prompts)."
            )


def ablation_name(ablation: Ablation | Background) -> str:
    """`resample`, `mean(position, clean)`: what files and reports say."""
    if isinstance(ablation, Background):
        return ablation.name
    if not isinstance(ablation, Mean):
        return ablation
    held_out = "" if ablation.reference is None else ", held out"
    return f"mean({ablation.over}, {ablation.side}{held_out})"
