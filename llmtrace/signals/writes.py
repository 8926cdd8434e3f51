"""What every node writes into the residual stream, in one source-major buffer.

    final residual = sum of writes + sum of biases (b_O, b_out)                              (law 2)

Source-major means "all writers before layer l" is a contiguous view, which is what edge methods multiply.
Cost: one forward pass. Memory: nodes x batch x pos x d_model.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from einops import einsum
from jaxtyping import Float, Int
from torch import Tensor

from llmtrace.models import TraceModel, attention_weights, describe, final_residual
from llmtrace.nodes import Embed, Head, Mlp, Node
from llmtrace.signals.capture import select_positions
from llmtrace.signals.sites import site_name


@dataclass(frozen=True, eq=False)
class Writes:
    """`values[i]` is what `nodes[i]` wrote; MLP writes include b_out, head writes exclude b_O."""

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


def writers(arch: Shape) -> tuple[Node, ...]:
    """All writers in the order of the field's circuit files: input, then per layer the heads and the MLP."""
    found: list[Node] = [Embed()]
    for layer in range(arch.n_layers):
        found += [Head(layer, head) for head in range(arch.n_heads)]
        found += [] if arch.attn_only else [Mlp(layer)]
    return tuple(found)


@torch.no_grad()
def node_writes(
    model: TraceModel, tokens: Int[Tensor, "batch pos"], positions: Int[Tensor, "batch n"] | None = None
) -> Writes:
    """The writes of all nodes on `tokens`, at all positions or at `n` chosen ones per prompt."""
    arch = describe(model)
    arch.require_pre_norm("Splitting the residual stream into writes")
    nodes = writers(arch)
    width = tokens.shape[1] if positions is None else positions.shape[1]
    buffer: list[Tensor] = []

    def store(index: int, value: Tensor) -> None:
        if not buffer:
            buffer.append(value.new_empty(len(nodes), len(tokens), width, arch.d_model))
        buffer[0][index] = value

    def at(value: Tensor) -> Tensor:
        return value if positions is None else select_positions(value, positions, 1)

    def keep_input(value: Tensor) -> None:
        store(0, at(value))

    def keep_heads(layer: int, first: int) -> Callable[[Tensor], None]:
        W_O = attention_weights(model, layer).W_O

        def keep(z: Tensor) -> None:
            written = einsum(at(z), W_O, "batch pos head d_head, head d_head d_model -> head batch pos d_model")
            for head, write in enumerate(written):
                store(first + head, write)

        return keep

    def keep_mlp(index: int) -> Callable[[Tensor], None]:
        return lambda value: store(index, at(value))

    hooks: list[tuple[str, Callable[[Tensor], None]]] = [(site_name("resid_pre", 0), keep_input)]
    for layer in range(arch.n_layers):
        first = nodes.index(Head(layer, 0))
        hooks.append((site_name("z", layer), keep_heads(layer, first)))
        if not arch.attn_only:
            hooks.append((site_name("mlp_out", layer), keep_mlp(first + arch.n_heads)))
    final = final_residual(model, tokens, hooks)
    return Writes(nodes, buffer[0], at(final))
