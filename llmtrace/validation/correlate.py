"""A score held against an intervention: how far may the score be trusted, on this prompt set?

    loss(u) = metric before - metric with u ablated or patched          what u was carrying
    rank correlation    Spearman's rho between score and loss over nodes
    explained(k)        share of the sum of |loss| that belongs to the k nodes of largest |score|

Scores and effects are per node means over prompts. Source: Kramar et al. 2024 (verification of attribution patching).
Cost: none beyond the two results. Sign: a score that raises the metric should come with a positive loss.
Known failure: a node that acts through others has a loss and no direct score; a backed-up node the reverse.

    >>> scores = lt.influence.direct_logit_attribution(model, prompts)
    >>> effects = lt.interventions.path_patch(model, prompts)
    >>> lt.validation.correlate(scores, effects)
    Validation(direct_logit_attribution against path_patch (heads frozen, noising) on logit_diff: 32 nodes, rank
      correlation +0.40)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from scipy.stats import spearmanr
from torch import Tensor

from llmtrace.errors import InputError, MismatchError
from llmtrace.influence import NodeScores
from llmtrace.interventions import Effects
from llmtrace.models import taken_from
from llmtrace.nodes import Node
from llmtrace.results import Result

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class Validation(Result):
    """Score and loss of the nodes that both results have, in the order of the effects."""

    nodes: tuple[Node, ...]
    score: Float[Tensor, " node"]
    loss: Float[Tensor, " node"]
    low: Float[Tensor, " node"]  # 95 % bootstrap interval of the loss over prompts
    high: Float[Tensor, " node"]
    method: str
    test: str
    metric: str
    provenance: Mapping[str, Any]

    @property
    def rank_correlation(self) -> float:
        """Spearman's rho: 1 when the score orders the nodes as the intervention does, NaN when either is constant."""
        if len(set(self.score.tolist())) == 1 or len(set(self.loss.tolist())) == 1:
            return float("nan")
        return float(spearmanr(self.score.tolist(), self.loss.tolist()).statistic)

    def explained(self, k: int) -> float:
        """Share of the whole |loss| that the k nodes of largest |score| carry. 1 when k is all of them."""
        if not 1 <= k <= len(self.nodes):
            raise InputError(f"Expected k from 1 to {len(self.nodes)}, got {k}.")
        chosen = self.score.abs().argsort(descending=True)[:k]
        return (self.loss[chosen].abs().sum() / self.loss.abs().sum()).item()

    def verdicts(self, threshold: float) -> tuple[str, ...]:
        """Per node: "confirmed", "opposite sign", "not confirmed", "missed", or "-" where neither says anything.

        `threshold`: what a score or a loss must reach to count, in units of the metric; a loss counts only when its
        interval lies on one side of zero.
        """
        claimed = self.score.abs() >= threshold
        tested = (self.loss.abs() >= threshold) & ((self.low > 0) == (self.high > 0))
        agree = (self.score > 0) == (self.loss > 0)
        return tuple(map(_verdict, claimed.tolist(), tested.tolist(), agree.tolist()))

    def df(self) -> pd.DataFrame:
        """One row per node, largest score first."""
        import pandas as pd

        table = pd.DataFrame(
            {
                "node": [node.label for node in self.nodes],
                "score": self.score.tolist(),
                "loss": self.loss.tolist(),
                "low": self.low.tolist(),
                "high": self.high.tolist(),
            }
        )
        return table.sort_values("score", key=abs, ascending=False, ignore_index=True)

    def __repr__(self) -> str:
        return (
            f"Validation({self.method} against {self.test} on {self.metric}: {len(self.nodes)} nodes, "
            f"rank correlation {self.rank_correlation:+.2f})"
        )

    def _repr_html_(self) -> str:
        return f"<p>{self!r}</p>" + str(self.df().to_html(max_rows=12))


def correlate(scores: NodeScores, effects: Effects, *, seed: int = 0) -> Validation:
    """Compare the scores with the effect of intervening on the same nodes of the same model.

    Raises InputError for scores of other things than nodes, MismatchError when both share no node, or come from other
    weights, another metric or (as far as the clean metric tells) other prompts.
    """
    if not isinstance(scores, NodeScores) or not isinstance(effects, Effects):
        raise InputError(
            f"Expected NodeScores and Effects, got {type(scores).__name__} and {type(effects).__name__}; "
            "other scores are held against a model: validate(model, prompts, scores)."
        )
    for what, ours, theirs in (
        ("metric", scores.metric, effects.metric),
        ("number of prompts", scores.values.shape[1], len(effects.before)),
        ("model and hooks", taken_from(scores.provenance), taken_from(effects.provenance)),
    ):
        if ours != theirs:
            raise MismatchError(
                f"Expected scores and effects of the same {what}, got {ours} and {theirs}; compute both again."
            )
    if scores.total is not None and not torch.allclose(scores.total.cpu().float(), effects.before.float(), atol=1e-2):
        raise MismatchError(
            "Expected scores and effects of the same prompts, got clean runs of another metric; compute both again."
        )
    known = {node: row for row, node in enumerate(scores.nodes)}
    shared = [(index, known[one]) for index, (one, *more) in enumerate(effects.nodes) if not more and one in known]
    if len(shared) < 2:
        raise MismatchError(
            f"Expected at least two nodes in both results, got {len(shared)}; intervene on one node at a time, "
            "on nodes that have scores."
        )
    tested, scored = map(list, zip(*shared, strict=True))
    low, high = effects.interval(seed=seed)
    return Validation(
        nodes=tuple(effects.nodes[index][0] for index in tested),
        score=scores.mean()[scored].detach().double().cpu(),
        loss=-effects.mean()[tested].detach().double().cpu(),
        low=-torch.as_tensor(high)[tested].double(),
        high=-torch.as_tensor(low)[tested].double(),
        method=scores.method,
        test=effects.told,
        metric=scores.metric,
        provenance=scores.provenance,
    )


def _verdict(claimed: bool, tested: bool, agree: bool) -> str:
    if claimed and tested:
        return "confirmed" if agree else "opposite sign"
    if tested:
        return "missed"
    return "not confirmed" if claimed else "-"
