"""Metrics: numbers worked out by hand, and the laws 20, 21, 22 over one list of all metrics."""

from __future__ import annotations

import math

import pytest
import torch

from llmtrace.errors import InputError, MismatchError, NotFoundError
from llmtrace.methods import Method, Table
from llmtrace.metrics import (
    METRICS,
    custom,
    kl,
    log_probability,
    logit_diff,
    normalised,
    probability,
    probability_diff,
)

POSITIONS = [1, 2, 0]
CORRECT, WRONG = [(0,), (1, 2), (4,)], [(1, 3, 4), (0,), (2, 3)]


def random_logits(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def every_metric() -> dict:
    """One of each, on the three prompts above; a row added to METRICS is built here from what it says it needs."""
    inputs = {"correct": CORRECT, "wrong": WRONG, "reference": random_logits(7, 3, 4, 5)}
    built = {name: row(POSITIONS, **{need: inputs[need] for need in row.needs}) for name, row in METRICS.items()}
    margin = custom("margin", lambda rows: rows[..., 0] - rows[..., 1:].amax(-1), POSITIONS)
    rescaled = normalised(built["probability"], random_logits(1, 3), random_logits(2, 3), per_prompt=True)
    return {**built, "custom": margin, "normalised": rescaled}


ALL = every_metric()
each_metric = pytest.mark.parametrize("metric", ALL.values(), ids=ALL.keys())


def test_logit_diff_by_hand():
    logits = torch.tensor([[[9.0, 9, 9, 9], [1, 2, 3, 5]], [[4, 0, 1, 1], [9, 9, 9, 9]]])
    metric = logit_diff([1, 0], [(3,), (0, 1)], [(0, 1), (2,)])
    assert metric(logits).tolist() == [5 - 1.5, (4 + 0) / 2 - 1]


def test_probabilities_by_hand():
    p = torch.tensor([[[0.5, 0.25, 0.125, 0.125]]])
    assert probability([0], [(1, 2)])(p.log()).tolist() == pytest.approx([0.375])
    assert log_probability([0], [(1, 2)])(p.log()).tolist() == pytest.approx([math.log(0.375)])
    assert probability_diff([0], [(0,)], [(1, 3)])(p.log()).tolist() == pytest.approx([0.125])


def test_a_token_named_twice_counts_once():
    p = torch.tensor([[[0.5, 0.5]]])
    assert probability([0], [(0, 0)])(p.log()).item() == pytest.approx(0.5)


def test_kl_by_hand_whole_or_at_the_position():
    reference, now = torch.tensor([[[0.5, 0.5]]]).log(), torch.tensor([[[0.25, 0.75]]]).log()
    by_hand = 0.5 * math.log(2) + 0.5 * math.log(0.5 / 0.75)
    assert kl([0], reference)(now).item() == pytest.approx(by_hand)
    assert kl([0], reference[:, 0])(now).item() == pytest.approx(by_hand)
    assert not kl([0], reference).higher_is_better


def test_kl_leaves_out_what_the_reference_excludes():
    reference, now = torch.tensor([[[0.0, 1.0]]]).log(), torch.tensor([[[0.5, 0.5]]]).log().requires_grad_()
    value = kl([0], reference)(now)
    assert value.item() == pytest.approx(math.log(2))
    assert torch.autograd.grad(value.sum(), now)[0].isfinite().all()


def test_law_20_normalised_clean_is_1_and_corrupted_is_0():
    clean, corrupted = random_logits(0, 3, 4, 5), random_logits(1, 3, 4, 5)
    for name in ("logit_diff", "probability", "log_probability", "probability_diff"):
        metric = ALL[name]
        by_mean = normalised(metric, metric(clean), metric(corrupted))
        torch.testing.assert_close(by_mean(clean).mean().item(), 1.0, rtol=0, atol=1e-12)
        torch.testing.assert_close(by_mean(corrupted).mean().item(), 0.0, rtol=0, atol=1e-12)
        each = normalised(metric, metric(clean), metric(corrupted), per_prompt=True)
        torch.testing.assert_close(each(clean), torch.ones(3, dtype=torch.float64))
        torch.testing.assert_close(each(corrupted), torch.zeros(3, dtype=torch.float64))
        assert by_mean.baseline == each.baseline == "zero"


def test_law_20_a_distance_normalised_points_upwards():
    clean, corrupted = random_logits(0, 3, 4, 5), random_logits(1, 3, 4, 5)
    metric = kl(POSITIONS, clean)
    rescaled = normalised(metric, metric(clean), metric(corrupted))
    assert rescaled.higher_is_better
    assert rescaled(clean).mean().item() == pytest.approx(1)


@pytest.mark.parametrize("per_prompt", [False, True])
def test_law_20_equal_runs_are_refused(per_prompt):
    values = torch.tensor([1.0, 2.0, 3.0])
    with pytest.raises(InputError, match="clean and corrupted runs give the same value of logit_diff"):
        normalised(ALL["logit_diff"], values, values.clone(), per_prompt=per_prompt)
    with pytest.raises(InputError, match="same value"):
        normalised(ALL["logit_diff"], values, values * torch.nan, per_prompt=per_prompt)


def test_law_20_one_equal_prompt_is_refused_per_prompt_only():
    clean, corrupted = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0.0, 2.0, 0.0])
    normalised(ALL["logit_diff"], clean, corrupted)
    with pytest.raises(InputError, match="on prompt 1"):
        normalised(ALL["logit_diff"], clean, corrupted, per_prompt=True)


@each_metric
def test_law_21_commutes_with_taking_and_permuting_prompts(metric):
    logits = random_logits(3, 3, 4, 5)
    whole = metric(logits)
    for index in ([2, 0, 1], [2], slice(1, None), torch.tensor([True, False, True])):
        torch.testing.assert_close(metric[index](logits[index]), whole[index])
    torch.testing.assert_close(metric[1](logits[1:2]), whole[1:2])
    assert [len(one) for one in metric] == [1, 1, 1]


@each_metric
def test_rows_are_all_a_metric_reads_and_may_be_stacked(metric):
    stack = random_logits(4, 2, 6, 3, 4, 5)
    values = metric.of_rows(metric.rows(stack))
    assert values.shape == (2, 6, 3)
    torch.testing.assert_close(values[1, 4], metric(stack[1, 4]))
    expected = 5 if metric.tokens is None else metric.tokens.shape[1]
    assert metric.rows(stack).shape == (2, 6, 3, expected)


@each_metric
def test_only_the_answer_position_is_read(metric):
    logits = random_logits(5, 3, 4, 5).requires_grad_()
    (gradient,) = torch.autograd.grad(metric(logits).sum(), logits)
    read = gradient.abs().sum(-1) > 0
    assert read.nonzero().tolist() == [[0, 1], [1, 2], [2, 0]]
    others = set(range(5)) - set([] if metric.tokens is None else metric.tokens[1].tolist())
    if metric.tokens is not None:
        assert gradient[1, 2, list(others)].abs().sum() == 0


@each_metric
def test_a_linear_metric_is_its_weights_times_its_rows(metric):
    rows = metric.rows(random_logits(6, 3, 4, 5))
    if metric.weights is not None:
        torch.testing.assert_close(metric.of_rows(rows), (metric.weights * rows).sum(-1))
    else:
        doubled = metric.of_rows(2 * rows)
        assert metric.name == "margin" or not torch.allclose(doubled, 2 * metric.of_rows(rows))


def test_law_22_kl_with_itself_is_0():
    logits = random_logits(8, 3, 4, 5)
    torch.testing.assert_close(kl(POSITIONS, logits)(logits), torch.zeros(3, dtype=torch.float64))


def test_law_22_logit_diff_ignores_a_constant_and_is_antisymmetric():
    logits = random_logits(9, 3, 4, 5)
    metric = logit_diff(POSITIONS, CORRECT, WRONG)
    torch.testing.assert_close(metric(logits + random_logits(10, 3, 4, 1)), metric(logits))
    torch.testing.assert_close(logit_diff(POSITIONS, WRONG, CORRECT)(logits), -metric(logits))
    torch.testing.assert_close(metric.weights.sum(-1), torch.zeros(3, dtype=torch.float64))


def test_half_precision_logits_are_widened_before_they_are_subtracted():
    logits = torch.tensor([[[300.0, 299.0]]], dtype=torch.bfloat16)
    assert logit_diff([0], [(0,)], [(1,)])(logits).dtype == torch.float32
    assert kl([0], logits)(logits).tolist() == [0.0]


def test_custom_context_follows_the_prompts():
    target = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    metric = custom("to target", lambda rows, t: (rows[..., 0] - t).abs(), POSITIONS, context=(target,))
    logits = random_logits(11, 3, 4, 5)
    torch.testing.assert_close(metric[[2]](logits[[2]]), metric(logits)[[2]])


@pytest.mark.parametrize(
    ("call", "error", "sentence"),
    [
        (lambda: logit_diff([0], [()], [(1,)]), InputError, "one or more correct token ids .* prompt 0"),
        (lambda: logit_diff([0], [(1,)], [()]), InputError, "one or more wrong token ids .* prompt 0"),
        (lambda: logit_diff([0], [(1, 2)], [(2,)]), InputError, "token 2 in both for prompt 0"),
        (lambda: probability([-1], [(1,)]), InputError, "length - 1"),
        (lambda: probability([0, 0], [(1,)]), MismatchError, "2 prompts throughout, got a tensor of 1"),
        (lambda: probability([4], [(1,)])(torch.zeros(1, 4, 5)), InputError, "position 4, got 4 positions"),
        (lambda: probability([0], [(1,)])(torch.zeros(2, 4, 5)), MismatchError, "1 prompts, got 2"),
        (lambda: logit_diff([0], [(1,)], [(5,)])(torch.zeros(1, 4, 5)), MismatchError, "size 5, got token 5"),
        (lambda: custom("mean", lambda rows: rows.mean(), [0])(torch.zeros(1, 4, 5)), InputError, "one number per"),
        (lambda: normalised(ALL["kl"], torch.ones(2), torch.zeros(2)), MismatchError, "3 prompts, got \\[2\\] clean"),
        (lambda: METRICS["logitdiff"], NotFoundError, "got 'logitdiff'. Did you mean 'logit_diff'"),
    ],
)
def test_what_cannot_mean_anything_is_refused_with_a_sentence(call, error, sentence):
    with pytest.raises(error, match=sentence):
        call()


def test_a_table_takes_rows_of_its_users_and_keeps_the_order():
    table = Table("metric", Method("one", int, "an int"))
    table.register(Method("two", float, "a float"))
    assert list(table) == ["one", "two"] and table["two"]("1.5") == 1.5
    assert "three" not in table and table.get("three") is None
    with pytest.raises(InputError, match="'one', which is taken"):
        table.register(Method("one", int, "again"))
    assert table.register(Method("one", abs, "again"), replace=True)(-1) == 1
    assert repr(table) == "Table(metric: one, two)"
