"""`validate`: is the score true? One verb for scores of tokens, spans and nodes.

    for each prompt        rank correlation of score and loss, share of the loss in the first k, deletion, insertion
    over prompts           means with bootstrap intervals
    beside it              the intervention itself, random orders, for tokens attention (mean over layers) and rollout

Source: Samek et al. 2017 and Petsiuk et al. 2018 (curves); Abnar & Zuidema 2020 (rank correlation with blanked-out
tokens). Cost: the single interventions, and 2 (steps - 1) F for every row and random order, stacked.
Sign: a positive score says that the metric falls without the thing. Methods without signs (attention, norms, shares)
are better read by `size_correlation`.
Known failure: the check is of single things and of one order; what acts only together (an OR gate) shows in the curves
alone. The true effect depends on `ablation`: a method may be true of one intervention and wrong of another.

    >>> lt.validation.validate(model, prompts, lt.influence.decompx(model, prompts), steps=4, draws=1)
    CausalCheck(tokens against occlusion (mean) on logit_diff, 4 prompts; rank correlation: decompx +0.62 [+0.54,
    +0.71])
"""

from __future__ import annotations

from collections.abc import Sequence
from inspect import signature
from typing import Any

from llmtrace.errors import InputError
from llmtrace.influence import METHODS, GenerationInfluence, NodeScores, SpanInfluence, TokenInfluence
from llmtrace.metrics import MetricLike
from llmtrace.models import TraceModel
from llmtrace.models.memory import Memory
from llmtrace.prompts import PromptSet, Spans
from llmtrace.prompts.choice import Choice
from llmtrace.validation.causal_check import CausalCheck
from llmtrace.validation.checks.check import Chosen, check_nodes, check_tokens

Scored = TokenInfluence | SpanInfluence | NodeScores


def validate(
    model: TraceModel,
    prompts: PromptSet,
    scores: Scored | GenerationInfluence | str | Sequence[Scored | str],
    *,
    metric: MetricLike | None = None,
    ablation: str = "auto",
    spans: Spans | None = None,
    keep: Choice | None = None,
    k: int = 3,
    steps: int = 10,
    draws: int = 4,
    sample: int = 128,
    seed: int = 0,
    memory: Memory = "auto",
) -> CausalCheck:
    """Compare scores with what the model does when what they score is taken away.

    prompts   that were scored; of a generation `found.prompts`, where every generated token is a prompt of its own
    scores    of one method, or a list of one kind that shares one intervention; a method's name stands for what it
              says of these prompts
    metric    what is measured (default: what the scores are of, else the prompts' own)
    ablation  tokens and spans: mean (the default), zero, resample, pad, attention, edge (see `token_removal.py`);
              nodes: resample (the default where prompts have a corruption), mean, zero (the default elsewhere)
    spans     the spans that a SpanInfluence was summed over
    keep      token positions that are neither removed nor ranked, such as 0 for the first token (default: none)
    k         of the top share
    steps     of the curves
    draws     random orders that the random row is the mean of
    sample    of more nodes than this (neurons) the half with the largest scores is tested, and as many others by lot
    memory    bytes for stacked runs, or "auto"

    Raises MismatchError for scores of other prompts, weights or another metric, InputError where there is nothing to
    rank (one token) or no corruption to resample from.
    """
    if isinstance(scores, GenerationInfluence):
        scores = scores.steps
    given: tuple[Any, ...] = tuple(scores) if isinstance(scores, list | tuple) else (scores,)
    several = tuple(_scores_of(model, prompts, one, metric) if isinstance(one, str) else one for one in given)
    kinds = {type(score) for score in several}
    if len(kinds) != 1 or not isinstance(several[0], TokenInfluence | SpanInfluence | NodeScores):
        names = ", ".join(sorted(kind.__name__ for kind in kinds)) or "none"
        raise InputError(
            f"Expected scores of one kind, TokenInfluence, SpanInfluence or NodeScores, got {names}; "
            "check what a method of influence returned."
        )
    for what, number, least in (("k", k, 1), ("steps", steps, 2), ("draws", draws, 1), ("sample", sample, 4)):
        if isinstance(number, bool) or not isinstance(number, int) or number < least:
            raise InputError(f"Expected {what} as a whole number from {least} on, got {number!r}.")
    chosen = Chosen(metric, ablation, k, steps, draws, seed, memory)
    if isinstance(several[0], NodeScores):
        if spans is not None or keep is not None:
            raise InputError("Expected spans= and keep= with scores of tokens only, got scores of nodes; leave it out.")
        return check_nodes(several, model, prompts, chosen, sample=sample)
    if sample != 128:
        raise InputError(f"Expected sample= with scores of nodes, got {sample} with scores of tokens; leave it out.")
    if isinstance(several[0], SpanInfluence) != (spans is not None):
        got = "scores of tokens and spans" if spans is not None else "scores of spans without them"
        raise InputError(
            f"Expected a SpanInfluence together with its spans, got {got}; write "
            "validate(model, prompts, influence.by_span(spans), spans=spans)."
        )
    kept = () if keep is None else prompts.chosen(keep, "positions to keep")
    return check_tokens(several, model, prompts, chosen, spans=spans, keep=kept)


def _scores_of(model: TraceModel, prompts: PromptSet, method: str, metric: MetricLike | None) -> Any:
    """What a row of `influence.METHODS` says. Of the metric, where it takes one."""
    row = METHODS[method]
    takes = metric is not None and "metric" in signature(row.function).parameters
    return row(model, prompts, **({"metric": metric} if takes else {}))
