"""`MonitorStudy`: what each monitor is worth, beside what it must beat."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jaxtyping import Bool, Float
from torch import Tensor

from llmtrace.audit.evidence.calibration import Platt, ece
from llmtrace.audit.evidence.prove import Proof
from llmtrace.audit.evidence.roc import Estimate, auroc, bootstrapped, interval, share, tpr_at
from llmtrace.audit.watch import Watch
from llmtrace.errors import NotFoundError, did_you_mean
from llmtrace.results import Result

if TYPE_CHECKING:
    import pandas as pd

RATES = (0.01, 0.05)


@dataclass(frozen=True, eq=False)
class MonitorStudy(Result):
    """One row per monitor, then the baselines.

    watches      as they were fitted
    roles        "monitor" or "baseline"
    threshold    above it a prompt raises an alarm: at most `rate` of the False prompts of the calibration do
    alarms       of these prompts, whether they do: the rate that was kept there
    platt        how a value is read as a probability
    values       on the prompts of the test, whose `labels` are what the model did
    proofs       what intervening on what is watched did
    kinds        of prompts, by step
    """

    watches: tuple[Watch, ...]
    roles: tuple[str, ...]
    threshold: tuple[float, ...]
    alarms: Bool[Tensor, "monitor false"]
    platt: tuple[Platt, ...]
    values: Float[Tensor, "monitor test"]
    labels: Bool[Tensor, " test"]
    proofs: tuple[Proof, ...]
    kinds: Mapping[str, tuple[str, ...]]
    meaning: str
    rate: float
    seed: int
    provenance: Mapping[str, Any]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(watch.monitor for watch in self.watches)

    def row(self, monitor: str) -> int:
        """Raises NotFoundError for one that was not studied."""
        if monitor not in self.names:
            raise NotFoundError(
                f"Expected a studied monitor, one of {', '.join(self.names)}; got {monitor!r}."
                + did_you_mean(monitor, [*self.names])
            )
        return self.names.index(monitor)

    def watch(self, monitor: str) -> Watch:
        """As it was fitted."""
        return self.watches[self.row(monitor)]

    def auroc(self, monitor: str) -> Estimate:
        """On held-out kinds, with its bootstrap interval over prompts."""
        row = self.row(monitor)
        low, high = interval(bootstrapped(self.values[[row]], self.labels, seed=self.seed)[0])
        return auroc(self.values[row], self.labels), low, high

    def above_baselines(self, monitor: str) -> Estimate:
        """AUROC less that of the best baseline, both on the same resampled prompts: below 0 it has shown nothing."""
        row = self.row(monitor)
        rivals = [i for i, role in enumerate(self.roles) if role == "baseline" and i != row]
        best = max(rivals, key=lambda i: auroc(self.values[i], self.labels))
        draws = bootstrapped(self.values[[row, best]], self.labels, seed=self.seed)
        low, high = interval(draws[0] - draws[1])
        return auroc(self.values[row], self.labels) - auroc(self.values[best], self.labels), low, high

    def false_positives(self, monitor: str) -> Estimate:
        """Share of the False prompts of the test that raise an alarm, with its exact interval."""
        row = self.row(monitor)
        return share(self.values[row][~self.labels].double() > self.threshold[row])

    def calibration_error(self, monitor: str) -> float:
        """ECE on the test, of the probability that the calibration reads into a value."""
        row = self.row(monitor)
        return ece(self.platt[row].probability(self.values[row]), self.labels)

    def df(self) -> pd.DataFrame:
        """One row per monitor. `above`: AUROC less the best baseline's; `beats`: for sure (its interval is above 0)."""
        import pandas as pd

        rows = []
        for i, (name, watch, role, proof) in enumerate(
            zip(self.names, self.watches, self.roles, self.proofs, strict=True)
        ):
            value, low, high = self.auroc(name)
            above, above_low, _ = self.above_baselines(name)
            kept, kept_low, kept_high = share(self.alarms[i])
            rows.append(
                {
                    "monitor": name, "role": role, "auroc": value, "auroc_low": low, "auroc_high": high,
                    "above": above, "beats": above_low > 0,
                    **{f"tpr_at_{rate:.0%}": tpr_at(self.values[i], self.labels, rate) for rate in RATES},
                    "threshold": self.threshold[i], "fpr": kept, "fpr_low": kept_low, "fpr_high": kept_high,
                    "fpr_test": self.false_positives(name)[0], "ece": self.calibration_error(name),
                    "effect": proof.effect, "effect_low": proof.low, "effect_high": proof.high,
                    "effect_by_lot": proof.by_lot, "p": proof.p, "verdict": proof.verdict,
                    "extra_passes": watch.passes,
                }
            )  # fmt: skip
        return pd.DataFrame(rows)

    def __repr__(self) -> str:
        told = "; ".join(
            f"{name} {auroc(self.values[i], self.labels):.2f} {self.proofs[i].verdict}"
            for i, name in enumerate(self.names)
            if self.roles[i] == "monitor"
        )
        return f"MonitorStudy({self.meaning}; AUROC on {', '.join(self.kinds['test'])}: {told})"
