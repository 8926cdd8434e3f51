"""From edge scores to a circuit.

    top         the n edges of largest |score|
    greedy      from the logits down: always the largest |score| among edges into what is already in; nothing dangles
    threshold   every edge whose |score| is the threshold or more, however many they are
    pnr         a share of the n are the edges that support the answer most, the rest the largest |score| of the others
    integer     the largest sum of |score| that n edges without dead ends can have (`integer_programme.py`)

All decide by the mean over prompts, and circuits that grow (in n, or as the threshold falls) are nested (law 40), but
for the integer programme's. Edges that lead nowhere are pruned. An edge supports the answer where patching it lowers
the metric: score < 0, or > 0 if the scores are of denoising or of a distance (kl). Scores without a sign (shares)
support nothing: pnr is then top.

    >>> scores = lt.circuits.eap(model, prompts)
    >>> lt.circuits.select(scores, 100)
    Circuit(100 of 1,519 edges, 23 nodes)
    >>> lt.circuits.select(scores, threshold=0.5)
    Circuit(26 of 1,519 edges, 11 nodes)
"""

from __future__ import annotations

import heapq

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from llmtrace.circuits.circuit import Circuit
from llmtrace.circuits.edge_scores import EdgeScores
from llmtrace.circuits.graph import Graph
from llmtrace.circuits.rows import SELECTIONS
from llmtrace.errors import InputError
from llmtrace.methods import Method


def top_edges(graph: Graph, support: Float[Tensor, "node port"], n: int) -> Bool[Tensor, "node port"]:
    """The `n` edges of largest magnitude; ties go to the earlier edge, so that circuits of growing n are nested."""
    return _largest(support.abs(), graph.real, n)


def threshold_edges(graph: Graph, support: Float[Tensor, "node port"], threshold: float) -> Bool[Tensor, "node port"]:
    """The edges whose magnitude is `threshold` or more."""
    return graph.real & (support.abs() >= threshold)


def pnr_edges(
    graph: Graph, support: Float[Tensor, "node port"], n: int, *, pnr: float = 0.5
) -> Bool[Tensor, "node port"]:
    """`pnr` of the `n` edges by how much they support, as far as there are any; the rest by magnitude."""
    first = _largest(support, graph.real & (support > 0), int(pnr * n))
    return first | _largest(support.abs(), graph.real & ~first, n - int(first.sum()))


def _largest(ranked: Float[Tensor, "node port"], among: Bool[Tensor, "node port"], n: int) -> Bool[Tensor, "node port"]:
    order = ranked.masked_fill(~among, -torch.inf).flatten().argsort(descending=True, stable=True)
    mask = torch.zeros_like(among).flatten()
    mask[order[:n]] = True
    return mask.view_as(among) & among


def greedy_edges(graph: Graph, support: Float[Tensor, "node port"], n: int) -> Bool[Tensor, "node port"]:
    """Grow from the logits: the best edge into a reader that is in brings its writer's own ports in (a heap, one push
    per edge)."""
    magnitude = support.abs()
    mask = torch.zeros_like(graph.real)
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
        for read in graph.columns_of.get(row, []):
            open_port(read)
    return mask


def require_size(graph: Graph, n_edges: int) -> None:
    """Refuse a number of edges that no circuit of this graph has."""
    if not isinstance(n_edges, int) or not 1 <= n_edges <= graph.n_edges:
        raise InputError(
            f"Expected a whole number of edges from 1 to {graph.n_edges:,}, got {n_edges!r}; "
            f"try {min(100, graph.n_edges)}."
        )


def selection_of(
    selection: str | None, *, n_edges: int | None = None, threshold: float | None = None, pnr: float | None = None
) -> Method:
    """The row of `SELECTIONS` that is meant. Refuses what does not go together, before anything is computed."""
    if (n_edges is None) == (threshold is None):
        got = "neither; say how many edges or how large a score" if n_edges is None else "both; leave one out"
        raise InputError(f"Expected n_edges or threshold, got {got}.")
    if threshold is not None and not (isinstance(threshold, int | float) and threshold > 0):
        raise InputError(f"Expected a threshold above 0, in units of the metric, got {threshold!r}; try 0.01.")
    row = SELECTIONS[selection or ("greedy" if threshold is None else "threshold")]
    needed, got = (
        "threshold" if "threshold" in row.needs else "n_edges",
        "n_edges" if threshold is None else "threshold",
    )
    if needed != got:
        raise InputError(f"Expected {needed} for the selection {row.name}, got {got}; give {needed} instead.")
    row.require_options(() if pnr is None else ("pnr",))
    if pnr is not None and not (isinstance(pnr, int | float) and 0 <= pnr <= 1):
        raise InputError(f"Expected pnr as a share of the edges from 0 to 1, got {pnr!r}; 0.5 is the default.")
    return row


def select(
    scores: EdgeScores,
    n_edges: int | None = None,
    *,
    threshold: float | None = None,
    selection: str | None = None,
    prune: bool = True,
    pnr: float | None = None,
) -> Circuit:
    """A circuit of at most `n_edges` edges (fewer where pruning finds dead ends), or of those from `threshold` on.

    selection   a row of `SELECTIONS`: "greedy" where n_edges is given, "threshold" where a threshold is
    pnr         for the selection "pnr": which share of the edges is chosen for supporting the answer

    Raises InputError for a size outside 1..all edges, for both or neither of n_edges and threshold, or for a selection
    that has no use for what is given; NotFoundError for an unknown selection.
    """
    row = selection_of(selection, n_edges=n_edges, threshold=threshold, pnr=pnr)
    graph, options = scores.graph, {} if pnr is None else {"pnr": pnr}
    if n_edges is not None:
        require_size(graph, n_edges)
    mask = row(graph, supporting(scores), threshold if n_edges is None else n_edges, **options)
    size = {"threshold": threshold} if n_edges is None else {"n_edges": n_edges}
    circuit = Circuit(
        graph,
        mask,
        scores=scores.values.cpu(),
        provenance=scores.provenance,
        options={
            **scores.options, "method": scores.method, "metric": scores.metric, "selection": row.name, **size,
            **options,
        },
    )  # fmt: skip
    return circuit.pruned() if prune else circuit


def supporting(scores: EdgeScores) -> Float[Tensor, "node port"]:
    """Mean scores, turned so that positive supports the answer."""
    turned = (scores.options.get("direction") == "denoising") == scores.higher_is_better
    return scores.values.cpu() if turned else -scores.values.cpu()
