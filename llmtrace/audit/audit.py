"""`audit`: a policy over prompts. What was seen, how sure it is, and what would make it go away.

    value(monitor, prompt) > threshold                         a finding
    remedy: the span without whose words value <= threshold    the counterfactual, run

Cost: 1 F for all monitors of cached activations, each other monitor's own passes; for each prompt with a finding the
same once for each of its spans. Sign: larger = likelier that the model does what is watched for.
Known failure: an alarm is as good as the study behind it, and holds for prompts like those of its calibration.

    policy = lt.audit.Policy.of(lt.audit.study(model, labelled), ["span_attention"], severity="high")
    lt.audit(model, prompts, policy)
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from llmtrace.audit.evidence.without import without
from llmtrace.audit.labelled import LabelledPrompts
from llmtrace.audit.monitors.span_attention import UNNAMED
from llmtrace.audit.policy import SEVERITIES, Policy, Rule
from llmtrace.audit.report import AuditReport, Finding
from llmtrace.audit.watch import measured
from llmtrace.errors import InputError
from llmtrace.models import TraceModel, provenance
from llmtrace.progress import track
from llmtrace.prompts import Chat, PromptSet, Spans, as_prompts


def audit(
    model: TraceModel,
    prompts: PromptSet | LabelledPrompts | Chat | str | Sequence[str],
    policy: Policy,
    *,
    spans: Spans | None = None,
) -> AuditReport:
    """Run a policy over prompts.

    spans   of prompts that bring none themselves; monitors of spans need them

    Raises MismatchError for another model than the policy was fitted on and for spans of other prompts.
    """
    policy.require_model(model)
    asked, own = _asked(model, prompts, spans)
    values = measured(model, asked, own, [rule.watch for rule in policy.rules])
    found = [
        _finding(model, asked[at], own[at], rule, at, float(values[row, at]))
        for row, rule in track([*enumerate(policy.rules)], "auditing")
        for at in (values[row].double() > rule.threshold).nonzero()[:, 0].tolist()
    ]
    found.sort(key=lambda one: (-SEVERITIES.index(one.severity), one.prompt))
    return AuditReport(
        monitors=tuple(rule.watch.monitor for rule in policy.rules),
        values=values,
        findings=tuple(found),
        texts=asked.texts,
        meaning=policy.meaning,
        provenance=provenance(model).as_dict(),
    )


def _asked(
    model: TraceModel, prompts: PromptSet | LabelledPrompts | Chat | str | Sequence[str], spans: Spans | None
) -> tuple[PromptSet, Spans]:
    """The prompts, and the spans of them that there are."""
    if isinstance(prompts, LabelledPrompts | Chat):
        if spans is not None:
            raise InputError(f"Expected no spans= beside {type(prompts).__name__}, which has its own; leave it out.")
        return as_prompts(model, prompts.prompts), prompts.spans
    asked = as_prompts(model, prompts)
    if spans is None:
        return asked, Spans.of_positions(asked, {})
    spans.require_of(asked)
    return asked, spans


def _finding(model: TraceModel, prompt: PromptSet, spans: Spans, rule: Rule, at: int, value: float) -> Finding:
    remedy, left = _remedy(model, prompt, spans, rule)
    return Finding(
        prompt=at, text=prompt.texts[0], monitor=rule.watch.monitor, severity=rule.severity, value=value,
        threshold=rule.threshold, false_positives=rule.false_positives, verdict=rule.verdict,
        evidence=rule.watch.evidence(), remedy=remedy, without=left,
    )  # fmt: skip


def _remedy(model: TraceModel, prompt: PromptSet, spans: Spans, rule: Rule) -> tuple[str, float]:
    """The span whose absence lowers the value most, where that takes it to the threshold or below."""
    left: dict[str, float] = {}
    for name in spans.names:
        shorter = None if name in UNNAMED else without(prompt, spans, spans.members[:, spans.index(name)])
        if shorter is not None:
            left[name] = float(measured(model, *shorter, [rule.watch])[0, 0])
    best = min(left, key=lambda name: left[name], default="")
    return (best, left[best]) if best and left[best] <= rule.threshold else ("", torch.nan)
