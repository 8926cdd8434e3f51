"""Activation patching: copy activations of one run into the other, and see what the metric becomes.

    denoising   clean -> corrupted: which activation is enough to bring the behaviour back?
    noising     corrupted -> clean: which activation does the behaviour need?

`patch` makes the interventions that are named, `patch_sweep` one for each place of a whole model: layer x position,
layer x head, or layer x head x position. Each equals a full run with that activation replaced (laws 14-17).

Source: Vig et al. 2020; Meng et al. 2022; Zhang and Nanda 2024; TransformerLens' `patching`. Cost: two forward passes,
then each intervention its share of layers and positions (`lt.plan` says it beforehand). Sign: `normalised` is 1
where a patch gives all of the other run's metric. Known failure: denoising misses an AND's inputs, noising an OR's.

    >>> lt.interventions.patch(model, prompts, ["3.2", "resid_pre.3@S2"])
    Effects(patch (denoising) on logit_diff: 2 interventions, 4 prompts, before 1.84; resid_pre 3@S2 +3.1, 3.2 +2.56)
    >>> lt.interventions.patch_sweep(model, prompts, "z")
    Effects(patch (denoising) on logit_diff: 32 interventions, 4 prompts, before 1.84; 3.2 +2.56, 3.3 -1.7, 3.5 +1.45)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from llmtrace.errors import InputError
from llmtrace.interventions.effects import Effects
from llmtrace.interventions.engine.changes import Change, FromOther
from llmtrace.interventions.engine.places import (
    Masks,
    Written,
    every_position,
    read_place,
    require_site,
    site_of,
)
from llmtrace.interventions.engine.sweep import Sweep
from llmtrace.interventions.rows import KINDS, OF_KV_HEAD, OF_LAYER, OF_NEURON
from llmtrace.metrics import MetricLike
from llmtrace.models import Architecture, TraceModel, describe
from llmtrace.models.hook_names import ATTENTION, kind_of
from llmtrace.models.memory import Memory
from llmtrace.nodes import Head, KvHead, Node, Position, Site
from llmtrace.plan import Declaration, declares
from llmtrace.prompts import PromptSet, metric_of
from llmtrace.prompts.choice import Choice
from llmtrace.shapes import Tokens

Direction = Literal["denoising", "noising"]
By = Literal["position", "head", "head and position", "layer", "query and key"]
Places = Annotated[
    Sequence[Written | list[Written]],
    "a list of places such as Head(9, 6), 'm3', 'resid_pre.2@END' or 'a9.h6<q>@END'; a list in it is patched together",
]


@declares
def patch(
    model: TraceModel,
    prompts: PromptSet,
    places: Places,
    *,
    direction: Direction = "denoising",
    metric: MetricLike | None = None,
    memory: Memory = "auto",
    resume: str | Path | None = None,
) -> Declaration[Effects]:
    """One intervention per entry of `places`; places that are patched together are a list of their own.

    places      nodes, sites, text, each perhaps with positions: Head(9, 6), "a9.h6<q>@END", (Mlp(3), ["S1", "S2"])
    direction   "denoising" (clean into corrupted) or "noising" (corrupted into clean)
    memory      bytes, or "auto"
    resume      a file for partial results, taken up where it is there

    Raises InputError for a place the model does not have, NotFoundError for a position the prompts do not name,
    UnsupportedError for an activation that the architecture lacks or does not go on with.
    """
    arch = describe(model)
    if isinstance(places, str) or not isinstance(places, Sequence) or not places:
        raise InputError(f"Expected a list of places to patch, got {places!r}; write ['9.6', 'm3@END'], for instance.")
    rows = [tuple(read_place(w, arch, prompts) for w in (row if isinstance(row, list) else [row])) for row in places]
    if not all(rows):
        raise InputError("Expected at least one place in every intervention, got an empty list; leave it out.")
    return _patching(model, prompts, tuple(rows), direction, metric, memory, {}, resume)


@declares
def patch_sweep(
    model: TraceModel,
    prompts: PromptSet,
    what: str | Sequence[str] = "resid_pre",
    *,
    by: By | None = None,
    layers: Sequence[int] | None = None,
    positions: Choice | None = None,
    direction: Direction = "denoising",
    metric: MetricLike | None = None,
    memory: Memory = "auto",
    resume: str | Path | None = None,
) -> Declaration[Effects]:
    """One intervention for each place of the model.

    what        one kind or several: resid_pre, resid_mid, resid_post, attn_out, mlp_out; z, q, k, v, pattern
    by          "position" (layer x position), "head" (layer x head, all positions), "head and position", "layer", or
                for the pattern "query and key"; default: by position for streams and outputs, by head for heads
    positions   names or indices (default: all tokens; the named positions where prompts differ in length)

    Raises what `patch` raises. k and v are those of the key-value heads that exist.
    """
    arch = describe(model)
    kinds = tuple(map(kind_of, (what,) if isinstance(what, str) else what))
    if not kinds:
        raise InputError(f"Expected a kind of activation, one of {', '.join(KINDS)}; got none.")
    chosen, asked_at = arch.require_layers(layers), None if positions is None else prompts.chosen(positions)
    sites: list[Site] = []
    for kind in kinds:
        require_site(Site(kind, chosen[0]), arch)
        split = by or ("position" if kind in OF_LAYER else "head")
        if split not in _splits(kind):
            raise InputError(f"Expected {kind} by one of {', '.join(_splits(kind))}, got by={split!r}; choose one.")
        at: tuple[Position, ...] = ()
        if "position" in split or "query" in split:
            at = every_position(prompts) if asked_at is None else asked_at
        elif asked_at is not None:
            sites += [Site(kind, place, asked_at) for place in _parts(kind, split, chosen, arch)]
            continue
        sites += _sites(kind, split, chosen, at, arch)
    rows = tuple((site,) for site in sites)
    asked = {"what": "+".join(kinds), **({"by": by} if by else {})}
    return _patching(model, prompts, rows, direction, metric, memory, asked, resume)


def _patching(
    model: TraceModel,
    prompts: PromptSet,
    rows: tuple[tuple[Node | Site, ...], ...],
    direction: Direction,
    metric: MetricLike | None,
    memory: Memory,
    options: dict[str, Any],
    resume: str | Path | None,
) -> Sweep:
    base, other = base_and_other(prompts, direction)
    bound = metric_of(model, prompts, metric)
    prompts.require_corruption("Activation patching")
    arch, masks = describe(model), Masks(prompts)
    sites = [[site_of(place, arch) for place in row] for row in rows]
    variants = [[Change(site, FromOther(), masks[site.at], masks[site.keys]) for site in row] for row in sites]
    return Sweep(
        model=model, prompts=prompts, metric=bound, base=base, other=other, variants=variants, nodes=rows,
        method="patch", options={"direction": direction, **options}, memory=memory, resume=resume, label="patching",
    )  # fmt: skip


def base_and_other(prompts: PromptSet, direction: str) -> tuple[Tokens, Tokens]:
    """The tokens of the run that is changed, and of the run that values are taken from."""
    if direction not in ("denoising", "noising"):
        raise InputError(f"Expected direction 'denoising' or 'noising', got {direction!r}; choose one.")
    return (prompts.corrupted, prompts.clean) if direction == "denoising" else (prompts.clean, prompts.corrupted)


def _splits(kind: str) -> tuple[str, ...]:
    if kind in OF_LAYER:
        return "position", "layer"
    if kind in OF_NEURON:
        return "layer", "position"
    return ("head", "head and position", "layer", "position", *(("query and key",) if kind in ATTENTION else ()))


def _parts(kind: str, split: str, layers: Sequence[int], arch: Architecture) -> Iterator[int | Head | KvHead]:
    """The layers, or the heads of each layer."""
    by_head = "head" in split or split == "query and key"
    of_kv = kind in OF_KV_HEAD and arch.group > 1
    for layer in layers:
        if not by_head:
            yield layer
        elif of_kv:
            yield from (KvHead(layer, head) for head in range(arch.n_kv_heads))
        else:
            yield from (Head(layer, head) for head in range(arch.n_heads))


def _sites(kind: str, split: str, layers: Sequence[int], at: Sequence[Position], arch: Architecture) -> Iterator[Site]:
    for place in _parts(kind, split, layers, arch):
        if not at:
            yield Site(kind, place)
        elif split == "query and key":
            yield from (Site(kind, place, (query,), (key,)) for query in at for key in at)
        else:
            yield from (Site(kind, place, (position,)) for position in at)
