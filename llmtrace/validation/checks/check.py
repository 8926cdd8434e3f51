"""The check, step by step: what the scores say of each thing, what intervening does, both held together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from llmtrace.errors import InputError, MismatchError
from llmtrace.influence import NodeScores, SpanInfluence, TokenInfluence, raw_attention, rollout
from llmtrace.metrics import METRICS, Metric, MetricLike
from llmtrace.models import TraceModel, provenance
from llmtrace.models.memory import Memory
from llmtrace.nodes import Position
from llmtrace.prompts import PromptSet, Spans, metric_of
from llmtrace.prompts.fingerprints import require_same
from llmtrace.validation.causal_check import CausalCheck
from llmtrace.validation.checks.belonging import name_of, require_fit, span_row, token_row
from llmtrace.validation.checks.deletion_curves import Curves, measure
from llmtrace.validation.checks.node_removal import NodeRemoval
from llmtrace.validation.checks.rank_correlation import lots_for, places, rho, top_share
from llmtrace.validation.checks.removal import Removal
from llmtrace.validation.checks.token_removal import TokenRemoval


@dataclass(frozen=True, eq=False)
class Chosen:
    """What the caller of `validate` decided, for scores of any kind."""

    metric: MetricLike | None
    ablation: str
    k: int
    steps: int
    draws: int
    seed: int
    memory: Memory


@dataclass(frozen=True, eq=False)
class Claim:
    """What one method says of each thing."""

    method: str
    role: str
    score: Float[Tensor, "batch unit"]


def check_tokens(
    scores: Sequence[Any],
    model: TraceModel,
    prompts: PromptSet,
    chosen: Chosen,
    *,
    spans: Spans | None,
    keep: Sequence[Position],
) -> CausalCheck:
    """Of tokens, or with `spans` of spans: then scores and baselines are sums over each."""
    metric = _metric(scores, model, prompts, chosen.metric)
    ablation = "mean" if chosen.ablation == "auto" else chosen.ablation
    removal = TokenRemoval(model, prompts, metric, ablation=ablation, spans=spans, keep=keep, memory=chosen.memory)
    attention = [method(model, prompts) for method in (raw_attention, rollout)]
    baselines = attention if spans is None else [found.by_span(spans) for found in attention]

    def claimed(score: Any) -> Float[Tensor, "batch unit"]:
        if spans is None:
            return token_row(score, model, prompts, metric)
        return span_row(score, model, prompts, metric, spans)

    claims = [Claim(name, role, claimed(score)) for name, role, score in _with_baselines(scores, baselines, ablation)]
    return _check(claims, removal, metric, model, chosen, "tokens" if spans is None else "spans", {"keep": list(keep)})


def check_nodes(
    scores: Sequence[Any], model: TraceModel, prompts: PromptSet, chosen: Chosen, *, sample: int
) -> CausalCheck:
    metric = _metric(scores, model, prompts, chosen.metric)
    ablation = ("resample" if prompts.has_corruption else "zero") if chosen.ablation == "auto" else chosen.ablation
    for score in scores:
        require_fit(score, model)
        if score.values.shape[1] != len(prompts):
            raise MismatchError(
                f"Expected scores of these {len(prompts)} prompts, got {score.values.shape[1]}; compute them again."
            )
        require_same("scores", score.fingerprints, prompts.fingerprints)
    shared = [
        node for node in scores[0].nodes
        if node.acts and all(node in other.nodes for other in scores[1:])
    ]  # fmt: skip
    nodes = _sampled(scores[0], shared, sample, chosen.seed)
    removal = NodeRemoval(model, prompts, metric, nodes, ablation=ablation, memory=chosen.memory)
    claims = []
    for name, role, score in _with_baselines(scores, [], ablation):
        row = {node: i for i, node in enumerate(score.nodes)}
        values = score.values[[row[node] for node in nodes]].T
        claims.append(Claim(name, role, values.detach().cpu().double()))
    about = {"sample": sample, "nodes": len(nodes), "of": len(shared)}
    return _check(claims, removal, metric, model, chosen, "nodes", about)


def _metric(scores: Sequence[Any], model: TraceModel, prompts: PromptSet, asked: MetricLike | None) -> Metric:
    """One metric for scores and check: a score of another one would be tested on a question that it does not answer."""
    named = [score.metric for score in scores if score.metric is not None]
    if asked is None and named:
        if named[0] not in METRICS:
            raise InputError(
                f"Expected the metric that was scored, {named[0]!r}, which has no name here; pass metric=."
            )
        asked = named[0]
    metric = metric_of(model, prompts, asked)
    for name in named:
        if name != metric.name:
            raise MismatchError(f"Expected scores of {metric.name}, got {name}; score and check the same metric.")
    if not metric.higher_is_better:
        raise InputError(
            f"Expected a metric that falls when something needed is gone, got the distance {metric.name}; "
            "use logit_diff or log_probability."
        )
    return metric


def _with_baselines(scores: Sequence[Any], baselines: Sequence[Any], ablation: str) -> list[tuple[str, str, Any]]:
    """(name, role, scores): of what was asked, then of attention, where that is not what was asked."""
    found = [(score, _role(score, ablation)) for score in scores]
    asked = {name_of(score) for score in scores}
    found += [(score, "baseline") for score in baselines if name_of(score) not in asked]
    seen: Counter[str] = Counter()
    rows = []
    for score, role in found:
        name = name_of(score)
        seen[name] += 1
        rows.append((name if seen[name] == 1 else f"{name} ({seen[name]})", role, score))
    return rows


def _role(score: TokenInfluence | SpanInfluence | NodeScores, ablation: str) -> str:
    """An oracle did this very intervention. Summed over spans it did not: tokens went one at a time."""
    same = bool(score.options.get("oracle")) and score.options.get("ablation") == ablation
    return "oracle" if same and not isinstance(score, SpanInfluence) else "score"


def _sampled(scores: NodeScores, nodes: list[Any], sample: int, seed: int) -> list[Any]:
    """All of them, or the loudest half of a sample and as many of the rest by lot."""
    if len(nodes) <= sample:
        return nodes
    row = {node: i for i, node in enumerate(scores.nodes)}
    size = scores.mean().abs()[[row[node] for node in nodes]]
    loud = size.argsort(descending=True, stable=True).tolist()
    half = sample // 2
    rest = torch.randperm(len(loud) - half, generator=torch.Generator().manual_seed(seed))[: sample - half].tolist()
    return [nodes[i] for i in sorted([*loud[:half], *(loud[half + i] for i in rest)])]


def _check(
    claims: list[Claim], removal: Removal, metric: Metric, model: TraceModel, chosen: Chosen, what: str,
    about: dict[str, Any],
) -> CausalCheck:  # fmt: skip
    there, test, loss = removal.there, removal.method, removal.singles().double()
    loss = loss.masked_fill(~there, 0.0)
    if not any(claim.role == "oracle" for claim in claims):
        claims.append(Claim(test, "oracle", loss))
    tie, *lots = lots_for(there, 1 + chosen.draws, chosen.seed)
    scored = torch.stack([*(claim.score.masked_fill(~there, 0.0) for claim in claims), *lots])
    for claim in claims:
        if not claim.score[there].isfinite().all():
            raise InputError(f"Expected numbers as scores, got some of {claim.method} that are none; score again.")
    by_score = torch.stack([places(score, there, tie) for score in scored])
    by_size = torch.stack([places(score.abs(), there, tie) for score in scored])
    curves = measure(removal, by_score, chosen.steps)
    n = len(claims)

    def rows(values: Tensor) -> Tensor:
        """Random orders are one row: their mean."""
        return torch.cat([values[:n], values[n:].mean(0, keepdim=True)])

    return CausalCheck(
        methods=(*(claim.method for claim in claims), "random"),
        roles=(*(claim.role for claim in claims), "baseline"),
        names=removal.names,
        there=there,
        scores=scored[: n + 1],
        loss=loss,
        rank=rows(torch.stack([rho(score, loss, there) for score in scored])),
        size_rank=rows(torch.stack([rho(score.abs(), loss.abs(), there) for score in scored])),
        share=rows(torch.stack([top_share(place, loss, there, chosen.k) for place in by_size])),
        curves=Curves(curves.share, rows(curves.deletion), rows(curves.insertion), curves.clean, curves.removed),
        what=what,
        test=test,
        metric=metric.name,
        k=chosen.k,
        passes=removal.passes,
        seed=chosen.seed,
        provenance=provenance(model).as_dict(),
        options={"ablation": removal.ablation, "k": chosen.k, "steps": chosen.steps, "draws": chosen.draws, **about},
    )
