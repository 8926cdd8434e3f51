"""Scores belong to the model and the prompts that they are checked on: what each says of the metric's position."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from llmtrace.errors import MismatchError
from llmtrace.influence import NodeScores, SpanInfluence, TokenInfluence
from llmtrace.metrics import Metric
from llmtrace.models import TraceModel, provenance, taken_from, token_labels
from llmtrace.prompts import PromptSet, Spans
from llmtrace.prompts.fingerprints import require_same


def name_of(scores: TokenInfluence | SpanInfluence | NodeScores) -> str:
    """What a method is called in the check; one layer of a method is another than all of it."""
    layer = scores.layer if isinstance(scores, TokenInfluence) else None
    return scores.method if layer is None else f"{scores.method}, layer {layer}"


def require_fit(scores: TokenInfluence | SpanInfluence | NodeScores, model: TraceModel) -> None:
    """What was scored is the model as it stands: the same weights, the same hooks on it."""
    ours, theirs = taken_from(provenance(model).as_dict()), taken_from(scores.provenance)
    if ours != theirs:
        raise MismatchError(
            f"Expected scores of this model (weights {ours[0]}, {_said(ours[1])}), "
            f"got {theirs[0]}, {_said(theirs[1])}; score this model."
        )


def _said(hooks: tuple[str, ...]) -> str:
    return f"hooks on {', '.join(hooks)}" if hooks else "no hooks"


def token_row(
    scores: TokenInfluence, model: TraceModel, prompts: PromptSet, metric: Metric
) -> Float[Tensor, "batch source"]:
    """What the metric's position takes from each token."""
    require_fit(scores, model)
    require_same("scores", scores.fingerprints, prompts.fingerprints)
    if scores.labels != token_labels(model, prompts.clean):
        raise MismatchError(
            f"Expected scores of the {len(prompts)} prompts that are checked, got scores of others; score these."
        )
    at = metric.positions.cpu()
    if scores.targets is None:
        row = at
    else:
        same = scores.targets.cpu() == at[:, None]
        if not bool(same.any(1).all()):
            raise MismatchError(
                f"Expected scores for the position that {metric.name} is read at ({int(at[0])} in prompt 0), got "
                f"targets {scores.targets[0].tolist()}; score that position too."
            )
        row = same.int().argmax(1)
    return scores.values.detach().cpu().double()[torch.arange(len(prompts)), row]


def span_row(
    scores: SpanInfluence, model: TraceModel, prompts: PromptSet, metric: Metric, spans: Spans
) -> Float[Tensor, "batch span"]:
    """What the metric's position takes from each span."""
    require_fit(scores, model)
    require_same("scores", scores.fingerprints, prompts.fingerprints)
    spans.require_of(prompts)
    if scores.names != spans.names or not torch.equal(scores.sizes.cpu(), spans.sizes):
        raise MismatchError("Expected the spans that were scored, got others; pass the spans that by_span was given.")
    if scores.options.get("rows", "tokens") != "tokens":
        raise MismatchError("Expected a row for each target token, got means over spans; use by_span(spans).")
    at, labels = metric.positions.tolist(), token_labels(model, prompts.clean)
    found = []
    for prompt, target in enumerate(at):
        name = f"{labels[prompt][target]} ({target})"
        if name not in scores.rows[prompt]:
            raise MismatchError(
                f"Expected a row for {name!r}, where {metric.name} is read in prompt {prompt}, got "
                f"{', '.join(scores.rows[prompt][:3])}; score these prompts at that position."
            )
        found.append(scores.values[prompt, scores.rows[prompt].index(name)])
    return torch.stack(found).detach().cpu().double()
