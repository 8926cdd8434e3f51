"""Values become hooks here and nowhere else; `models.final_residual` and `resume` install and remove them.

Several variants ride in one batch: variant i occupies rows i * batch to (i + 1) * batch of the stacked prompts. A run
that skips the first positions sees activations from position `first` on; attention keeps all keys.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from llmtrace.interventions.values import Add, Change, FromOther, Value
from llmtrace.models import Hook
from llmtrace.nodes import Site
from llmtrace.signals.sites import ATTENTION, site_name


def hooks_of(
    variants: Sequence[Sequence[Change]], batch: int, *, first: int = 0, other: Mapping[str, Tensor] | None = None
) -> list[Hook]:
    """One hook per activation that any variant changes. `other`: the other run's activations, all positions."""
    by_name: dict[str, list[tuple[slice, Change]]] = {}
    for index, variant in enumerate(variants):
        rows = slice(index * batch, (index + 1) * batch)
        for change in variant:
            by_name.setdefault(name_of(change.site), []).append((rows, change))
    return [(name, _changer(changes, first, (other or {}).get(name))) for name, changes in by_name.items()]


def name_of(site: Site) -> str:
    """The TransformerLens name of the activation that a site is (a part of)."""
    return site_name(site.kind, site.layer)


def _changer(changes: list[tuple[slice, Change]], first: int, other: Tensor | None) -> Callable[[Tensor], Tensor]:
    def changed(value: Tensor) -> Tensor:
        value = value.clone()
        for rows, change in changes:
            apply(change, part(value[rows], change.site), other, first)
        return value

    return changed


def part(value: Tensor, site: Site) -> Tensor:
    """The view of an activation that a site is: [batch pos ...]; of attention [batch query (head) key]."""
    if site.kind in ATTENTION:
        return value.movedim(1, 2) if site.index is None else value[:, site.index]
    return value if site.index is None else value[:, :, site.index]


def apply(change: Change, live: Tensor, other: Tensor | None, first: int) -> None:
    """Write the change into `live` [batch pos ...], which begins at position `first`."""
    given = _given(change, other)
    given = None if given is None else given.to(live.device)
    if change.where is None and change.keys is None:
        live.copy_(change.new.apply(live, None if given is None else given[:, first:].to(live)))
        return
    prompt, position = _places(change, live, first)
    at: tuple[Tensor, ...] = (prompt, position - first)
    there: tuple[Tensor, ...] = (prompt, position)
    if change.keys is not None:
        chosen = change.keys.to(live.device)[prompt].nonzero(as_tuple=True)  # (place, key), every key of every place
        at = (at[0][chosen[0]], at[1][chosen[0]], ..., chosen[1])  # type: ignore[assignment]
        there = (there[0][chosen[0]], there[1][chosen[0]], ..., chosen[1])  # type: ignore[assignment]
    live[at] = change.new.apply(live[at], None if given is None else given[there].to(live))


def _given(change: Change, other: Tensor | None) -> Tensor | None:
    """What the new value is taken from, at all positions."""
    match change.new:
        case FromOther():
            assert other is not None, f"{change.site} of the other run was not kept"
            return part(other, change.site)
        case Value(value):
            return value
        case Add(vector) if vector.ndim > 1:
            return vector
    return None


def _places(change: Change, live: Tensor, first: int) -> tuple[Tensor, Tensor]:
    """(prompt, position) of every place that changes; nothing before `first` can differ there."""
    if change.where is None:
        where = torch.ones(live.shape[0], first + live.shape[1], dtype=torch.bool, device=live.device)
    else:
        where = change.where.to(live.device)
    prompt, position = where.nonzero(as_tuple=True)
    inside = position >= first
    return prompt[inside], position[inside]
