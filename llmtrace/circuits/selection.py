"""From edge scores to a circuit.

    top      the n edges of largest |score|; circuits of growing n are nested (law 40)
    greedy   from the logits down: always the largest |score| among edges into what is already in, so nothing dangles

Both decide by the mean over prompts; edges that lead nowhere are pruned from `top`.
"""

from __future__ import annotations

import heapq

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from llmtrace.circuits.circuit import Circuit
from llmtrace.circuits.graph import Graph
from llmtrace.circuits.scores import EdgeScores
from llmtrace.errors import InputError
from llmtrace.methods import Method, Table


def top_edges(graph: Graph, magnitude: Float[Tensor, "node port"], n: int) -> Bool[Tensor, "node port"]:
    """The `n` edges of largest magnitude; ties go to the earlier edge, so that circuits of growing n are nested."""
    ranked = magnitude.masked_fill(~graph.real, -torch.inf).flatten()
    mask = torch.zeros_like(graph.real).flatten()
    mask[ranked.argsort(descending=True, stable=True)[:n]] = True
    return mask.view_as(graph.real)


def greedy_edges(graph: Graph, magnitude: Float[Tensor, "node port"], n: int) -> Bool[Tensor, "node port"]:
    """Grow from the logits: the best edge into a reader that is in brings its writer's own ports in (a heap, one push
    per edge)."""
    mask = torch.zeros_like(graph.real)
    ports_of_row: dict[int, list[int]] = {}
    for column, port in enumerate(graph.ports):
        for row in graph.writer_of(port):
            ports_of_row.setdefault(row, []).append(column)
    heap: list[tuple[float, int, int]] = []
    opened: set[int] = set()

    def open_port(column: int) -> None:
        if column in opened:
            return
        opened.add(column)
        rows = graph.real[:, column].nonzero().flatten().tolist()
        for row, size in zip(rows, magnitude[rows, column].tolist(), strict=True):
            heapq.heappush(heap, (-size, row, column))

    open_port(len(graph.ports) - 1)
    for _ in range(n):
        if not heap:
            break
        _, row, column = heapq.heappop(heap)
        mask[row, column] = True
        for read in ports_of_row.get(row, []):
            open_port(read)
    return mask


SELECTIONS = Table(
    "selection",
    Method("top", top_edges, "largest |score|", "Syed et al. 2023"),
    Method("greedy", greedy_edges, "largest |score| into what is already in, from the logits", "Hanna et al. 2024"),
)


def require_size(graph: Graph, n_edges: int) -> None:
    """Refuse a number of edges that no circuit of this graph has."""
    if not isinstance(n_edges, int) or not 1 <= n_edges <= graph.n_edges:
        raise InputError(
            f"Expected a whole number of edges from 1 to {graph.n_edges:,}, got {n_edges!r}; "
            f"try {min(100, graph.n_edges)}."
        )


def select(scores: EdgeScores, n_edges: int, *, selection: str = "greedy", prune: bool = True) -> Circuit:
    """A circuit of at most `n_edges` edges (fewer where pruning finds dead ends).

    Raises InputError for a size outside 1..all edges, NotFoundError for an unknown selection.
    """
    graph = scores.graph
    require_size(graph, n_edges)
    mask = SELECTIONS[selection].function(graph, scores.values.abs().cpu(), n_edges)
    circuit = Circuit(
        graph,
        mask,
        scores=scores.values.cpu(),
        provenance=scores.provenance,
        options={
            "method": scores.method, "metric": scores.metric, "selection": selection, "n_edges": n_edges,
            **scores.options,
        },
    )  # fmt: skip
    return circuit.pruned() if prune else circuit
