"""`AuditReport`: what a policy found in prompts, and what each finding rests on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jaxtyping import Float
from torch import Tensor

from llmtrace.audit.evidence.roc import Estimate
from llmtrace.audit.policy import SEVERITIES
from llmtrace.errors import require_one_of
from llmtrace.results import Result

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class Finding:
    """A prompt at which a monitor lies above its threshold.

    evidence   what is watched: heads, layers, spans
    remedy     the span without which the value is no longer above the threshold, and the value then; "" for none alone
    """

    prompt: int
    text: str
    monitor: str
    severity: str
    value: float
    threshold: float
    false_positives: Estimate
    verdict: str
    evidence: Mapping[str, Any]
    remedy: str = ""
    without: float = float("nan")


@dataclass(frozen=True, eq=False)
class AuditReport(Result):
    """`values` of every rule on every prompt, and `findings`, the gravest first."""

    monitors: tuple[str, ...]
    values: Float[Tensor, "rule batch"]
    findings: tuple[Finding, ...]
    texts: tuple[str, ...]
    meaning: str
    provenance: Mapping[str, Any]

    def reaches(self, severity: str) -> bool:
        """Whether a finding is as grave as that, or graver."""
        require_one_of("severity", SEVERITIES, severity)
        return any(SEVERITIES.index(one.severity) >= SEVERITIES.index(severity) for one in self.findings)

    def df(self) -> pd.DataFrame:
        """One row per finding."""
        import pandas as pd

        rows = [
            (
                one.prompt, one.monitor, one.severity, one.value, one.threshold, one.false_positives[0], one.verdict,
                one.remedy, one.without, one.text,
            )
            for one in self.findings
        ]  # fmt: skip
        return pd.DataFrame(
            rows,
            columns=[
                "prompt", "monitor", "severity", "value", "threshold", "fpr", "verdict", "remedy", "without", "text",
            ],
        )  # fmt: skip

    def __repr__(self) -> str:
        grave = Counter(one.severity for one in self.findings)
        told = ", ".join(f"{grave[severity]} {severity}" for severity in reversed(SEVERITIES) if grave[severity])
        return (
            f"AuditReport({self.values.shape[1]} prompts, {len(self.findings)} findings{': ' + told if told else ''})"
        )
