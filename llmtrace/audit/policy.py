"""`Policy`: which monitors watch, above which value they raise an alarm, and how grave that is.

    policy = lt.audit.Policy.of(found, ["span_attention"], severity="high")      from a study
    policy.save("policy")                                                        policy.yaml, and a safetensors file
    each lt.audit(model, prompts, lt.audit.Policy.load("policy"))

The YAML is for people to read and change: severities, thresholds, which rules there are. Monitors are named by file and
by its hash; nothing is ever unpickled. A policy belongs to the weights that it was fitted on, and another model is
refused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmtrace.audit.evidence.roc import Estimate, share
from llmtrace.audit.monitor_study import MonitorStudy
from llmtrace.audit.watch import Watch, require_same_weights
from llmtrace.errors import FileFormatError, InputError, MismatchError, NotFoundError, require_one_of
from llmtrace.files import atomic_folder, require_schema
from llmtrace.models import TraceModel
from llmtrace.results import Result, load_result

if TYPE_CHECKING:
    import pandas as pd

KIND, VERSION, FILE = "llmtrace.policy", 1, "policy.yaml"
SEVERITIES = ("info", "low", "medium", "high", "critical")


@dataclass(frozen=True, eq=False)
class Rule(Result):
    """An alarm where `watch` gives more than `threshold`.

    false_positives   share of harmless prompts of the calibration that raised it, and its exact interval
    verdict           of the causal step: "causal", "correlate", "untested", "the other way"
    """

    watch: Watch
    threshold: float
    severity: str = "medium"
    false_positives: Estimate = (float("nan"),) * 3
    verdict: str = "untested"

    def __post_init__(self) -> None:
        require_one_of("severity", SEVERITIES, self.severity)
        if not abs(self.threshold) < float("inf"):
            raise InputError(f"Expected a threshold for {self.watch.monitor} that is a number, got {self.threshold}.")


@dataclass(frozen=True, eq=False)
class Policy(Result):
    """Rules, and the model that they were fitted on."""

    rules: tuple[Rule, ...]
    meaning: str
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.rules:
            raise InputError("Expected at least one rule, got none; take a monitor of a study: Policy.of(study).")

    @classmethod
    def of(cls, study: MonitorStudy, monitors: Sequence[str] | None = None, *, severity: str = "medium") -> Policy:
        """Rules of some monitors of a study (None: those that beat the baselines for sure) at its thresholds.

        Raises NotFoundError for a monitor that was not studied, InputError where none is left.
        """
        if monitors is None:
            table = study.df()
            monitors = table.loc[(table["role"] == "monitor") & table["beats"], "monitor"].tolist()
            if not monitors:
                raise InputError(
                    "Expected a monitor that beats the baselines for sure, got none in this study; name those that you "
                    "want to run all the same: Policy.of(study, ['span_attention'])."
                )
        rows = [study.row(name) for name in monitors]
        rules = tuple(
            Rule(study.watches[i], study.threshold[i], severity, share(study.alarms[i]), study.proofs[i].verdict)
            for i in rows
        )
        return cls(rules, study.meaning, study.provenance)

    def require_model(self, model: TraceModel) -> None:
        """Refuse another model than it was fitted on."""
        require_same_weights("this policy", self.provenance, model)

    def df(self) -> pd.DataFrame:
        """One row per rule."""
        import pandas as pd

        return pd.DataFrame(
            [
                (rule.watch.monitor, rule.threshold, rule.severity, *rule.false_positives, rule.verdict)
                for rule in self.rules
            ],
            columns=["monitor", "threshold", "severity", "fpr", "fpr_low", "fpr_high", "verdict"],
        )

    def save(self, path: str | Path) -> Path:
        """Write a new folder: policy.yaml and a file for each monitor, all of it or nothing."""
        import yaml

        with atomic_folder(path) as draft:
            rules = []
            for number, rule in enumerate(self.rules):
                file = f"{number}_{rule.watch.monitor}.safetensors"
                rule.watch.save(draft / file)
                rules.append(
                    {
                        "monitor": file, "sha256": _hash(draft / file), "threshold": rule.threshold,
                        "severity": rule.severity, "false_positives": [float(end) for end in rule.false_positives],
                        "verdict": rule.verdict,
                    }
                )  # fmt: skip
            told = {
                "kind": KIND, "schema_version": VERSION, "meaning": self.meaning, "rules": rules,
                "provenance": dict(self.provenance),
            }  # fmt: skip
            (draft / FILE).write_text(yaml.safe_dump(told, sort_keys=False), encoding="utf-8")
        return Path(path)

    @classmethod
    def load(cls, path: str | Path) -> Policy:
        """A folder that `save` wrote, or its policy.yaml.

        Raises NotFoundError where there is none, FileFormatError for one that is damaged, MismatchError where a
        monitor's file is not the one that the policy names.
        """
        import yaml

        path = Path(path)
        path = path / FILE if path.is_dir() else path
        if not path.is_file():
            raise NotFoundError(
                f"Expected a policy at {path.name!r}, found none; give the folder that Policy.save wrote."
            )
        try:
            told = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise FileFormatError(f"{path.name!r} is not readable YAML ({str(error).splitlines()[0]}).") from None
        if not isinstance(told, dict):
            raise FileFormatError(f"Expected a policy in {path.name!r}, got {type(told).__name__}; give another file.")
        require_schema(told, KIND, VERSION, path.name)
        try:
            rules = tuple(_rule(path.parent, row) for row in told["rules"])
            return cls(rules, str(told["meaning"]), told["provenance"])
        except (KeyError, TypeError, ValueError) as error:
            raise FileFormatError(f"{path.name!r} is damaged ({error!r}); save the policy again.") from error

    def __repr__(self) -> str:
        told = ", ".join(f"{rule.watch.monitor} > {rule.threshold:.3g} {rule.severity}" for rule in self.rules)
        return f"Policy({self.meaning}: {told})"


def _rule(folder: Path, row: Mapping[str, Any]) -> Rule:
    name = str(row["monitor"])
    if Path(name).name != name:
        raise FileFormatError(
            f"Expected the name of a file beside the policy, got {name!r}; put it into the same folder."
        )
    if (folder / name).is_file() and _hash(folder / name) != row["sha256"]:
        raise MismatchError(
            f"Expected the monitor that the policy was made with in {name!r}, got another file of that name."
        )
    watch = load_result(folder / name)
    if not isinstance(watch, Watch):
        raise FileFormatError(f"Expected a fitted monitor in {name!r}, got {type(watch).__name__}; name another file.")
    value, low, high = row["false_positives"]
    return Rule(watch, float(row["threshold"]), str(row["severity"]), (value, low, high), str(row["verdict"]))


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
