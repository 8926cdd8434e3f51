"""Attention knockout and value zeroing: which position does the prediction need to read, and in which layers?

    knock_out     score[query, key] := -inf in a window of layers; the softmax renormalises, so the query looks
                  elsewhere (not the same as zeroing an entry of the pattern)
    zero_values   v[key] := 0 in a layer: heads still look at the position and find nothing

Source: Geva et al. 2023 (knockout), Mohebbi et al. 2023 (value zeroing). Cost: one kept pass, then each window from its
first layer and first query on. Sign: negative change = the metric needs what is read there. Known failure: information
that has moved on to other positions before the window is not held back by it.

    >>> lt.interventions.knock_out(model, prompts, ["END"], ["S2"])
    Effects(attention knockout on logit_diff: 4 interventions, 4 prompts, before 8.72; scores 3@END<-S2 -7.85, scores
    2@END<-S2 -0.966, scores 1@END<-S2 -0.0458)
    >>> lt.interventions.zero_values(model, prompts, ["S2"])
    Effects(value zeroing on logit_diff: 4 interventions, 4 prompts, before 8.72; v 3@S2 -7.54, v 2@S2 -0.976, v 0@S2
    -0.0612)
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from llmtrace.errors import InputError
from llmtrace.interventions.effects import Effects
from llmtrace.interventions.engine.changes import Change, Fill
from llmtrace.interventions.engine.places import mask_at
from llmtrace.interventions.engine.sweep import Sweep
from llmtrace.metrics import MetricLike
from llmtrace.models import Architecture, TraceModel, describe
from llmtrace.models.memory import Memory
from llmtrace.nodes import Head, NodeLike, Position, Site
from llmtrace.plan import Declaration, declares
from llmtrace.prompts import PromptSet, metric_of
from llmtrace.prompts.choice import Choice
from llmtrace.shapes import PositionMask


@declares
def knock_out(
    model: TraceModel,
    prompts: PromptSet,
    queries: Choice,
    keys: Choice,
    *,
    window: int = 1,
    layers: Sequence[int] | None = None,
    heads: Sequence[NodeLike] | None = None,
    metric: MetricLike | None = None,
    memory: Memory = "auto",
    resume: str | Path | None = None,
) -> Declaration[Effects]:
    """`queries` no longer see `keys`: one row for a window around each layer, or one for all of `layers`.

    window   how many layers are cut at once, around the layer of the row (at the ends fewer)
    layers   cut these together instead, in one row
    heads    only these heads, where they are in the window (default: all)

    Raises InputError where no query could see a key anyway or one would have nothing left to see, UnsupportedError on
    bridges that compute attention beside their hooks.
    """
    arch, bound = describe(model), metric_of(model, prompts, metric)
    from_, to = prompts.chosen(queries, "positions as queries"), prompts.chosen(keys, "positions as keys")
    at, unseen = mask_at(prompts, from_), mask_at(prompts, to)
    if arch.causal:
        _require_something_to_cut(at, unseen, from_, to)
    if not arch.sinks:
        _require_something_to_see(at, unseen, causal=arch.causal)
    places = None if heads is None else arch.require_all(heads, (Head,), "whose attention is cut")

    def sites(cut: Sequence[int]) -> list[Site]:
        found = [Site("scores", layer, from_, to) for layer in cut]
        return (
            found
            if places is None
            else [Site("scores", h, s.at, s.keys) for s in found for h in places if h.layer == s.layer]
        )

    windows = _windows(arch, window, layers)
    rows = [row for row in map(sites, windows) if row]
    variants = [[Change(site, Fill(-torch.inf), at, unseen) for site in row] for row in rows]
    options = {"queries": _said(from_), "keys": _said(to), "window": window if layers is None else len(windows[0])}
    return Sweep(
        model=model, prompts=prompts, metric=bound, base=prompts.clean, variants=variants,
        nodes=tuple(map(tuple, rows)), method="attention knockout", options=options, memory=memory, resume=resume,
        label="knocking out",
    )  # fmt: skip


@declares
def zero_values(
    model: TraceModel,
    prompts: PromptSet,
    keys: Choice,
    *,
    window: int = 1,
    layers: Sequence[int] | None = None,
    metric: MetricLike | None = None,
    memory: Memory = "auto",
    resume: str | Path | None = None,
) -> Declaration[Effects]:
    """The values at `keys` are 0: one row for a window around each layer, or one for all of `layers`.

    Raises NotFoundError for a position that the prompts do not name.
    """
    arch, bound = describe(model), metric_of(model, prompts, metric)
    zeroed = prompts.chosen(keys, "positions as keys")
    at = mask_at(prompts, zeroed)
    windows = _windows(arch, window, layers)
    rows = [tuple(Site("v", layer, zeroed) for layer in cut) for cut in windows]
    variants = [[Change(site, Fill(0.0), at) for site in row] for row in rows]
    options = {"keys": _said(zeroed), "window": window if layers is None else len(windows[0])}
    return Sweep(
        model=model, prompts=prompts, metric=bound, base=prompts.clean, variants=variants, nodes=tuple(rows),
        method="value zeroing", options=options, memory=memory, resume=resume, label="zeroing values",
    )  # fmt: skip


def _windows(arch: Architecture, window: int, layers: Sequence[int] | None) -> list[tuple[int, ...]]:
    """All of `layers` at once, or a window around each layer."""
    if layers is None:
        return layer_windows(arch, window)
    if window != 1:
        raise InputError(f"Expected window= or layers=, got both (window={window}); leave one out.")
    return [arch.require_layers(layers)]


def layer_windows(arch: Architecture, window: int) -> list[tuple[int, ...]]:
    """Around each layer, `window` layers; cut off at the ends."""
    if not isinstance(window, int) or not 1 <= window <= arch.n_layers:
        raise InputError(f"Expected a window of 1 to {arch.n_layers} layers, got {window!r}.")
    starts = [layer - (window - 1) // 2 for layer in range(arch.n_layers)]
    return [tuple(range(max(0, start), min(arch.n_layers, start + window))) for start in starts]


def _require_something_to_cut(
    queries: PositionMask, keys: PositionMask, from_: Sequence[Position], to: Sequence[Position]
) -> None:
    """Causal attention hides what comes later: in some prompt some key is at a query or before it."""
    if not bool((queries & (keys.cumsum(1) > 0)).any()):
        raise InputError(
            f"Expected keys that a query sees, got the keys {_said(to)}, which come after the queries {_said(from_)} "
            "in every prompt; name earlier keys or later queries (knock_out(model, prompts, queries, keys))."
        )


def _require_something_to_see(queries: PositionMask, keys: PositionMask, *, causal: bool) -> None:
    """A softmax over nothing is no attention: every query keeps a key that it may look at."""
    left = ~keys
    seen = (left.cumsum(1) > 0) if causal else left.any(1, keepdim=True).expand_as(left)
    if bool((queries & ~seen).any()):
        prompt, position = (queries & ~seen).nonzero()[0].tolist()
        raise InputError(
            f"Expected every query to keep a key, but in prompt {prompt} position {position} would see nothing; "
            "leave a key in, the first token for instance."
        )


def _said(positions: Sequence[Position]) -> str:
    return "+".join(map(str, positions))
