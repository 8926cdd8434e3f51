"""A score against an intervention, with numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from llmtrace.errors import InputError, MismatchError
from llmtrace.influence import NodeScores, direct_logit_attribution
from llmtrace.interventions import Effects, ablate, path_patch
from llmtrace.models import load
from llmtrace.nodes import Head, Mlp
from llmtrace.plots import plot
from llmtrace.prompts import ioi
from llmtrace.validation import correlate, validate

NODES = (Head(0, 0), Head(0, 1), Mlp(0), Head(1, 0))


def scores(values, *, metric="logit_diff", prompts=4):
    table = torch.tensor(values, dtype=torch.float64)[:, None].expand(-1, prompts)
    return NodeScores(NODES[: len(values)], table, None, "claim", metric, {"weights": "w", "model": "m"})


def effects(changes, *, weights="w"):
    before = torch.full((4,), 5.0, dtype=torch.float64)
    after = before + torch.tensor(changes, dtype=torch.float64)[:, None]
    return Effects(
        tuple((n,) for n in NODES[: len(changes)]), before, after, None, "test", "logit_diff", {"weights": weights}, 1.0
    )


def test_a_perfect_score_explains_everything_in_order():
    """score = loss: rho 1, and the top k explain the k largest losses."""
    found = correlate(scores([4.0, 1.0, -2.0, 0.5]), effects([-4.0, -1.0, 2.0, -0.5]))
    assert found.rank_correlation == pytest.approx(1.0)
    assert found.explained(1) == pytest.approx(4 / 7.5)
    assert found.explained(2) == pytest.approx(6 / 7.5)
    assert found.explained(4) == pytest.approx(1.0)


def test_a_reversed_score_has_correlation_minus_one():
    assert correlate(scores([1.0, 2.0, 3.0]), effects([-3.0, -2.0, -1.0])).rank_correlation == pytest.approx(-1.0)


def test_a_constant_score_has_no_correlation():
    assert math.isnan(correlate(scores([1.0, 1.0, 1.0]), effects([-3.0, -2.0, -1.0])).rank_correlation)


def test_verdicts_name_each_case():
    found = correlate(scores([2.0, 2.0, 0.0, 2.0]), effects([-2.0, 2.0, -2.0, 0.0]))
    assert found.verdicts(0.5) == ("confirmed", "opposite sign", "missed", "not confirmed")
    assert found.verdicts(3.0) == ("-",) * 4


def test_things_that_do_not_belong_together_are_refused():
    with pytest.raises(MismatchError, match="same model"):
        correlate(scores([1.0, 2.0]), effects([-1.0, -2.0], weights="other"))
    with pytest.raises(MismatchError, match="same metric"):
        correlate(scores([1.0, 2.0], metric="probability"), effects([-1.0, -2.0]))
    with pytest.raises(MismatchError, match="number of prompts"):
        correlate(scores([1.0, 2.0], prompts=3), effects([-1.0, -2.0]))
    with pytest.raises(MismatchError, match="at least two nodes"):
        correlate(scores([1.0]), effects([-1.0, -2.0]))
    with pytest.raises(InputError, match="k from 1 to 2"):
        correlate(scores([1.0, 2.0]), effects([-1.0, -2.0])).explained(3)


def test_direct_attribution_is_the_straight_path_and_not_the_whole_story():
    """Eight nodes of tiny-english by score are nearly all of the straight path and little more than half of the rest"""
    model = load("tiny-english")
    prompts = ioi(model, 16, seed=0)
    claim = direct_logit_attribution(model, prompts)
    direct = correlate(claim, path_patch(model, prompts, convention="all_frozen"))
    removed = correlate(claim, ablate(model, prompts, ablation="mean"))
    assert len(direct.nodes) == 32 and len(removed.nodes) == 36
    assert direct.explained(8) > 0.85 > 0.7 > removed.explained(8)
    figure = plot(direct)
    assert list(figure.data[1].x) == direct.score.tolist() and list(figure.data[1].y) == direct.loss.tolist()


@pytest.mark.parametrize(("option", "least"), [("k", 1), ("steps", 2), ("draws", 1), ("sample", 4)])
def test_validate_counts_from_its_least_number_on(option: str, least: int) -> None:
    model = load("tiny-english")
    prompts = ioi(model, 2)
    claim = direct_logit_attribution(model, prompts)
    few = {"k": 2, "steps": 2, "draws": 1, "sample": 6} | {option: least}
    assert validate(model, prompts, claim, **few)
    with pytest.raises(InputError, match=f"Expected {option} as a whole number from {least} on, got {least - 1}"):
        validate(model, prompts, claim, **few | {option: least - 1})
