"""A circuit that was found against one that is known: which edges and nodes do they share, and do scores rank them?

    precision = shared / found     recall = shared / known     F1 = 2 shared / (found + known)
    Jaccard = shared / (found or known)

Where there are scores, all edges of the graph are ranked by |score| (as every selection does), and all nodes by their
largest |score| over edges out: a node is in a circuit when one of its edges out is. Of those rankings:

    ROC AUC             the probability that a known edge stands above another one, ties counting half (law 42:
                        perfect 1, reversed 0, constant .5)
    average precision   precision where each known edge is reached, averaged; ties enter together

Source: Conmy et al. 2023 (ROC over edges). Cost: no pass. Known failure: different circuits can do the same, so a low
overlap is no proof of a bad circuit: `evaluate` it; and where nearly all edges are unknown, a high AUC costs little.

    >>> scores = lt.circuits.eap(model, prompts)
    >>> lt.circuits.compare(scores, lt.circuits.select(lt.circuits.eap_ig(model, prompts), 50))
    Comparison(37 of 50 known edges among 50 found, 13 of 13 known nodes among 16: edge F1 0.74, Jaccard 0.59, ROC AUC
    0.987)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from llmtrace.circuits.circuit import Circuit
from llmtrace.circuits.definitions.definition import Definition
from llmtrace.circuits.edge_scores import EdgeScores
from llmtrace.circuits.selection.select import select
from llmtrace.errors import InputError, MismatchError
from llmtrace.nodes import Node
from llmtrace.results import Result

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Overlap:
    """Two sets by their sizes, and how well scores rank the known one (None without scores, or without a negative)."""

    found: int
    known: int
    shared: int
    roc_auc: float | None = None
    average_precision: float | None = None

    @property
    def precision(self) -> float | None:
        """None where nothing was found."""
        return self.shared / self.found if self.found else None

    @property
    def recall(self) -> float | None:
        """None where nothing is known."""
        return self.shared / self.known if self.known else None

    @property
    def f1(self) -> float:
        return 2 * self.shared / (self.found + self.known) if self.found + self.known else 0.0

    @property
    def jaccard(self) -> float:
        union = self.found + self.known - self.shared
        return self.shared / union if union else 0.0


@dataclass(frozen=True, eq=False)
class Comparison(Result):
    """`roles`: of each role of the known circuit, how many of its nodes were found.

    It has no figure: these are a few numbers, and `df()` shows them all; `lt.plot` draws either circuit."""

    found: Circuit
    known: Circuit
    edges: Overlap
    nodes: Overlap
    roles: Mapping[str, Overlap]
    caveats: tuple[str, ...] = ()

    @property
    def missed(self) -> tuple[Node, ...]:
        """Known nodes that were not found."""
        found = set(self.found.nodes)
        return tuple(node for node in self.known.nodes if node not in found)

    @property
    def extra(self) -> tuple[Node, ...]:
        """Found nodes that are not known."""
        known = set(self.known.nodes)
        return tuple(node for node in self.found.nodes if node not in known)

    def df(self) -> pd.DataFrame:
        """One row for edges, one for nodes and one per role, where only recall has a meaning."""
        import pandas as pd

        columns = ("found", "known", "shared", "precision", "recall", "f1", "jaccard", "roc_auc", "average_precision")
        rows = [
            {"over": name, **{column: getattr(overlap, column) for column in columns}}
            for name, overlap in (("edges", self.edges), ("nodes", self.nodes))
        ]
        rows += [
            {"over": role, "known": overlap.known, "shared": overlap.shared, "recall": overlap.recall}
            for role, overlap in self.roles.items()
        ]
        return pd.DataFrame(rows, columns=["over", *columns])

    def __repr__(self) -> str:
        auc = "" if self.edges.roc_auc is None else f", ROC AUC {self.edges.roc_auc:.3f}"
        return (
            f"Comparison({self.edges.shared:,} of {self.edges.known:,} known edges among {self.edges.found:,} found, "
            f"{self.nodes.shared} of {self.nodes.known} known nodes among {self.nodes.found}: edge F1 "
            f"{self.edges.f1:.2f}, Jaccard {self.edges.jaccard:.2f}{auc}"
            f"{''.join(f'; {caveat}' for caveat in self.caveats)})"
        )

    def _repr_html_(self) -> str:
        return f"<p>{self!r}</p>" + str(self.df().to_html(index=False))


def compare(found: Circuit | EdgeScores, known: Circuit | Definition) -> Comparison:
    """`found` against `known`. Scores alone are cut at as many edges as are known, so that precision is recall there.

    A known circuit's own scores play no part. Raises MismatchError for circuits of different graphs, InputError for a
    known circuit without edges or for scores that are no numbers.
    """
    reference = known if isinstance(known, Circuit) else known.circuit(found.graph)
    if reference.graph != found.graph:
        raise MismatchError(
            f"Expected circuits of one graph, got {found.graph} and {reference.graph}; compare like with like."
        )
    if not reference.n_edges:
        raise InputError("Expected a known circuit with edges, got one without any; there is nothing to find.")
    if isinstance(found, EdgeScores):
        values: Tensor | None = found.values.detach().cpu()
        circuit = select(found, reference.n_edges, selection="top", prune=False)
    else:
        values, circuit = None if found.scores is None else found.scores.detach().cpu(), found
    real, caveats = reference.graph.real, []
    edges, nodes = (None, None) if values is None else _rankings(values, reference)
    if values is not None and circuit.n_edges < int(real.sum()) and not bool(values[real & ~circuit.mask].any()):
        caveats.append("every edge outside the found circuit scores 0 (files keep no others), so they count as tied")
    return Comparison(
        found=circuit,
        known=reference,
        edges=_overlap(circuit.mask, reference.mask, edges),
        nodes=_overlap(circuit.mask.any(1), reference.mask.any(1), nodes),
        roles=_by_role(reference.roles, circuit),
        caveats=tuple(caveats),
    )


def roc_auc(scores: Float[Tensor, " item"], truth: Bool[Tensor, " item"]) -> float:
    """The probability that a true item has the larger score, ties counting half (Mann-Whitney, by midranks).

    Raises InputError where all items are true, or none is, or a score is NaN.
    """
    _require_both(scores, truth)
    _, group, size = scores.unique(return_inverse=True, return_counts=True)
    midrank = (size.cumsum(0).double() - (size.double() - 1) / 2)[group]
    true = int(truth.sum())
    return (midrank[truth].sum().item() - true * (true + 1) / 2) / (true * (len(truth) - true))


def average_precision(scores: Float[Tensor, " item"], truth: Bool[Tensor, " item"]) -> float:
    """Precision at the rank of each true item, averaged; items of one score enter together.

    Raises InputError where all items are true, or none is, or a score is NaN.
    """
    _require_both(scores, truth)
    _, group, size = scores.unique(return_inverse=True, return_counts=True)
    true = torch.zeros_like(size).index_add_(0, group[truth], torch.ones_like(group[truth]))
    taken, right = size.flip(0).cumsum(0), true.flip(0).cumsum(0)
    return (true.flip(0) * right.double() / taken).sum().item() / int(truth.sum())


def _require_both(scores: Tensor, truth: Tensor) -> None:
    if not 0 < int(truth.sum()) < len(truth):
        raise InputError(
            f"Expected true and false items to tell apart, got {int(truth.sum())} true of {len(truth)}; "
            "a ranking of one kind says nothing."
        )
    if bool(scores.isnan().any()):
        raise InputError("Expected scores that are numbers, got NaN; look for it in the model's activations.")


def _rankings(values: Float[Tensor, "node port"], known: Circuit) -> tuple[tuple[float, float] | None, ...]:
    """(ROC AUC, average precision) over the graph's edges and over its nodes; None where everything is known."""
    graph, size = known.graph, values.abs()
    over = (size[graph.real], known.mask[graph.real]), (size.where(graph.real, 0).amax(1), known.mask.any(1))
    return tuple(
        (roc_auc(scores, truth), average_precision(scores, truth)) if not bool(truth.all()) else None
        for scores, truth in over
    )


def _overlap(found: Tensor, known: Tensor, ranking: tuple[float, float] | None) -> Overlap:
    auc, precision = ranking or (None, None)
    return Overlap(int(found.sum()), int(known.sum()), int((found & known).sum()), auc, precision)


def _by_role(roles: Mapping[str, tuple[Node, ...]], found: Circuit) -> dict[str, Overlap]:
    """Of each role the nodes that the found circuit has; an MLP counts when one of its neurons is there."""
    nodes = set(found.nodes)
    nodes |= {node.whole for node in nodes}
    shared = {role: len(nodes.intersection(members)) for role, members in roles.items()}
    return {role: Overlap(shared[role], len(set(members)), shared[role]) for role, members in roles.items()}
