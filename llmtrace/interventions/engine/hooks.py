"""Values become hooks here and nowhere else; `models.final_residual` and `resume` install and remove them.

    keeper       an activation is kept as it is at that moment
    hooks_of     activations are changed (`changes.py`)
    LiveEdges    one port reads a writer as it is changed, everybody else reads it as it is

Several variants ride in one batch: variant i occupies rows i * batch to (i + 1) * batch of the stacked prompts. A run
that skips the first positions sees activations from position `first` on; attention keeps all keys.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import groupby

import torch
from jaxtyping import Float, Int
from torch import Tensor

from llmtrace.interventions.engine.changes import Add, Change, EdgeChange, FromOther, Value
from llmtrace.interventions.engine.ports import Inlet, inlets, written
from llmtrace.models import Architecture, Hook, TraceModel, describe
from llmtrace.models.hook_names import ATTENTION, numbers_per_position, site_name
from llmtrace.nodes import Logits, Port, Site
from llmtrace.signals.capture import select_positions


def name_of(site: Site) -> str:
    """The TransformerLens name of the activation that a site is (a part of)."""
    return site_name(site.kind, site.layer)


def keeper(name: str, into: dict[str, Tensor], at: Int[Tensor, "batch slot"] | None = None) -> Hook:
    """`at`: only at these positions; what is selected is a copy, and the pass's own tensor is freed."""
    return name, lambda value: into.__setitem__(name, value if at is None else select_positions(value, at, 1))


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


def part_numbers(site: Site, arch: Architecture, keys: int) -> int:
    """How many numbers of a site stand at one position of one prompt; of attention, for `keys` keys."""
    shared = {"k": arch.n_kv_heads, "v": arch.n_kv_heads, "mlp_pre": arch.d_mlp, "mlp_post": arch.d_mlp}
    parts = 1 if site.index is None else shared.get(site.kind, arch.n_heads)
    return numbers_per_position(name_of(site), arch, keys) // parts


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


class LiveEdges:
    """The changed edges of stacked variants during one pass from layer `layer` and position `first`.

        port reads   live stream + sum over its changed edges of (changed write - live write)

    Writers behind other changed ports are live too, so many edges may change at once (edge patching, as in ACDC). The
    live writes are taken down as the pass goes on; writers before the pass's first layer are those of the kept run.

    old, other   activations of the kept run and of the other run, all positions

    Source: Goldowsky-Dill et al. 2023; Conmy et al. 2023. Cost: nothing beside the pass but the changed ports' own
    reading.
    """

    def __init__(
        self,
        model: TraceModel,
        variants: Sequence[Sequence[EdgeChange]],
        batch: int,
        *,
        layer: int,
        first: int,
        old: Mapping[str, Tensor],
        other: Mapping[str, Tensor],
    ) -> None:
        arch = describe(model)
        self._model, self._batch, self._first, self._layer = model, batch, first, layer
        self._old, self._other = old, other
        self._live: dict[str, Tensor] = {}
        self._n_layers, self._parallel = arch.n_layers, arch.parallel
        self._by_port: dict[Port, list[tuple[int, list[EdgeChange]]]] = {}
        for index, variant in enumerate(variants):
            for port, edges in groupby(sorted(variant, key=lambda e: str(e.port)), key=lambda e: e.port):
                self._by_port.setdefault(port, []).append((index, list(edges)))
        self.hooks = self._hooks()

    def add_at_logits(self, final: Float[Tensor, "variant batch pos d_model"]) -> None:
        """What the logits read differently, after the pass."""
        for index, edges in self._by_port.get(Port(Logits()), []):
            final[index] += self._offset(index, edges)

    def _hooks(self) -> list[Hook]:
        ports = [port for port in self._by_port if not isinstance(port.node, Logits)]
        streams = [name_of(port.stream(self._n_layers, parallel=self._parallel)) for port in ports]
        writers = [
            name_of(edge.writer.site)
            for found in self._by_port.values()
            for _, edges in found
            for edge in edges
            if edge.writer.site.layer >= self._layer
        ]
        overwrites = [
            (inlet.name, self._overwrite(port, inlet)) for port in ports for inlet in inlets(self._model, port)
        ]
        return [*overwrites, *(keeper(name, self._live) for name in dict.fromkeys([*streams, *writers]))]

    def _overwrite(self, port: Port, inlet: Inlet) -> Callable[[Tensor], Tensor]:
        stream = name_of(port.stream(self._n_layers, parallel=self._parallel))

        def overwritten(value: Tensor) -> Tensor:
            value = value.clone()
            for index, edges in self._by_port[port]:
                rows = self._rows(index)
                x = self._live[stream][rows] + self._offset(index, edges)
                (value[rows] if inlet.head is None else value[rows, :, inlet.head]).copy_(inlet(x))
            return value

        return overwritten

    def _offset(self, index: int, edges: Sequence[EdgeChange]) -> Float[Tensor, "batch pos d_model"]:
        """The changed writes less the live ones."""
        return sum(self._moved(index, edge) for edge in edges)  # type: ignore[return-value]

    def _moved(self, index: int, edge: EdgeChange) -> Float[Tensor, "batch pos d_model"]:
        site, name = edge.writer.site, name_of(edge.writer.site)
        kept = self._live[name][self._rows(index)] if name in self._live else self._old[name][:, self._first :]
        live = part(kept, site)
        new = live.clone()
        apply(edge.writer, new, self._other.get(name), self._first)
        return written(self._model, site, new - live)

    def _rows(self, index: int) -> slice:
        return slice(index * self._batch, (index + 1) * self._batch)
