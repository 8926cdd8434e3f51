"""Random circuits: what any circuit of this size would reach.

>>> circuit = lt.circuits.discover(model, prompts, n_edges=50)
>>> [one.n_edges for one in lt.circuits.random_circuits(circuit, draws=2)]
[50, 50]
"""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor

from llmtrace.circuits.circuit import Circuit
from llmtrace.circuits.graph import Graph


def random_circuits(circuit: Circuit, draws: int, *, seed: int = 0, matched: bool = True) -> list[Circuit]:
    """Circuits with as many edges as this one, drawn without replacement.

    matched   as many from each layer to each layer too (the input and the logits count as layers), so that size and
              degree per layer are those of the circuit; else from all edges alike
    """
    graph, generator = circuit.graph, torch.Generator().manual_seed(seed)
    blocks = layer_blocks(graph) if matched else torch.zeros(graph.real.shape, dtype=torch.long)
    within, chosen = blocks[graph.real], circuit.mask[graph.real].cpu()
    wanted = torch.bincount(within[chosen], minlength=int(within.max()) + 1)
    found = []
    for _ in range(draws):
        order = torch.randperm(len(within), generator=generator)
        order = order[within[order].argsort(stable=True)]  # blocks one after the other, shuffled inside
        starts = torch.bincount(within, minlength=len(wanted)).cumsum(0).roll(1)
        starts[0] = 0
        rank = torch.arange(len(order)) - starts[within[order]]
        mask = torch.zeros_like(graph.real)
        drawn = torch.zeros(len(within), dtype=torch.bool)
        drawn[order[rank < wanted[within[order]]]] = True
        mask[graph.real] = drawn
        found.append(Circuit(graph, mask))
    return found


def layer_blocks(graph: Graph) -> Int[Tensor, "node port"]:
    """A number for each pair of (layer that writes, layer that reads)."""
    last = graph.n_layers + 1
    writes = torch.tensor([getattr(node, "layer", -1) + 1 for node in graph.nodes])
    reads = torch.tensor([getattr(port.node, "layer", graph.n_layers) + 1 for port in graph.ports])
    return writes[:, None] * (last + 1) + reads[None, :]
