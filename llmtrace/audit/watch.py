"""`Watch`: a fitted monitor. One number per prompt, larger where what is watched for is likelier."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from llmtrace.audit.evidence.lever import Lever
from llmtrace.audit.seen import Place, Seen, look
from llmtrace.errors import MismatchError
from llmtrace.models import TraceModel, provenance
from llmtrace.prompts import PromptSet, Spans
from llmtrace.results import Result

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class Watch(Result):
    """What a row of `MONITORS` or `BASELINES` fitted, for one model.

    monitor      the name of its row
    passes       forward passes beyond the one that all monitors share
    provenance   of the model that it was fitted on
    """

    passes: ClassVar[float] = 0.0

    monitor: str
    provenance: Mapping[str, Any]

    def places(self) -> tuple[Place, ...]:
        """What it reads of a pass, at the last token."""
        return ()

    @abstractmethod
    def value(self, seen: Seen) -> Float[Tensor, " batch"]:
        """Of one pass."""

    def measure(self, model: TraceModel, prompts: PromptSet, spans: Spans) -> Float[Tensor, " batch"]:
        """Of prompts, by as many passes as it needs."""
        return self.value(look(model, prompts, spans, self.places())).float().cpu()

    def lever(self) -> Lever | None:
        """What to intervene on, to see whether what is watched does anything; None: nothing to take hold of."""
        return None

    def evidence(self) -> dict[str, Any]:
        """What is watched, in words: heads, layers, spans."""
        return {}

    def require_model(self, model: TraceModel) -> None:
        """Refuse another model than it was fitted on."""
        require_same_weights(self.monitor, self.provenance, model)

    def df(self) -> pd.DataFrame:
        """What it was fitted to: a row per fact."""
        import pandas as pd

        own = {part.name: getattr(self, part.name) for part in fields(self) if part.name != "provenance"}
        facts = {**{name: value for name, value in own.items() if not isinstance(value, Tensor)}, **self.evidence()}
        return pd.DataFrame([(name, str(value)) for name, value in facts.items()], columns=["fact", "value"])

    def __repr__(self) -> str:
        told = ", ".join(f"{name} {value}" for name, value in self.evidence().items())
        return f"{type(self).__name__}({self.monitor}{': ' + told if told else ''})"


def require_same_weights(what: str, fitted: Mapping[str, Any], model: TraceModel) -> None:
    """Refuse another model than `what` was fitted on."""
    ours, theirs = provenance(model), fitted.get("weights")
    if ours.weights != theirs:
        raise MismatchError(
            f"Expected the model that {what} was fitted on ({fitted.get('model')}, weights {str(theirs)[:12]}), got "
            f"{ours.model} with weights {ours.weights[:12]}; fit it again: lt.audit.study."
        )


@torch.no_grad()
def measured(
    model: TraceModel, prompts: PromptSet, spans: Spans, watches: Sequence[Watch]
) -> Float[Tensor, "watch batch"]:
    """Values of several monitors: one pass for all that read cached activations. Cost: 1 F and each one's own
    passes."""
    shared = [watch for watch in watches if not watch.passes]
    seen = look(model, prompts, spans, {place for watch in shared for place in watch.places()}) if shared else None
    rows = [
        watch.measure(model, prompts, spans) if seen is None or watch.passes else watch.value(seen).float().cpu()
        for watch in watches
    ]
    return torch.stack(rows) if rows else torch.zeros(0, len(prompts))
