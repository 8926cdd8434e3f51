"""What every node writes into the residual stream, in one source-major buffer.

    final residual = sum of writes + sum of biases (b_O, b_out)                              (law 2)

Source-major means "all writers before layer l" is a contiguous view, which is what edge methods multiply.
Cost: one forward pass. Memory: nodes x batch x pos x d_model.

    >>> writes = lt.signals.node_writes(model, prompts.clean)
    >>> len(writes.nodes), tuple(writes.values.shape)
    (37, (37, 4, 15, 128))
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from llmtrace.models import (
    Hook,
    TraceModel,
    describe,
    final_residual,
    heads_received,
    parts_of_neurons,
    require_additive,
    require_neurons,
    through_output,
)
from llmtrace.models.hook_names import site_name
from llmtrace.nodes import Embed, Head, Mlp, Neuron, Node
from llmtrace.signals.capture import select_positions


@dataclass(frozen=True, eq=False)
class Writes:
    """`values[i]` is what `nodes[i]` wrote; MLP writes include b_out, head writes exclude b_O. Where neurons are nodes
    of their own their MLP is the rest."""

    nodes: tuple[Node, ...]
    values: Float[Tensor, "node batch pos d_model"]
    final: Float[Tensor, "batch pos d_model"]

    def of(self, node: Node) -> Float[Tensor, "batch pos d_model"]:
        return self.values[self.nodes.index(node)]


@runtime_checkable
class Shape(Protocol):
    """What the list of writers depends on: an `Architecture` has it, and so has a `circuits.Graph`."""

    @property
    def n_layers(self) -> int: ...

    @property
    def n_heads(self) -> int: ...

    @property
    def attn_only(self) -> bool: ...


def writers(arch: Shape, *, split_embed: bool = False, neurons: Sequence[Neuron] = ()) -> tuple[Node, ...]:
    """All writers in the order of the field's circuit files: input, then per layer the heads and the MLP.

    split_embed   token and position embeddings are two writers, `embed` and `pos`
    neurons       are writers of their own, right after their MLP
    """
    found: list[Node] = [Embed("embed"), Embed("pos")] if split_embed else [Embed()]
    for layer in range(arch.n_layers):
        found += [Head(layer, head) for head in range(arch.n_heads)]
        found += [] if arch.attn_only else [Mlp(layer), *(n for n in sorted(neurons) if n.layer == layer)]
    return tuple(found)


@torch.no_grad()
def node_writes(
    model: TraceModel,
    tokens: Int[Tensor, "batch pos"],
    positions: Int[Tensor, "batch n"] | None = None,
    *,
    split_embed: bool = False,
    received: bool = False,
    neurons: Sequence[Neuron] = (),
    hooks: Sequence[Hook] = (),
) -> Writes:
    """The writes of all nodes on `tokens`, at all positions or at `n` chosen ones per prompt.

    split_embed   token and position embeddings apart
    received      in a post-norm model, what the residual stream receives of each node (else such models are refused)
    neurons       that are nodes of their own; their MLP's write is then the rest
    hooks         that change the run
    """
    require_additive(model, "Splitting the residual stream into writes", post_norm=received, reads=())
    if neurons:
        require_neurons(model, "Splitting an MLP's write into those of its neurons")
    record = Recorder(model, positions, split_embed=split_embed, neurons=neurons)
    final = final_residual(model, tokens, [*hooks, *record.hooks])
    nodes = writers(describe(model), split_embed=split_embed, neurons=neurons)
    return Writes(nodes, record.values, record.at(final))


class Recorder:
    """Hooks that fill one buffer with every node's write during whatever pass they ride on; no gradient is kept.

    taken_from   the writes of another pass: they become the differences, those less these, in the same memory
    """

    def __init__(
        self,
        model: TraceModel,
        positions: Int[Tensor, "batch n"] | None = None,
        *,
        split_embed: bool = False,
        neurons: Sequence[Neuron] = (),
        taken_from: Float[Tensor, "node batch pos d_model"] | None = None,
    ):
        self._arch, self._positions, self._split = describe(model), positions, split_embed
        self._neurons = sorted(neurons)
        self._nodes = len(writers(self._arch, split_embed=split_embed, neurons=neurons))
        self._buffer, self._takes = taken_from, taken_from is not None
        self._model = model

    @property
    def values(self) -> Float[Tensor, "node batch pos d_model"]:
        assert self._buffer is not None, "the pass has not been run"
        return self._buffer

    def at(self, value: Tensor) -> Tensor:
        value = value.detach()
        return value if self._positions is None else select_positions(value, self._positions, 1)

    def _store(self, first: int, written: Float[Tensor, "some batch pos d_model"]) -> None:
        if self._buffer is None:
            self._buffer = written.new_empty(self._nodes, *written.shape[1:])
        rows = self._buffer[first : first + len(written)]
        rows.sub_(written) if self._takes else rows.copy_(written)

    @property
    def hooks(self) -> list[Hook]:
        """Made anew: kept here they would keep this, and the buffer would stay until garbage is collected."""
        model, arch = self._model, self._arch
        per_layer = arch.n_heads + (not arch.attn_only)
        inputs = ("embed", "pos_embed") if self._split else ("resid_pre",)
        hooks: list[Hook] = [(site_name(kind, 0), self._writes_itself(row)) for row, kind in enumerate(inputs)]
        for layer in range(arch.n_layers):
            some = [neuron.index for neuron in self._neurons if neuron.layer == layer]
            first = len(inputs) + layer * per_layer + sum(neuron.layer < layer for neuron in self._neurons)
            hooks.append((site_name("z", layer), self._through(model, layer, first)))
            if some:
                hooks += self._apart(model, layer, first + arch.n_heads, some)
            elif not arch.attn_only:
                hooks.append((site_name("mlp_out", layer), self._writes_itself(first + arch.n_heads)))
        return hooks

    def _apart(self, model: TraceModel, layer: int, row: int, neurons: list[int]) -> list[Hook]:
        """Neurons after their MLP's row, which is what they leave of it."""

        together: list[Tensor] = []

        def each(activations: Tensor) -> None:
            parts = parts_of_neurons(model, layer, neurons, self.at(activations)[..., neurons])
            together[:] = [parts.sum(0)]
            self._store(row + 1, parts)

        def rest(value: Tensor) -> None:
            self._store(row, (self.at(value) - together.pop())[None])

        return [(site_name("mlp_post", layer), each), (site_name("mlp_out", layer), rest)]

    def _writes_itself(self, row: int) -> Callable[[Tensor], None]:
        return lambda value: self._store(row, self.at(value)[None])

    def _through(self, model: TraceModel, layer: int, first: int) -> Callable[[Tensor], None]:
        heads = range(self._arch.n_heads)

        def keep(z: Tensor) -> None:
            self._store(first, heads_received(model, layer, through_output(model, layer, heads, self.at(z))))

        return keep
