"""The check of scores against intervening: every number by whole passes, and what it must say where truth is known."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import replace as changed
from typing import Any

import numpy as np
import pytest
import slow_twins as slow
import tiny as tinies
import torch
from slow_twins import read, replace
from tiny import (
    ALL,
    HOOKED_EXISTS,
    Tiny,
    close,
    hand_built_scores_are_live,
    has_mlp,
    one_of_each,
    over,
    over_hooked,
    prompts,
    scores_are_live,
)
from torch import Tensor

from llmtrace import influence, interventions, models
from llmtrace.errors import InputError, LimitError, MismatchError, NotFoundError
from llmtrace.influence import TokenInfluence
from llmtrace.influence.tokens.inputs.baseline_inputs import baseline_inputs
from llmtrace.models.hand_built.designs import known_circuit
from llmtrace.prompts import PromptSet, Spans, from_pairs, from_texts, ioi
from llmtrace.validation import CausalCheck, validate
from llmtrace.validation.checks.deletion_curves import step_counts
from llmtrace.validation.checks.node_removal import NodeRemoval
from llmtrace.validation.checks.token_removal import TokenRemoval

INPUT = "blocks.0.hook_resid_pre"


# LayerNorm and absolute positions, RMSNorm and grouped queries, the same on a bridge: what removing tokens could mind
FEW = [tiny for tiny in ALL if one_of_each(tiny) and tiny.family in (tinies.GPT2, tinies.LLAMA)]
GPT2 = FEW[0]


def without(model: Any, p: PromptSet, gone: Tensor, by: str) -> Tensor:
    """The metric of one whole pass without the tokens `gone` [batch pos]."""
    if by in ("attention", "edge"):
        end = p.positions["END"]
        layers = range(models.describe(model).n_layers)

        def hide(pattern: Tensor) -> Tensor:
            kept = pattern.clone()
            for row in range(len(gone)):
                for query in range(gone.shape[1]):
                    if by == "attention" or query == end[row]:
                        lost = [key for key in gone[row].nonzero()[:, 0].tolist() if key != query]
                        kept[row, :, query, lost] = 0.0
            return kept / kept.sum(-1, keepdim=True)

        return slow.metric_of_run(model, p, [(f"blocks.{n}.attn.hook_pattern", hide) for n in layers])
    x = read(model, p.clean, [INPUT])[INPUT].detach().clone()
    x[gone] = baseline_inputs(model, p, by)[gone]
    return slow.metric_of_run(model, p, [replace(INPUT, x)])


# --- tokens ------------------------------------------------------------------------------------------------------


@over(scores_are_live, among=FEW)
@pytest.mark.parametrize("by", ["mean", "resample", "attention", "edge"])
def test_curves_are_whole_passes_in_the_order_of_the_score(tiny: Tiny, by: str) -> None:
    """Losses one token at a time; deletion and insertion one more token at a time; areas by hand, per prompt."""
    p, model = prompts(padded=True), tiny.model
    score = influence.token_attribution(model, p)
    found = validate(model, p, score, ablation=by, steps=99, draws=1)
    assert isinstance(found, CausalCheck)
    there = p.mask & (torch.arange(7) < p.positions["END"][:, None] + (by not in ("attention", "edge")))
    there &= (p.clean != p.corrupted) if by == "resample" else True
    assert torch.equal(found.there, there)
    clean = without(model, p, torch.zeros_like(there), by)
    for j in range(7):
        alone = there & (torch.arange(7) == j)
        close(found.loss[:, j], clean - without(model, p, alone, by), 10 * tiny.atol)
    for row in (0, 1):  # of seven tokens, and of five
        order = sorted(there[row].nonzero()[:, 0].tolist(), key=lambda j: -float(score.values[row, 0, j]))
        for kind in ("deletion", "insertion"):
            curve = []
            for k in range(len(order) + 1):
                gone = torch.zeros_like(there)
                gone[row, order[:k] if kind == "deletion" else order[k:]] = True
                curve.append(without(model, p, gone, by)[row].item())
            area = np.trapezoid(curve, np.linspace(0, 1, len(order) + 1))
            close(found.curves.areas(kind)[0, row], torch.tensor(area, dtype=torch.float64), 10 * tiny.atol)


@over(scores_are_live, among=FEW)
@pytest.mark.parametrize("by", ["mean", "zero", "attention"])
def test_the_intervention_itself_is_an_oracle(tiny: Tiny, by: str) -> None:
    """Rank correlation 1 in every prompt, marked; beside it no second oracle stands."""
    p, model = prompts(padded=True), tiny.model
    found = validate(model, p, influence.occlusion(model, p, ablation=by), ablation=by, draws=1)
    assert found.methods == ("occlusion", "raw_attention", "rollout", "random")
    assert found.roles == ("oracle", "baseline", "baseline", "baseline")
    close(found.rank[0], torch.ones(5), 1e-9)
    close(found.size_rank[0], torch.ones(5), 1e-9)
    assert found.estimate("rank_correlation") == pytest.approx((1.0, 1.0, 1.0))
    assert (found.share[0] >= found.share[1:] - 1e-9).all()
    other = validate(model, p, influence.occlusion(model, p, ablation=by), ablation="pad", draws=1)
    assert other.roles[0] == "score" and other.methods[3] == "occlusion (pad)" and other.roles[3] == "oracle"


@over(scores_are_live, among=FEW)
def test_edges_to_the_target_are_those_of_a_knockout(tiny: Tiny) -> None:
    """ablation="edge" is `knock_out` of one key at a time at END, in all layers together."""
    p, model = prompts(), tiny.model
    loss = TokenRemoval(model, p, p.metric(), ablation="edge").singles()
    every = list(range(models.describe(model).n_layers))
    for key in range(6):
        effect = interventions.knock_out(model, p, ["END"], [key], layers=every)
        close(loss[:, key], -effect.change[0], 10 * tiny.atol)


@over(among=FEW)
def test_batching_and_padding_change_nothing(tiny: Tiny) -> None:
    """Little memory, and each prompt alone: the same ranks, shares and curves."""
    p, model = prompts(padded=True), tiny.model
    methods = influence.input_x_gradient, influence.rollout
    whole = validate(model, p, [method(model, p) for method in methods], steps=4, draws=1)
    small = validate(model, p, [method(model, p) for method in methods], steps=4, draws=1, memory=60_000)
    for name in ("loss", "rank", "share"):
        close(getattr(small, name), getattr(whole, name), 10 * tiny.atol)
    for row in (0, 1):
        one = p[row]
        alone = validate(model, one, [method(model, one) for method in methods], steps=4, draws=1)
        for name in ("rank", "size_rank", "share"):
            close(getattr(alone, name)[:3, 0], getattr(whole, name)[:3, row], 1e-6)
        for kind in ("deletion", "insertion"):
            close(alone.curves.areas(kind)[:3, 0], whole.curves.areas(kind)[:3, row], 10 * tiny.atol)
            close(alone.curves.on_grid(kind)[:3, :, 0], whole.curves.on_grid(kind)[:3, :, row], 10 * tiny.atol)
    with pytest.raises(LimitError, match="Expected room for one prompt"):
        validate(model, p, influence.rollout(model, p), memory=100)


def test_random_orders_know_nothing() -> None:
    """Their mean correlation is near 0, the same for the same seed."""
    p, model = prompts(padded=True), GPT2.model
    score = influence.rollout(model, p)
    found = validate(model, p, score, draws=300, steps=2)
    value, low, high = found.estimate("rank_correlation", "random")
    assert abs(value) < 0.06 and low <= value <= high
    again, other = (validate(model, p, score, draws=300, steps=2, seed=seed) for seed in (0, 1))
    assert torch.equal(again.rank, found.rank) and not torch.equal(other.rank[-1], found.rank[-1])
    assert again.seed == 0 and other.options["draws"] == 300


# --- where the truth is known ------------------------------------------------------------------------------------


def induction() -> tuple[Any, PromptSet]:
    truth = known_circuit("induction")
    model = models.load("induction", dtype="float64", device="cpu")
    return model, from_pairs(model, [(truth.clean, truth.corrupted, truth.correct, truth.wrong)])


@pytest.mark.parametrize("by", ["zero", "mean", "resample", *(("attention", "edge") if HOOKED_EXISTS else ())])
def test_no_order_falls_faster_than_one_that_begins_with_the_truth(by: str) -> None:
    """The answer stands at position 4. Of all 9! orders, by dynamic programming over all 2^9 sets: the smallest area of
    deletion begins there and nowhere else, and the true losses reach it."""
    model, p = induction()
    removal = TokenRemoval(model, p, p.metric(), ablation=by)
    units = removal.there[0].nonzero()[:, 0].tolist()  # without the last token, or the first, which no text changes
    n = len(units)
    sets = torch.zeros(2**n, 1, 9, dtype=torch.bool)
    sets[:, 0, units] = ((torch.arange(2**n)[:, None] >> torch.arange(n)) & 1).bool()
    values = removal.without(sets)[:, 0].tolist()

    @functools.cache
    def least(gone: int) -> float:
        """The rest of the trapezoid sum from this set on."""
        if gone == 2**n - 1:
            return float(values[gone] / 2)
        more = min(least(gone | 1 << j) for j in range(n) if not gone >> j & 1)
        return float(values[gone] * (0.5 if gone == 0 else 1.0) + more)

    by_first = {units[j]: (values[0] / 2 + least(1 << j)) / n for j in range(n)}
    assert min(by_first, key=lambda j: by_first[j]) == 4
    assert all(area > by_first[4] + 1e-3 for j, area in by_first.items() if j != 4)
    truth = TokenInfluence(
        torch.eye(9, dtype=torch.float64)[4][None, None], influence.rollout(model, p).labels, "truth", None, False,
        {"weights": models.provenance(model).weights}, targets=p.positions["END"][:, None],
    )  # fmt: skip
    found = validate(model, p, [truth, influence.occlusion(model, p)], ablation=by, steps=n)
    assert found.loss[0].argmax() == 4 and found.share[0, 0] > 1 / 3
    oracle = found.roles.index("oracle") if by != "mean" else 1
    assert found.curves.areas("deletion")[oracle, 0].item() == pytest.approx(least(0) / n, abs=1e-9)


@hand_built_scores_are_live
def test_attention_is_not_attribution_on_the_induction_model() -> None:
    """The direct push of the answer is found, and raw attention, whose mean over layers ranks what is not read, is
    behind it; what stays below is said in the figure's line."""
    model, p = induction()
    found = validate(model, p, influence.token_attribution(model, p), ablation="edge", steps=9)
    value = {method: found.estimate("deletion", method)[0] for method in found.methods}
    assert value["token_attribution"] == pytest.approx(value["knockout of the edges to the target"])
    assert value["token_attribution"] < value["raw_attention"] - 0.1
    assert "rank correlation with knockout" in found.line("token_attribution")


# --- nodes and spans ---------------------------------------------------------------------------------------------


@over_hooked(has_mlp, among=FEW)
@pytest.mark.parametrize("by", ["resample", "mean", "zero"])
def test_nodes_are_ablated_in_the_order_of_their_scores(tiny: Tiny, by: str) -> None:
    """Whole passes with every prefix of a prompt's own order ablated."""
    p, model = prompts(padded=True), tiny.model
    score = influence.direct_logit_attribution(model, p)
    found = validate(model, p, score, ablation=by, steps=99, draws=1)
    nodes = [node for node in score.nodes if node.label in found.names[0]]
    assert [node.label for node in nodes] == list(found.names[0]) and len(nodes) == 10
    clean = slow.metric_of_run(model, p)
    for i in (0, 4, 9):
        close(found.loss[:, i], clean - slow.ablated(model, p, [nodes[i]], ablation=by), 10 * tiny.atol)
    order = sorted(nodes, key=lambda node: -float(score.of(node)[1]))
    curve = [float(slow.ablated(model, p, order[:k], ablation=by)[1]) for k in range(len(order) + 1)]
    close(found.curves.deletion[0, :, 1], torch.tensor(curve, dtype=torch.float64), 10 * tiny.atol)
    curve = [float(slow.ablated(model, p, order[k:], ablation=by)[1]) for k in range(len(order) + 1)]
    close(found.curves.insertion[0, :, 1], torch.tensor(curve, dtype=torch.float64), 10 * tiny.atol)
    close(found.loss, -interventions.ablate(model, p, nodes, ablation=by).change.T, 1e-9)


def test_of_many_neurons_a_sample_is_tested() -> None:
    p, model = prompts(), GPT2.model
    score = influence.neuron_attribution(model, p)
    found = validate(model, p, score, sample=12, draws=1)
    loudest = [node.label for node, _ in score.top(6)]
    assert found.options["nodes"] == 12 and found.options["of"] == 48 and set(loudest) <= set(found.names[0])
    assert found.names == validate(model, p, score, sample=12, draws=1).names
    removal = NodeRemoval(model, p, p.metric(), score.nodes[:3])
    close(removal.without(torch.zeros(2, 5, 3).bool()), slow.metric_of_run(model, p).expand(2, -1), 1e-9)


@over(among=FEW[:2])
def test_spans_go_as_a_whole(tiny: Tiny) -> None:
    """All tokens of a span at once; spans of one token each are the check of tokens."""
    p, model = prompts(padded=True), tiny.model
    spans = Spans.between(p, ("MID", "END"))
    score = influence.token_attribution(model, p)
    found = validate(model, p, score.by_span(spans), spans=spans, draws=1)
    clean = without(model, p, torch.zeros_like(p.mask), "mean")
    for i, name in enumerate(spans.names):
        gone = spans.members[:, spans.index(name)] & (torch.arange(7) <= p.positions["END"][:, None])
        close(found.loss[:, i], clean - without(model, p, gone, "mean"), 10 * tiny.atol)
    assert found.what == "spans" and found.names[0] == ("start", "MID", "END")
    alone = Spans(tuple(map(str, range(7))), torch.arange(7).expand(5, -1).masked_fill(~p.mask, -1))
    tokens, each = validate(model, p, score, draws=1), validate(model, p, score.by_span(alone), spans=alone, draws=1)
    close(each.rank[0], tokens.rank[0], 1e-6)
    for kind in ("deletion", "insertion"):
        close(each.curves.areas(kind)[0], tokens.curves.areas(kind)[0], 10 * tiny.atol)


# --- the noun ----------------------------------------------------------------------------------------------------


def test_tables_say_what_was_measured() -> None:
    """One row per method with intervals around the values; one row per token; kept tokens are not in it."""
    model = models.load("tiny-english")
    p = ioi(model, 5, seed=0)
    found = validate(model, p, influence.rollout(model, p), keep=[0], k=2, draws=1)
    frame = found.df()
    assert list(frame["method"]) == ["rollout", "raw_attention", "occlusion (mean)", "random"]
    assert list(frame["role"]) == ["score", "baseline", "oracle", "baseline"] and set(frame["prompts"]) == {5}
    for name in ("rank_correlation", "top_share", "deletion", "insertion"):
        assert (frame[f"{name}_low"] <= frame[name]).all() and (frame[name] <= frame[f"{name}_high"]).all()
    tokens = found.units()
    assert len(tokens) == int(p.lengths.sum()) - 5 and not tokens["token"].str.endswith("(0)").any()
    assert "CausalCheck(tokens against occlusion (mean) on logit_diff, 5 prompts; rank correlation: rollout" in repr(
        found
    )
    assert "<table" in found._repr_html_() and found.passes > 5 and found.provenance["weights"]
    ends = found.curve("deletion")[0]
    close(ends[:, 0], torch.ones(4), 1e-9)
    close(ends[:, -1], torch.zeros(4), 1e-9)
    with pytest.raises(NotFoundError, match="Expected a checked method, one of rollout"):
        found.estimate("deletion", "alti")
    with pytest.raises(NotFoundError, match="Expected a statistic"):
        found.estimate("insertions")


def test_no_area_is_stated_where_there_is_nothing_to_lose() -> None:
    """Random weights: all tokens together raise the metric of some prompts and lower it of others."""
    p, model = prompts(), GPT2.model
    found = validate(model, p, influence.rollout(model, p), draws=1)
    assert np.isnan(found.estimate("deletion")).all() and found.curve("insertion")[0].isnan().all()
    assert not np.isnan(found.estimate("rank_correlation")).any()


def test_steps_are_the_prompts_own() -> None:
    """Four things in at most three steps: 0, 1, 3, 4; two things are done earlier."""
    assert step_counts(torch.tensor([4, 2, 9]), 3).T.tolist() == [[0, 1, 3, 4], [0, 1, 2, 2], [0, 3, 6, 9]]


def test_a_constant_score_orders_nothing() -> None:
    p, model = prompts(), GPT2.model
    flat = influence.rollout(model, p)
    found = validate(model, p, changed(flat, values=torch.ones_like(flat.values)), draws=1)
    assert found.rank[0].tolist() == [0.0] * 5


# --- what is refused ---------------------------------------------------------------------------------------------


def refusals() -> Iterable[tuple[Any, tuple[Any, ...], dict[str, Any], type[Exception], str]]:
    p = prompts()
    same = changed(p, corrupted=p.clean)
    model = GPT2.model
    tokens, nodes = influence.rollout(model, p), influence.direct_logit_attribution(model, p)
    direct, spans = influence.token_attribution(model, p), Spans.between(p, ("MID", "END"))
    other = changed(p, clean=p.clean.roll(1, 0))
    yield (tokens, (model, other), {}, MismatchError, "scores of these 5 prompts, got scores of others")
    yield (tokens, (FEW[1].model, p), {}, MismatchError, "scores of this model")
    yield (direct, (model, p), {"metric": "probability"}, MismatchError, "scores of probability, got")
    yield (tokens, (model, p), {"metric": "kl"}, InputError, "the distance kl")
    yield (tokens, (model, same), {"ablation": "resample"}, InputError, "needs corrupted prompts")
    yield (nodes, (model, same), {"ablation": "resample"}, InputError, "needs corrupted prompts")
    yield (tokens, (model, p), {"ablation": "men"}, InputError, "Expected ablation of tokens to be one of mean, zero")
    yield (
        nodes,
        (model, p),
        {"ablation": "pad"},
        InputError,
        "ablation of nodes to be one of zero, mean, resample, got",
    )
    yield (nodes, (model, p[:2]), {}, MismatchError, "these 2 prompts, got 5")
    yield ([tokens, nodes], (model, p), {}, InputError, "scores of one kind")
    yield ([], (model, p), {}, InputError, "scores of one kind")
    yield (tokens, (model, p), {"spans": spans}, InputError, "got scores of tokens and spans")
    yield (direct.by_span(spans), (model, p), {}, InputError, "got scores of spans without them")
    yield (direct.by_span(spans, rows="spans"), (model, p), {"spans": spans}, MismatchError, "means over")
    yield (tokens, (model, p), {"steps": 1}, InputError, "steps as a whole number from 2 on")
    once = changed(p, corrupted=p.clean.where(torch.arange(7) != 2, p.corrupted))
    yield (tokens, (model, once), {"ablation": "resample"}, InputError, "two tokens that the corruption changes")
    yield (tokens, (model, p), {"keep": list(range(6))}, InputError, "at least two tokens to rank")
    broken = changed(tokens, values=tokens.values / 0)
    yield (broken, (model, p), {}, InputError, "Expected numbers as scores, got some of rollout")
    missed = changed(direct, targets=p.positions["MID"][:, None])
    yield (missed, (model, p), {}, MismatchError, "position that logit_diff is read at")


@pytest.mark.usefixtures("as_users_run")
def test_what_would_be_silently_wrong_is_refused() -> None:
    for scores, rest, options, error, sentence in refusals():
        with pytest.raises(error, match=sentence):
            validate(*rest, scores, **options)


@hand_built_scores_are_live
def test_one_token_has_no_order() -> None:
    model, _ = induction()
    p = from_texts(model, "w1")
    with pytest.raises(InputError, match="at least two tokens to rank in every prompt, got 1 in prompt 0"):
        validate(model, p, influence.rollout(model, p), ablation="attention", metric=lambda rows: rows[..., 3])
