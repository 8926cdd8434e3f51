"""The best circuit of n edges without dead ends, as an integer programme.

    maximise  sum_e |score_e| x_e      x_e, y_v in {0, 1}     y_v: node v is in
    so that   sum_e x_e <= n
              x_(u -> v) <= y_u, y_v           an edge joins nodes that are in
              y_v <= sum of x out of v         and a node that is in has an edge out
              y_v <= sum of x into v           and, but for the input, an edge in

(A port that several heads share needs one of them.) Greedy selection cannot pay for a weak edge that opens a strong
one, and takes writers that read nothing: under resampling they write what is ablated. This does neither.
Source: after Nikankin et al. 2025 (circuits by integer programming). Solver: HiGHS through `scipy.optimize.milp`. Cost:
seconds for some thousands of edges, no pass of the model. Circuits of growing n are not nested.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_array
from torch import Tensor

from llmtrace.circuits.graph import Graph
from llmtrace.errors import LimitError

MOST = 10_000  # edges


def integer_edges(graph: Graph, support: Float[Tensor, "node port"], n: int) -> Bool[Tensor, "node port"]:
    """The `n` edges or fewer of largest total magnitude among circuits without dead ends.

    Raises LimitError over `MOST` edges.
    """
    if graph.n_edges > MOST:
        raise LimitError(
            f"Expected at most {MOST:,} edges for an integer programme, got {graph.n_edges:,}; select by 'greedy'."
        )
    edges, rows = graph.real.nonzero(), _Rows(graph.n_edges + len(graph.nodes))
    feeds = [graph.writer_of(port) for port in graph.ports]
    into: dict[int, list[int]] = {}
    for edge, (row, column) in enumerate(edges.tolist()):
        rows.add({edge: 1, rows.node(graph, row): -1})
        if readers := feeds[column]:  # the heads of a group share a port; the logits are always in
            rows.add({edge: 1, **{rows.node(graph, reader): -1 for reader in readers}})
        for reader in readers:
            into.setdefault(reader, []).append(edge)
    for row, node in enumerate(graph.nodes):
        out = (edges[:, 0] == row).nonzero().flatten().tolist()
        rows.add({rows.node(graph, row): 1, **dict.fromkeys(out, -1)})
        if node.reads:
            rows.add({rows.node(graph, row): 1, **dict.fromkeys(into.get(row, []), -1)})
    gain = np.zeros(rows.width)
    gain[: graph.n_edges] = support.abs()[graph.real].double().numpy()
    size = np.concatenate([np.ones(graph.n_edges), np.zeros(len(graph.nodes))])
    scale = max(gain.max(), np.finfo(float).tiny)  # the solver's tolerances are absolute
    found = milp(
        -gain / scale, integrality=np.ones(rows.width), bounds=Bounds(0, 1),
        constraints=[rows.constraint(), LinearConstraint(size[None], ub=n)],
    )  # fmt: skip
    mask = torch.zeros_like(graph.real)
    mask[graph.real] = torch.from_numpy(found.x[: graph.n_edges] > 0.5)
    return mask


class _Rows:
    """Constraints  sum of coefficient x variable <= 0, as they come; edges are the first variables, nodes the rest."""

    def __init__(self, width: int):
        self.width, self._at, self._values, self._count = width, list[tuple[int, int]](), list[float](), 0

    def node(self, graph: Graph, row: int) -> int:
        return graph.n_edges + row

    def add(self, coefficients: dict[int, int]) -> None:
        self._at += [(self._count, variable) for variable in coefficients]
        self._values += coefficients.values()
        self._count += 1

    def constraint(self) -> LinearConstraint:
        at = tuple(np.array(self._at).T)
        return LinearConstraint(coo_array((self._values, at), shape=(self._count, self.width)).tocsr(), ub=0)
