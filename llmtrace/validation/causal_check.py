"""`CausalCheck`: what scores said, what intervening did, and how well the one foretold the other, beside baselines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from jaxtyping import Bool, Float
from torch import Tensor

from llmtrace.errors import NotFoundError, did_you_mean
from llmtrace.results import Result
from llmtrace.statistics import bootstrap_interval, bootstrap_ratio
from llmtrace.validation.checks.deletion_curves import Curves

if TYPE_CHECKING:
    import pandas as pd

STATISTICS = ("rank_correlation", "size_correlation", "top_share", "deletion", "insertion")
Estimate = tuple[float, float, float]  # value, and its interval


@dataclass(frozen=True, eq=False)
class CausalCheck(Result):
    """One row per method: the checked scores, then the intervention itself ("oracle") and the baselines.

    rank_correlation   Spearman's rho of score and loss, per prompt; 0 where a score is constant
    size_correlation   the same of |score| and |loss|: what a method without signs can know
    top_share          share of the sum of |loss| that the k things of largest |score| carry
    deletion           area under the metric while things go in order of the score; small is good. 1: nothing is lost
    insertion          area while they come back in that order; large is good. 0: nothing is won
    loss               what the metric loses without each thing alone
    """

    methods: tuple[str, ...]
    roles: tuple[str, ...]  # "score", "oracle", "baseline"
    names: tuple[tuple[str, ...], ...]  # of each thing, per prompt
    there: Bool[Tensor, "batch unit"]
    scores: Float[Tensor, "method batch unit"]  # of "random": the first draw
    loss: Float[Tensor, "batch unit"]
    rank: Float[Tensor, "method batch"]
    size_rank: Float[Tensor, "method batch"]
    share: Float[Tensor, "method batch"]
    curves: Curves
    what: str  # "tokens", "spans", "nodes"
    test: str
    metric: str
    k: int
    passes: float
    seed: int
    provenance: Mapping[str, Any]
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def rank_correlation(self) -> float:
        """Of the first method: mean over prompts."""
        return self.estimate("rank_correlation")[0]

    def row(self, method: str) -> int:
        """Raises NotFoundError for a method that was not checked."""
        if method not in self.methods:
            raise NotFoundError(
                f"Expected a checked method, one of {', '.join(self.methods)}; got {method!r}."
                + did_you_mean(method, list(self.methods))
            )
        return self.methods.index(method)

    def estimate(self, statistic: str, method: str | None = None, *, level: float = 0.95) -> Estimate:
        """(mean over prompts, low, high) of one of `STATISTICS`; bootstrap over prompts. `method`: default the first.

        Areas are ratios of means: 1 is the clean run, 0 the run without anything; NaN unless `has_scale`.
        """
        index = 0 if method is None else self.row(method)
        if statistic not in STATISTICS:
            raise NotFoundError(
                f"Expected a statistic, one of {', '.join(STATISTICS)}; got {statistic!r}."
                + did_you_mean(statistic, list(STATISTICS))
            )
        if statistic in ("deletion", "insertion"):
            return self._area(statistic, index, level)
        table = {"rank_correlation": self.rank, "size_correlation": self.size_rank, "top_share": self.share}
        values = table[statistic][index]
        values = values[~values.isnan()]
        if not len(values):
            return (float("nan"),) * 3
        low, high = bootstrap_interval(values, level=level, seed=self.seed)
        return values.mean().item(), low.item(), high.item()

    def curve(self, kind: str, *, level: float = 0.95) -> tuple[Tensor, Tensor, Tensor]:
        """[method step] (value, low, high) of "deletion" or "insertion" at equal shares of what was moved; NaN unless
        `has_scale`."""
        values, whole = self.curves.on_grid(kind) - self.curves.removed, self._whole
        if not self.has_scale:
            return (values.mean(-1) * float("nan"),) * 3
        low, high = bootstrap_ratio(values, whole, level=level, seed=self.seed)
        return values.mean(-1) / whole.mean(), low, high

    @property
    def has_scale(self) -> bool:
        """Whether the clean run and the run without anything differ for sure, so that shares of the way can be stated:
        the interval of their mean difference leaves out 0."""
        low, high = bootstrap_interval(self._whole, seed=self.seed)
        least = 1e-6 * float(self.curves.clean.abs().mean())
        return bool(low > least or high < -least)

    def line(self, method: str) -> str:
        """The check in a few words, for a figure's heading."""
        rho, low, high = self.estimate("rank_correlation", method)
        others = [m for m, role in zip(self.methods, self.roles, strict=True) if role == "baseline" and m != method]
        beside = ", ".join(f"{m.replace('_', ' ')} {self.estimate('rank_correlation', m)[0]:+.2f}" for m in others)
        own = " (it is the intervention)" if self.roles[self.row(method)] == "oracle" else ""
        return f"rank correlation with {self.test} {rho:+.2f} [{low:+.2f}, {high:+.2f}]{own}; {beside}"

    def df(self) -> pd.DataFrame:
        """One row per method: its role, each statistic with its interval, and on how many prompts there was an order to
        find."""
        import pandas as pd

        rows = []
        for method, role in zip(self.methods, self.roles, strict=True):
            row: dict[str, Any] = {"method": method, "role": role}
            for name in STATISTICS:
                row[name], row[f"{name}_low"], row[f"{name}_high"] = self.estimate(name, method)
            rows.append({**row, "prompts": int((~self.rank[self.row(method)].isnan()).sum())})
        return pd.DataFrame(rows)

    def units(self, method: str | None = None) -> pd.DataFrame:
        """One row per prompt and thing: what a method (default: the first) said of it, and what was lost without it."""
        import pandas as pd

        index = 0 if method is None else self.row(method)
        rows = [
            (prompt, self.names[prompt][unit], self.scores[index, prompt, unit].item(), self.loss[prompt, unit].item())
            for prompt, unit in self.there.nonzero().tolist()
        ]
        return pd.DataFrame(rows, columns=["prompt", self.what.removesuffix("s"), "score", "loss"])

    @property
    def _whole(self) -> Float[Tensor, " batch"]:
        return self.curves.clean - self.curves.removed

    def _area(self, kind: str, index: int, level: float) -> Estimate:
        if not self.has_scale:
            return (float("nan"),) * 3
        whole = self._whole
        values = self.curves.areas(kind)[index] - self.curves.removed
        low, high = bootstrap_ratio(values, whole, level=level, seed=self.seed)
        return (values.mean() / whole.mean()).item(), low.item(), high.item()

    def __repr__(self) -> str:
        said = "; ".join(
            "{} {:+.2f} [{:+.2f}, {:+.2f}]".format(method, *self.estimate("rank_correlation", method))
            for method, role in zip(self.methods, self.roles, strict=True)
            if role == "score" or len(set(self.roles)) < 3
        )
        return (
            f"CausalCheck({self.what} against {self.test} on {self.metric}, {len(self.loss)} prompts; "
            f"rank correlation: {said})"
        )

    def _repr_html_(self) -> str:
        import html

        return f"<p>{html.escape(repr(self))}</p>" + str(self.df().to_html(float_format=lambda value: f"{value:.2f}"))
