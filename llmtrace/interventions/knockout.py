"""Attention knockout and value zeroing: which position does the prediction need to read, and in which layers?

    knock_out     score[query, key] := -inf in a window of layers; the softmax renormalises, so the query looks
                  elsewhere (not the same as zeroing an entry of the pattern)
    zero_values   v[key] := 0 in a layer: heads still look at the position and find nothing

Source: Geva et al. 2023 (knockout), Mohebbi et al. 2023 (value zeroing). Cost: one kept pass, then each window from its
first layer and first query on. Sign: negative change = the metric needs what is read there. Known failure: information
that has moved on to other positions before the window is not held back by it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from llmtrace.errors import InputError
from llmtrace.interventions.declared import Declared
from llmtrace.interventions.effects import Effects
from llmtrace.interventions.engine import Sweep
from llmtrace.interventions.places import mask_of
from llmtrace.interventions.values import Change, Fill
from llmtrace.metrics import MetricLike
from llmtrace.models import Architecture, TraceModel, describe
from llmtrace.models.budget import Memory
from llmtrace.nodes import Head, Position, Site
from llmtrace.prompts import PromptSet, metric_of
from llmtrace.shapes import PositionMask


def knock_out(
    model: TraceModel,
    prompts: PromptSet,
    queries: Sequence[Position],
    keys: Sequence[Position],
    *,
    window: int = 1,
    layers: Sequence[int] | None = None,
    heads: Sequence[Head] | None = None,
    metric: MetricLike | None = None,
    memory: Memory = "auto",
    resume: str | Path | None = None,
) -> Effects:
    """`queries` no longer see `keys`: one row for a window around each layer, or one for all of `layers`.

    window   how many layers are cut at once, around the layer of the row (at the ends fewer)
    layers   cut these together instead, in one row
    heads    only these heads, where they are in the window (default: all)

    Raises InputError where a query would have nothing left to see, UnsupportedError on bridges that compute attention
    beside their hooks.
    """
    return plan_knock_out(
        model, prompts, queries, keys, window=window, layers=layers, heads=heads, metric=metric, memory=memory
    ).run(resume)  # fmt: skip


def plan_knock_out(
    model: TraceModel,
    prompts: PromptSet,
    queries: Sequence[Position],
    keys: Sequence[Position],
    *,
    window: int = 1,
    layers: Sequence[int] | None = None,
    heads: Sequence[Head] | None = None,
    metric: MetricLike | None = None,
    memory: Memory = "auto",
) -> Declared:
    """The same, to be looked at before it is run: `.plan` says passes and memory, `.run()` gives the effects."""
    arch, bound = describe(model), metric_of(model, prompts, metric)
    at, unseen = _required(prompts, queries, "queries"), _required(prompts, keys, "keys")
    if not arch.sinks:
        _require_something_to_see(at, unseen, causal=arch.causal)
    places = None if heads is None else arch.require_all(heads, (Head,), "whose attention is cut")

    def sites(cut: Sequence[int]) -> list[Site]:
        found = [Site("scores", layer, tuple(queries), tuple(keys)) for layer in cut]
        return (
            found
            if places is None
            else [Site("scores", h, s.at, s.keys) for s in found for h in places if h.layer == s.layer]
        )

    windows = [arch.require_layers(layers)] if layers is not None else layer_windows(arch, window)
    rows = [row for row in map(sites, windows) if row]
    variants = [[Change(site, Fill(-torch.inf), at, unseen) for site in row] for row in rows]
    sweep = Sweep(model, prompts, bound, variants, prompts.clean, None, memory=memory, label="knocking out")
    options = {"queries": _said(queries), "keys": _said(keys), "window": window if layers is None else len(windows[0])}
    return Declared(sweep, tuple(map(tuple, rows)), "attention knockout", options)


def zero_values(
    model: TraceModel,
    prompts: PromptSet,
    keys: Sequence[Position],
    *,
    window: int = 1,
    layers: Sequence[int] | None = None,
    metric: MetricLike | None = None,
    memory: Memory = "auto",
    resume: str | Path | None = None,
) -> Effects:
    """The values at `keys` are 0: one row for a window around each layer, or one for all of `layers`.

    Raises NotFoundError for a position that the prompts do not name.
    """
    return plan_zero_values(
        model, prompts, keys, window=window, layers=layers, metric=metric, memory=memory
    ).run(resume)  # fmt: skip


def plan_zero_values(
    model: TraceModel,
    prompts: PromptSet,
    keys: Sequence[Position],
    *,
    window: int = 1,
    layers: Sequence[int] | None = None,
    metric: MetricLike | None = None,
    memory: Memory = "auto",
) -> Declared:
    """The same, to be looked at before it is run: `.plan` says passes and memory, `.run()` gives the effects."""
    arch, bound, at = describe(model), metric_of(model, prompts, metric), _required(prompts, keys, "keys")
    windows = [arch.require_layers(layers)] if layers is not None else layer_windows(arch, window)
    rows = [tuple(Site("v", layer, tuple(keys)) for layer in cut) for cut in windows]
    variants = [[Change(site, Fill(0.0), at) for site in row] for row in rows]
    sweep = Sweep(model, prompts, bound, variants, prompts.clean, None, memory=memory, label="zeroing values")
    options = {"keys": _said(keys), "window": window if layers is None else len(windows[0])}
    return Declared(sweep, tuple(rows), "value zeroing", options)


def layer_windows(arch: Architecture, window: int) -> list[tuple[int, ...]]:
    """Around each layer, `window` layers; cut off at the ends."""
    if not isinstance(window, int) or not 1 <= window <= arch.n_layers:
        raise InputError(f"Expected a window of 1 to {arch.n_layers} layers, got {window!r}.")
    starts = [layer - (window - 1) // 2 for layer in range(arch.n_layers)]
    return [tuple(range(max(0, start), min(arch.n_layers, start + window))) for start in starts]


def _required(prompts: PromptSet, positions: Sequence[Position], what: str) -> PositionMask:
    if isinstance(positions, str | int) or not positions:
        raise InputError(f"Expected a list of positions as {what}, got {positions!r}; write ['END'].")
    mask = mask_of(prompts, positions)
    assert mask is not None
    return mask


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
