"""Edges in a live run: a port reads one writer as it is changed, and everything else as it is at that moment.

    port reads   live stream + sum over its changed edges of (changed write - live write)

Writers behind other changed ports are live too, so many edges may change at once (edge patching, as in ACDC). The live
writes are taken down as the pass goes on; writers before the pass's first layer are those of the kept run.

Source: Goldowsky-Dill et al. 2023; Conmy et al. 2023. Cost: nothing beside the pass but the changed ports' own reading.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import groupby

from jaxtyping import Float
from torch import Tensor

from llmtrace.interventions.hooks import apply, name_of, part
from llmtrace.interventions.kept import keeper
from llmtrace.interventions.ports import Inlet, inlets, port_stream, written
from llmtrace.interventions.values import EdgeChange
from llmtrace.models import Hook, TraceModel, describe
from llmtrace.nodes import Logits, Port


class LiveEdges:
    """The changed edges of stacked variants during one pass from layer `layer` and position `first`.

    old, other   activations of the kept run and of the other run, all positions
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
        streams = [name_of(port_stream(port, self._n_layers, parallel=self._parallel)) for port in ports]
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
        stream = name_of(port_stream(port, self._n_layers, parallel=self._parallel))

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
