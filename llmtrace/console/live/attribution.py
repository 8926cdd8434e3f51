"""Which tokens the answer comes from: a method's scores beside what occlusion, the intervention itself, says."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from torch import Tensor

from llmtrace.console.live.run import LiveRun
from llmtrace.console.live.sentences import spans_of
from llmtrace.console.schemas import Attribution
from llmtrace.errors import LLMTraceError, NotFoundError, did_you_mean
from llmtrace.influence import METHODS
from llmtrace.influence.tokens.results.token_influence import TokenInfluence
from llmtrace.methods import Method
from llmtrace.models import TraceModel


def attribution(model: TraceModel, run: LiveRun, method: str) -> Attribution:
    row = token_method(method)
    tokens = [token.text for token in run.about.clean.tokens]
    refused, scores, gap = None, list[float](), None
    try:
        found = row(model, run.prompts)
        scores, gap = at_end(found).tolist(), None if found.gap is None else found.gap[0, -1].item()
    except LLMTraceError as refusal:
        refused = str(refusal)
    try:
        occlusion = at_end(METHODS["occlusion"](model, run.prompts)).tolist()
    except LLMTraceError:
        occlusion = []
    facts = row.facts()
    said = [row.summary[:1].upper() + row.summary[1:], facts["sign"] and f"Sign: {facts['sign']}"]
    return Attribution(
        run=run.id, method=method, what=". ".join(filter(None, said)) + ".", scores=scores, gap=gap,
        occlusion=occlusion, correlation=rank_correlation(scores, occlusion), spans=spans_of(tokens, scores),
        refused=refused,
        python=run.program.of(
            f"scores = lt.influence.METHODS[{method!r}](model, prompts)",
            "result = scores.values[0, -1].tolist()",
        ),
    )  # fmt: skip


def token_method(name: str) -> Method:
    """A method that scores tokens. Raises NotFoundError for another."""
    known = [row.name for row in METHODS.values() if row.gives == "tokens"]
    if name not in known:
        raise NotFoundError(
            f"Expected a method that scores tokens, one of {', '.join(known)}; got {name[:40]!r}."
            + did_you_mean(name[:40], known)
        )
    return METHODS[name]


def at_end(found: TokenInfluence) -> Float[Tensor, " source"]:
    """The row of the last token."""
    return found.values[0, -1].detach().cpu()


def rank_correlation(one: list[float], other: list[float]) -> float | None:
    """Spearman's; None where one of them is the same everywhere."""
    from scipy.stats import rankdata

    if len(one) != len(other) or len(set(one)) < 2 or len(set(other)) < 2:
        return None
    return float(np.corrcoef(rankdata(one), rankdata(other))[0, 1])
