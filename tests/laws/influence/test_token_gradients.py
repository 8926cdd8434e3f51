"""What a metric takes from each token by its gradient, along a path, without the token, and directly."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import slow_twins as slow
import torch
from slow_twins import read, replace
from tiny import (
    ALL,
    GPT2,
    LLAMA,
    POST_NORM,
    WIDE,
    Tiny,
    close,
    hand_built_scores_are_live,
    no_norm,
    one_of_each,
    over,
    over_hooked,
    prompts,
    scores_are_live,
)
from torch import Tensor

from llmtrace import influence, models, signals
from llmtrace.errors import InputError, LimitError, UnsupportedError
from llmtrace.influence.tokens.occlusion import stretches
from llmtrace.nodes import Bias, Embed
from llmtrace.prompts import PromptSet, from_pairs, ioi

INPUT = "blocks.0.hook_resid_pre"


def inputs_of(model: Any, tokens: Tensor) -> Tensor:
    return read(model, tokens, [INPUT])[INPUT].detach()


def of_inputs(model: Any, p: PromptSet, inputs: Tensor) -> Tensor:
    """The metric where these vectors enter the first block."""
    return slow.metric_of_run(model, p, [replace(INPUT, inputs)])


def per_token(values: Tensor) -> Tensor:
    assert values.shape[1] == 1
    return values[:, 0]


# --- gradients ---------------------------------------------------------------------------------------------------


@over_hooked(one_of_each)
def test_input_x_gradient_is_the_slope_by_finite_differences(tiny: Tiny) -> None:
    """d/dt of the metric as one token's vector is stretched by 1 + t; nothing comes from what is not read."""
    p, model = prompts(padded=True), tiny.model
    scores = influence.input_x_gradient(model, p)
    x, step = inputs_of(model, p.clean), 1e-5
    for j in range(p.clean.shape[1]):
        more, less = x.clone(), x.clone()
        more[:, j] *= 1 + step
        less[:, j] *= 1 - step
        slope = (of_inputs(model, p, more) - of_inputs(model, p, less)) / (2 * step)
        close(per_token(scores.values)[:, j], slope, 1e-6)
    assert scores.targets is not None and scores.targets[:, 0].tolist() == p.positions["END"].tolist()
    assert not per_token(scores.values)[~p.mask].any()


@over(one_of_each, among=[*ALL, *POST_NORM])
def test_input_x_gradient_equals_its_slow_twin(tiny: Tiny) -> None:
    """The plain model's own gradient at its first block's input; the total is m(x) - m(0), the gap what is missing."""
    p, model = prompts(padded=True), tiny.model
    scores = influence.input_x_gradient(model, p)
    x = inputs_of(model, p.clean).requires_grad_(True)
    with torch.enable_grad():
        (slope,) = torch.autograd.grad(of_inputs(model, p, x).sum(), [x])
    x = x.detach()
    close(per_token(scores.values), (slope * x).sum(-1), 10 * tiny.atol)
    total = of_inputs(model, p, x) - of_inputs(model, p, torch.zeros_like(x))
    assert scores.total is not None and scores.gap is not None
    close(scores.total[:, 0], total, 10 * tiny.atol)
    close(scores.gap[:, 0], total - scores.values.sum((1, 2)), 10 * tiny.atol)


@over(one_of_each, among=[*ALL, *POST_NORM])
def test_gradient_rollout_equals_its_slow_twin(tiny: Tiny) -> None:
    """Slopes by plain hooks on the plain model's patterns, of each prompt alone; whole maps, from the first layer on.
    A bridge that goes on with its own patterns tells them by what they do: z is a sum of values."""
    p, model = prompts(padded=True), tiny.model
    scores = influence.gradient_rollout(model, p)
    layers = range(tiny.family.n_layers)
    slopes_of = slow.slopes_of_patterns if tiny.backend == "hooked" else slow.slopes_of_patterns_by_values
    for i in range(len(p)):
        one, expected = p[i], torch.zeros(p.clean.shape[1], dtype=scores.values.dtype)
        trace = signals.capture(model, one, what="pattern")
        patterns = [signals.attention_pattern(trace, layer)[0] for layer in layers]
        rolled = slow.gradient_rollout(patterns, slopes_of(model, one, layers))
        expected[: rolled.shape[-1]] = rolled[int(one.positions["END"])]
        close(per_token(scores.values)[i], expected, 10 * tiny.atol)
    assert scores.targets is not None and scores.targets[:, 0].tolist() == p.positions["END"].tolist()
    assert float(scores.values.min()) >= 0 and float(per_token(scores.values).gather(1, scores.targets).min()) >= 1


@pytest.mark.usefixtures("as_users_run")
@over(one_of_each)
@pytest.mark.parametrize("baseline", ["zero", "mean", "resample"])
def test_integrated_gradients_equal_their_slow_twin(tiny: Tiny, baseline: str) -> None:
    """Points one at a time, gradients by the plain model; embeddings of the vocabulary averaged one by one."""
    p, model, steps = prompts(padded=True), tiny.model, 3
    scores = influence.integrated_gradients(model, p, baseline=baseline, steps=steps)
    x, start = inputs_of(model, p.clean), absent(model, p, baseline)
    expected = torch.zeros(x.shape[:2], dtype=x.dtype)
    for k in range(steps):
        point = (start + (k + 0.5) / steps * (x - start)).requires_grad_(True)
        with torch.enable_grad():
            (slope,) = torch.autograd.grad(of_inputs(model, p, point).sum(), [point])
        expected += (slope * (x - start)).sum(-1) / steps
    close(per_token(scores.values), expected, 10 * tiny.atol)
    assert scores.total is not None
    close(scores.total[:, 0], of_inputs(model, p, x) - of_inputs(model, p, start), 10 * tiny.atol)


def absent(model: Any, p: PromptSet, baseline: str) -> Tensor:
    """The inputs without each token, from the definition: every word of the vocabulary at every place."""
    x = inputs_of(model, p.clean)
    if baseline == "zero":
        return torch.zeros_like(x)
    if baseline == "resample":
        return inputs_of(model, p.corrupted)
    if baseline == "pad":
        return inputs_of(model, torch.full_like(p.clean, p.pad_id))
    every = torch.arange(model.W_E.shape[0])[:, None].expand(-1, p.clean.shape[1])
    return inputs_of(model, every).mean(0).expand_as(x)


@over(one_of_each)
def test_the_gap_of_integrated_gradients_goes_to_nothing(tiny: Tiny) -> None:
    """The midpoint rule: more steps, less missing."""
    p = prompts(padded=True)
    gaps = []
    for steps in (2, 16, 128):
        gap = influence.integrated_gradients(tiny.model, p, baseline="resample", steps=steps).gap
        assert gap is not None
        gaps.append(float(gap.abs().max()))
    assert gaps[1] < gaps[0] / 4 and gaps[2] < max(gaps[1] / 8, tiny.atol) and gaps[2] < 2e-2


def test_scores_say_how_much_they_miss() -> None:
    """In words too: a few points on the way are far from the whole of a trained model's metric."""
    model = models.load("tiny-english")
    p = ioi(model, 4, seed=0, corruption="abc")
    few, many = (influence.integrated_gradients(model, p, steps=steps) for steps in (4, 128))
    assert few.gap is not None and few.total is not None and few.missed is not None and many.missed is not None
    assert few.missed == pytest.approx(float(few.gap.abs().sum() / few.total.abs().sum()))
    assert f"rows miss {few.missed:.1%} of the total" in repr(few)
    assert many.missed < 0.05 < 0.5 < few.missed
    shares = influence.rollout(model, p)
    assert shares.gap is not None and shares.gap.abs().max() < 1e-5 and "miss" not in repr(shares)
    assert influence.occlusion(model, p).missed is None


@over(one_of_each)
def test_memory_changes_which_runs_share_a_pass_and_nothing_else(tiny: Tiny) -> None:
    p = prompts(padded=True)
    path = functools.partial(influence.integrated_gradients, steps=8)
    for method in (path, influence.input_x_gradient, influence.occlusion):
        whole = method(tiny.model, p).values
        close(method(tiny.model, p, memory=400_000).values, whole, 10 * tiny.atol)
        with pytest.raises(LimitError, match="Expected room for one"):
            method(tiny.model, p, memory=1000)


# --- occlusion ---------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("as_users_run")
@over(one_of_each, among=[*ALL, *WIDE, *POST_NORM])
@pytest.mark.parametrize("by", ["zero", "mean", "resample", "pad"])
def test_occlusion_is_a_whole_run_without_the_token(tiny: Tiny, by: str) -> None:
    """One pass per token, all positions; tokens after the answer position change nothing, exactly."""
    p, model = prompts(padded=True), tiny.model
    scores = influence.occlusion(model, p, ablation=by)
    x, without = inputs_of(model, p.clean), absent(model, p, by)
    clean = of_inputs(model, p, x)
    for j in range(p.clean.shape[1]):
        changed = x.clone()
        changed[:, j] = without[:, j]
        close(per_token(scores.values)[:, j], clean - of_inputs(model, p, changed), 10 * tiny.atol)
    assert not per_token(scores.values)[~p.mask].any()
    assert scores.options == {"ablation": by, "oracle": True} and scores.total is None


@over(one_of_each, scores_are_live, among=[*ALL, *WIDE])
def test_deleted_attention_hides_a_token_from_all_others(tiny: Tiny) -> None:
    """Patterns renormalised by hand in a run of its own; its own query still sees it."""
    p, model = prompts(padded=True), tiny.model
    scores = influence.occlusion(model, p, ablation="attention")
    clean = slow.metric_of_run(model, p)
    for j in range(p.clean.shape[1]):

        def hide(pattern: Tensor, j: int = j) -> Tensor:
            kept = pattern.clone()
            kept[:, :, :, j] *= torch.arange(pattern.shape[2]) == j
            return kept / kept.sum(-1, keepdim=True)

        hooks = [(f"blocks.{layer}.attn.hook_pattern", hide) for layer in range(tiny.family.n_layers)]
        close(per_token(scores.values)[:, j], clean - slow.metric_of_run(model, p, hooks), 10 * tiny.atol)


def test_stretches_cover_every_token_once_and_fit() -> None:
    for rows, last, room in ((1, 40, 100), (4, 40, 300), (16, 15, 512), (3, 7, 1)):
        found = list(stretches(rows, last, room, skips=True))
        assert [j for first, end in reversed(found) for j in range(first, end)] == list(range(last))
        assert all((end - first) * rows * (last - first) <= room for first, end in found if end - first > 1)


# --- direct, by token --------------------------------------------------------------------------------------------


@over()
def test_token_attribution_is_the_split_of_all_heads(tiny: Tiny) -> None:
    """By source it is the heads' split, and at the target everything else."""
    p, model = prompts(padded=True), tiny.model
    scores = influence.token_attribution(model, p)
    split = influence.source_token_attribution(model, p).values.sum(0)
    nodes = influence.direct_logit_attribution(model, p)
    heads = sum(nodes.of(node) for node in nodes.nodes if type(node).__name__ == "Head")
    end = p.positions["END"]
    split[torch.arange(len(p)), end] += nodes.values.sum(0) - heads
    close(per_token(scores.values), split, 10 * tiny.atol)
    assert scores.per_layer is not None
    rest = scores.values.sum((1, 2)) - scores.per_layer.sum((0, 2, 3))
    close(rest, nodes.of(Embed()) + nodes.of(Bias("unembedding", tiny.family.n_layers)), 10 * tiny.atol)


# --- known models ------------------------------------------------------------------------------------------------


def known(name: str) -> tuple[Any, PromptSet]:
    from llmtrace.models.hand_built.designs import known_circuit

    truth = known_circuit(name)
    model = models.load(name, dtype="float64") if name in models.embedded_names() else built(name)
    return model, from_pairs(model, [(truth.clean, truth.corrupted, truth.correct, truth.wrong)])


def built(name: str) -> Any:
    from llmtrace.models.hand_built.designs import build

    return build(name, hooked=True, dtype=torch.float64).requires_grad_(False)


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("integrated_gradients", {"baseline": "mean"}),
        ("occlusion", {"ablation": "zero"}),
        ("occlusion", {"ablation": "mean"}),
    ],
)
def test_the_copied_token_of_the_induction_model_leads(method: str, options: dict[str, Any]) -> None:
    """ "w1 w2 w3 w4 w5 w1 w2 w3" -> w4: the token w4, at position 4, is what is copied. By the baselines that have no
    number by hand in `test_influence_truth.py`.

    Occlusion sees the two w3 as well, by which w4 is found: without either nothing is copied."""
    model, p = known("induction")
    values = influence.METHODS[method](model, p, **options).values[0, 0]
    others = values[[1, 2, 5, 6, 7] if method == "occlusion" else [1, 2, 3, 5, 6, 7, 8]]
    assert int(values.argmax()) == 4 and values[4] > 2 * others.abs().max()


@hand_built_scores_are_live
def test_deleted_attention_breaks_the_copy_of_the_induction_model() -> None:
    """Hide w4, or w3 (what the previous-token head of w4 reads): either way nothing is copied."""
    model, p = known("induction")
    values = influence.occlusion(model, p, ablation="attention").values[0, 0]
    assert values[4] > 2.5 and values[3] > 2.5 and values[[1, 2, 5, 6, 7]].abs().max() < 0.5


# --- bad input ---------------------------------------------------------------------------------------------------


def test_what_means_nothing_is_a_sentence() -> None:
    model, p = Tiny(LLAMA, "bridge", True).model, prompts()
    with pytest.raises(InputError, match=r"baseline to be one of mean, zero, resample, pad, got 'men'.*'mean'"):
        influence.integrated_gradients(model, p, baseline="men")
    with pytest.raises(InputError, match="whole number of steps from 1 on, got 0"):
        influence.integrated_gradients(model, p, steps=0)
    with pytest.raises(InputError, match="Expected ablation to be one of"):
        influence.occlusion(model, p, ablation="nothing")
    with pytest.raises(InputError, match="gradient of kl is zero"):
        influence.input_x_gradient(Tiny(GPT2, "bridge", True).model, p, metric="kl")
    with pytest.raises(InputError, match="gradient of kl is zero"):
        influence.gradient_rollout(Tiny(GPT2, "bridge", True).model, p, metric="kl")
    with pytest.raises(InputError, match="metric with a gradient"):
        influence.gradient_rollout(model, p, metric=lambda rows: rows.argmax(-1).double())
    with pytest.raises(InputError, match="metric with a gradient"):
        influence.input_x_gradient(model, p, metric=lambda rows: rows.argmax(-1).double())
    with pytest.raises(UnsupportedError, match="linear in the logits"):
        influence.token_attribution(model, p, metric="probability")
    from dataclasses import replace as changed

    same = changed(p, corrupted=p.clean)
    with pytest.raises(InputError, match="needs corrupted prompts"):
        influence.occlusion(model, same, ablation="resample")
    with pytest.raises(InputError, match="needs corrupted prompts"):
        influence.integrated_gradients(model, same, baseline="resample")


@over(one_of_each, no_norm)
def test_other_metrics_are_explained_too(tiny: Tiny) -> None:
    """log-probability of the correct answer: the path still sums to its change."""
    p = prompts(padded=True)
    scores = influence.integrated_gradients(tiny.model, p, metric="log_probability", baseline="resample", steps=64)
    assert scores.gap is not None and scores.gap.abs().max() < 1e-2 and scores.metric == "log_probability"
