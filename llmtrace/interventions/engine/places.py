"""What people write for a place - a node, a site, text, with positions or without - as sites and masks.

    Head(9, 6)   "9.6"   "a9.h6<q>@END"   (Mlp(3), "S2")   (Site("resid_pre", 5), ["S2", "END"])

Positions are names of the prompt set or token indices; a mask says where they are in each prompt.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Annotated, Any

import torch

from llmtrace.errors import InputError, NotFoundError, UnsupportedError, did_you_mean
from llmtrace.interventions.rows import KINDS, OF_KV_HEAD, OF_LAYER, OF_NEURON
from llmtrace.models import Architecture
from llmtrace.models.hook_names import ATTENTION, kind_of, named_site, resolve
from llmtrace.nodes import Embed, Head, KvHead, Mlp, Neuron, Node, Port, Position, Site, parse_place, read_node
from llmtrace.prompts import PromptSet
from llmtrace.shapes import PositionMask

Written = Annotated[  # what people write for one place
    str | Node | Port | Site | tuple[Any, Any],
    "a place such as Head(9, 6), 'm3' or 'a9.h6<q>@END'",
]


def read_place(written: Written, arch: Architecture, prompts: PromptSet | None = None) -> Site | Node:
    """One place, checked against the model. A node without positions stays a node.

    prompts   whose positions they are; None: none may be given

    Raises InputError for what is no place, or none of this model.
    """
    if isinstance(written, tuple) and not isinstance(read_node(written), Head):
        return _read_pair(written, arch, prompts)
    place: Any = _parsed(written) if isinstance(written, str) else read_node(written)
    if isinstance(place, Port) and place.slot is not None and isinstance(place.node, Head | KvHead):
        place = Site(place.slot, place.node)
    if isinstance(place, Head | Mlp | Neuron | Embed):
        arch.require(place)
        found: Node = place
        return found
    if isinstance(place, Site):
        return require_site(place, arch)
    raise InputError(
        f"Expected a head, an MLP, a neuron, 'input' or a site such as 'a9.h6<q>' or 'resid_pre.5', got {written!r}."
    )


def _parsed(text: str) -> Node | Site:
    """As people write it; an activation's name alone has no place."""
    name, at, where = text.partition("@")
    kind, layer = named_site(name.strip())
    if kind not in KINDS:
        return parse_place(text)
    if layer is None:
        raise InputError(
            f"Expected a place, got {text!r}, which every layer has; write '{kind}.2@END' for one of them, or "
            f"sweep all with patch_sweep(model, prompts, {kind!r})."
        )
    raise InputError(
        f"Expected a place such as 'm3' or 'resid_pre.2', got {text!r}; write '{kind}.{layer}{at}{where}'."
    )


def _read_pair(written: tuple[Any, ...], arch: Architecture, prompts: PromptSet | None) -> Site:
    if len(written) != 2:
        raise InputError(f"Expected (place, positions), such as (Head(9, 6), 'END'), got {written!r}.")
    site = site_of(read_place(written[0], arch), arch)
    if site.at:
        raise InputError(f"Expected positions once, got {site} and {written[1]!r}; leave one out.")
    if prompts is None:
        raise InputError(f"Expected a place alone, got the positions {written[1]!r} beside it; leave them out.")
    return replace(site, at=prompts.chosen(written[1]))


def site_of(place: Site | Node, arch: Architecture) -> Site:
    """The activation that a node writes: z of a head, mlp_out, a neuron's post-activation, resid_pre of layer 0."""
    match place:
        case Site():
            return require_site(place, arch)
        case Head():
            return Site("z", place)
        case Mlp(layer):
            return Site("mlp_out", layer)
        case Neuron():
            return Site("mlp_post", place)
        case Embed():
            return Site("resid_pre", 0)
    raise InputError(f"Expected a node that writes, got {place}.")


def require_site(site: Site, arch: Architecture) -> Site:
    """Refuse an activation that this model does not have; query heads name the key-value head they read."""
    site = replace(site, kind=kind_of(site.kind))
    if site.kind not in KINDS:
        raise NotFoundError(
            f"Expected a kind of activation, one of {', '.join(KINDS)}; got {site.kind!r}."
            + did_you_mean(site.kind, list(KINDS))
        )
    if not 0 <= site.layer < arch.n_layers:
        raise InputError(f"{site} is not in this model, which has layers 0-{arch.n_layers - 1}; name one of these.")
    resolve((site.kind,), (site.layer,), arch)
    if isinstance(site.place, int):
        return site
    wanted = KvHead if site.kind in OF_KV_HEAD and arch.group > 1 else Neuron if site.kind in OF_NEURON else Head
    if site.kind in OF_LAYER or not isinstance(site.place, wanted):
        if wanted is KvHead and isinstance(site.place, Head):
            raise InputError(
                f"Query heads share keys and values here, {arch.group} to a key-value head, so {site} is not its own; "
                f"write a{site.layer}.kv{site.place.head // arch.group}<{site.kind}>."
            )
        what = "a whole layer" if site.kind in OF_LAYER else f"a {wanted.__name__}"
        raise InputError(f"{site.kind} is an activation of {what}, got {site.place}; see llmtrace.nodes.Site.")
    arch.require(site.place)
    if site.keys and site.kind not in ATTENTION:
        raise InputError(f"Only attention (pattern, scores) has keys, got {site}; leave keys out.")
    return site


def mask_of(prompts: PromptSet, at: Sequence[Position]) -> PositionMask | None:
    """Where positions are in each prompt; None for everywhere. Raises NotFoundError for a name that is not there."""
    return mask_at(prompts, at) if at else None


def mask_at(prompts: PromptSet, at: Sequence[Position]) -> PositionMask:
    """The same of positions that somebody named: none is nowhere."""
    mask = torch.zeros_like(prompts.mask)
    for position in at:
        mask[torch.arange(len(prompts)), prompts.position(position)] = True
    return mask


class Masks:
    """`mask_of`, each position once: sweeps ask for the same ones at every layer and head."""

    def __init__(self, prompts: PromptSet) -> None:
        self._prompts = prompts
        self._known: dict[tuple[Position, ...], PositionMask | None] = {}

    def __getitem__(self, at: tuple[Position, ...]) -> PositionMask | None:
        if at not in self._known:
            self._known[at] = mask_of(self._prompts, at)
        return self._known[at]


def every_position(prompts: PromptSet) -> tuple[Position, ...]:
    """The positions of a sweep: all tokens, or where prompts differ in length the named positions, in order.

    Raises UnsupportedError where prompts differ in length and nothing but END is named.
    """
    if int(prompts.lengths.min()) == int(prompts.lengths.max()):
        return tuple(range(int(prompts.lengths.max())))
    named = sorted(prompts.positions, key=lambda name: float(prompts.positions[name].float().mean()))
    if named == ["END"]:
        raise UnsupportedError(
            "Prompts of different lengths share no token positions, and none but END is named; "
            "name positions when the prompts are made, or pass positions=['END', -2]."
        )
    return tuple(named)


def token_names(prompts: PromptSet, labels: Iterable[Sequence[str]], at: Iterable[Position]) -> dict[Position, str]:
    """position -> token: where all prompts agree, or of the first prompt with an ellipsis."""
    names: dict[Position, str] = {}
    rows = list(labels)
    for position in at:
        found = [row[int(i)] for row, i in zip(rows, prompts.position(position).tolist(), strict=True)]
        names[position] = found[0] if len(set(found)) == 1 else f"{found[0]}…"
    return names
