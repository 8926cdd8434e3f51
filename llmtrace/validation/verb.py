"""`validate`: is the score true? One verb for scores of tokens, spans and nodes.

    for each prompt        rank correlation of score and loss, share of the loss in the first k, deletion, insertion
    over prompts           means with bootstrap intervals
    beside it              the intervention itself, random orders, for tokens attention (mean over layers) and rollout

Source: methods.md section 2; Samek et al. 2017 and Petsiuk et al. 2018 (curves); Abnar & Zuidema 2020 (rank correlation
with blanked-out tokens). Cost: the single interventions, and 2 (steps - 1) F for every row and random order, stacked.
Sign: a positive score says that the metric falls without the thing. Methods without signs (attention, norms, shares)
are better read by `size_correlation`.
Known failure: the check is of single things and of one order; what acts only together (an OR gate) shows in the curves
alone. The true effect depends on `by`: a method may be true of one intervention and wrong of another.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, overload

from llmtrace.errors import InputError
from llmtrace.influence import GenerationInfluence, NodeScores, SpanInfluence, TokenInfluence
from llmtrace.interventions import Effects
from llmtrace.metrics import MetricLike
from llmtrace.models import TraceModel
from llmtrace.models.budget import Memory
from llmtrace.nodes import Position
from llmtrace.prompts import PromptSet, Spans
from llmtrace.validation.causal_check import CausalCheck
from llmtrace.validation.checking import Chosen, check_nodes, check_tokens
from llmtrace.validation.effects import Validation, against_effects

Scored = TokenInfluence | SpanInfluence | NodeScores


@overload
def validate(scores: NodeScores, effects: Effects, *, seed: int = 0) -> Validation: ...


@overload
def validate(
    scores: GenerationInfluence,
    effects: TraceModel,
    *,
    by: str = "auto",
    keep: Sequence[Position] = (),
    k: int = 3,
    steps: int = 10,
    draws: int = 4,
    seed: int = 0,
    memory: Memory = "auto",
) -> CausalCheck: ...


@overload
def validate(
    scores: Scored | Sequence[TokenInfluence] | Sequence[SpanInfluence] | Sequence[NodeScores],
    effects: TraceModel,
    prompts: PromptSet,
    *,
    metric: MetricLike | None = None,
    by: str = "auto",
    spans: Spans | None = None,
    keep: Sequence[Position] = (),
    k: int = 3,
    steps: int = 10,
    draws: int = 4,
    sample: int = 128,
    seed: int = 0,
    memory: Memory = "auto",
) -> CausalCheck: ...


def validate(
    scores: Any,
    effects: Effects | TraceModel,
    prompts: PromptSet | None = None,
    *,
    metric: MetricLike | None = None,
    by: str = "auto",
    spans: Spans | None = None,
    keep: Sequence[Position] = (),
    k: int = 3,
    steps: int = 10,
    draws: int = 4,
    sample: int = 128,
    seed: int = 0,
    memory: Memory = "auto",
) -> Validation | CausalCheck:
    """Compare scores with intervening: with `effects` measured already, or with what a model does on `prompts`.

        validate(scores, effects)          -> Validation, on the nodes that both have
        validate(scores, model, prompts)   -> CausalCheck; a list of scores of one kind shares one intervention
        validate(generation, model)        -> CausalCheck, every generated token a prompt of its own

    metric    what is measured (default: what the scores are of, else the prompts' own)
    by        tokens and spans: mean (the default), zero, corrupted, pad, attention, edge (see `tokens.py`);
              nodes: resample (the default where prompts have a corruption), mean, zero (the default elsewhere)
    spans     the spans that a SpanInfluence was summed over
    keep      token positions that are neither removed nor ranked, such as 0 for the first token
    k         of the top share
    steps     of the curves
    draws     random orders that the random row is the mean of
    sample    of more nodes than this (neurons) the half with the largest scores is tested, and as many others by lot
    memory    bytes for stacked runs, or "auto"

    Raises MismatchError for scores of other prompts, weights or another metric, InputError where there is nothing to
    rank (one token) or no corruption to resample from.
    """
    if isinstance(effects, Effects):
        if prompts is not None or not isinstance(scores, NodeScores):
            raise InputError(
                f"Expected NodeScores and nothing more beside effects, got {type(scores).__name__}; "
                "other scores are held against a model: validate(scores, model, prompts)."
            )
        return against_effects(scores, effects, seed=seed)
    if isinstance(scores, GenerationInfluence):
        if prompts is not None:
            raise InputError(
                "Expected no prompts beside a generation, which brings its own; write validate(it, model)."
            )
        scores, prompts = scores.steps, scores.prompts
    several = tuple(scores) if isinstance(scores, list | tuple) else (scores,)
    kinds = {type(score) for score in several}
    if len(kinds) != 1 or not isinstance(several[0], TokenInfluence | SpanInfluence | NodeScores):
        names = ", ".join(sorted(kind.__name__ for kind in kinds)) or "none"
        raise InputError(
            f"Expected scores of one kind, TokenInfluence, SpanInfluence or NodeScores, got {names}; "
            "check what a method of influence returned."
        )
    if prompts is None:
        raise InputError("Expected the prompts that were scored, got none; write validate(scores, model, prompts).")
    for what, number, least in (("k", k, 1), ("steps", steps, 2), ("draws", draws, 1), ("sample", sample, 4)):
        if isinstance(number, bool) or not isinstance(number, int) or number < least:
            raise InputError(f"Expected {what} as a whole number from {least} on, got {number!r}.")
    chosen = Chosen(metric, by, k, steps, draws, seed, memory)
    if isinstance(several[0], NodeScores):
        if spans is not None or keep:
            raise InputError("Expected spans= and keep= with scores of tokens only, got scores of nodes; leave it out.")
        return check_nodes(several, effects, prompts, chosen, sample=sample)
    if isinstance(several[0], SpanInfluence) != (spans is not None):
        given = "scores of tokens and spans" if spans is not None else "scores of spans without them"
        raise InputError(
            f"Expected a SpanInfluence together with its spans, got {given}; write "
            "validate(influence.by_span(spans), model, prompts, spans=spans)."
        )
    return check_tokens(several, effects, prompts, chosen, spans=spans, keep=keep)
