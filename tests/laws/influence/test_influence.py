"""Laws 6-8, 49 and 52 again where `test_decomposition.py` stops: other metrics, other positions, single summands."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from itertools import pairwise, product
from typing import Any

import pytest
import slow_twins as slow
import torch
from hypothesis import given, settings, strategies as st
from slow_twins import read, replace, unembedded
from tiny import GPT2, LAYERS, POST_NORM, QWEN2, Tiny, close, has_mlp, one_of_each, over, prompts
from torch import Tensor

from llmtrace import influence, metrics, models
from llmtrace.errors import UnsupportedError
from llmtrace.influence.tokens.rollout import roll
from llmtrace.metrics import Metric
from llmtrace.nodes import Bias, Embed, Head, Mlp, Neuron

ANSWERS = ((3, 8, 21), (5, 7), (11,), (2, 4), (9,))
OTHERS = ((4,), (6, 30, 31), (12, 13), (1, 3), (10,))
THIRDS = ((14, 15), (16,), (17,), (18, 19, 20), (22,))


def at_mid(right: Any, wrong: Any) -> Metric:
    """A logit difference that is read in the middle of the prompt."""
    return metrics.logit_diff(prompts(padded=True).positions["MID"], right, wrong)


def direct_effect(tiny: Tiny, write: Tensor) -> Tensor:
    """[batch]: a write [batch pos d_model] through the final norm with its scale frozen, by hand, at END."""
    p, model = prompts(padded=True), tiny.model
    final, norm = models.final_residual(model, p.clean), models.final_norm(model)
    found = []
    for i, end in enumerate(p.positions["END"].tolist()):
        x, a = final[i, end], write[i, end]
        if tiny.family.norm == "LN":
            x, a = x - x.mean(), a - a.mean()
        if tiny.family.norm is not None:
            a = a / ((x**2).mean() + norm.eps).sqrt()
        a = a if norm.weight is None else a * norm.weight
        right, wrong = (model.W_U[:, list(answers)].mean(1) for answers in (p.correct[i], p.wrong[i]))
        found.append(a @ (right - wrong))
    return torch.stack(found)


# --- direct attribution --------------------------------------------------------------------------------------------


@over()
def test_attribution_is_whole_at_any_position(tiny: Tiny) -> None:
    """Law 6 in the middle of the prompt, with several answers: nodes + biases = the model's own logits there."""
    p, metric = prompts(padded=True), at_mid(ANSWERS, OTHERS)
    scores = influence.direct_logit_attribution(tiny.model, p, metric=metric)
    logits = tiny.model(p.clean, return_type="logits")
    for i, mid in enumerate(p.positions["MID"].tolist()):
        right, wrong = (logits[i, mid, list(answers)].mean() for answers in (ANSWERS[i], OTHERS[i]))
        close(scores.values[:, i].sum(), right - wrong, tiny.atol)
    at_end = influence.direct_logit_attribution(tiny.model, p)
    assert (scores.values - at_end.values).abs().max() > 1e-3


@over(one_of_each)
def test_attribution_is_linear_in_the_metric(tiny: Tiny) -> None:
    """(a - b) + (b - c) = a - c for every node, and b - a = -(a - b)."""
    p = prompts(padded=True)

    def of(right: Any, wrong: Any) -> Tensor:
        return influence.direct_logit_attribution(tiny.model, p, metric=at_mid(right, wrong)).values

    first = of(ANSWERS, OTHERS)
    close(first + of(OTHERS, THIRDS), of(ANSWERS, THIRDS), tiny.atol)
    close(of(OTHERS, ANSWERS), -first, tiny.atol)


@pytest.mark.parametrize("family", [GPT2, QWEN2], ids=lambda family: family.name)
def test_attribution_does_not_depend_on_weight_processing(family: Any) -> None:
    """What the input, each MLP and each whole attention layer add is the same of raw and of processed weights; only the
    share of heads and of b_O is not, because value biases move from the one to the other (law 13)."""
    raw, processed = (
        influence.direct_logit_attribution(Tiny(family, "bridge", processed).model, prompts())
        for processed in (False, True)
    )
    assert raw.gap is not None and processed.gap is not None
    close(raw.total, processed.total, 1e-5)
    for node in (Embed(), *map(Mlp, range(LAYERS)), Bias("unembedding", LAYERS)):
        close(processed.of(node), raw.of(node), 1e-5)
    moved = []
    for layer in range(LAYERS):
        nodes = [*(Head(layer, head) for head in range(family.n_heads)), Bias("b_O", layer)]
        close(sum(map(processed.of, nodes)), sum(map(raw.of, nodes)), 1e-5)
        moved += [(processed.of(node) - raw.of(node)).abs().max().item() for node in nodes]
    assert max(moved) > 1e-3


def not_linear() -> dict[str, Metric]:
    p = prompts(padded=True)
    linear, logits = p.metric("logit_diff"), torch.zeros(5, 7, 40)
    named = {name: p.metric(name) for name in ("probability", "log_probability", "probability_diff")}
    ones = torch.ones(len(p), dtype=torch.float64)
    return named | {
        "kl": p.metric("kl", reference=logits),
        "a function": p.metric(lambda rows: rows[..., 3] - rows[..., 4]),
        "normalised": metrics.normalised(linear, ones, 0 * ones),
    }


ATTRIBUTIONS = [
    influence.direct_logit_attribution, influence.neuron_attribution, influence.source_token_attribution,
]  # fmt: skip


@pytest.mark.parametrize("method", ATTRIBUTIONS, ids=lambda method: method.__name__)
@pytest.mark.parametrize("name", list(not_linear()))
def test_what_is_not_known_to_be_linear_is_refused(method: Callable[..., Any], name: str) -> None:
    """Scores that do not sum to the metric are no decomposition of it."""
    with pytest.raises(UnsupportedError, match="linear in the logits"):
        method(Tiny(GPT2, "bridge", True).model, prompts(padded=True), metric=not_linear()[name])


# --- neurons and source tokens, one at a time ----------------------------------------------------------------------


@pytest.mark.usefixtures("as_users_run")
@over(has_mlp)
def test_a_neurons_score_is_what_it_writes_alone(tiny: Tiny) -> None:
    """Slow twin: the MLP's output with all other neurons silent, less its output when all are silent (b_out)."""
    p, model = prompts(padded=True), tiny.model
    scores = influence.neuron_attribution(model, p)
    for layer in (0, tiny.family.n_layers - 1):
        post, out = f"blocks.{layer}.mlp.hook_post", f"blocks.{layer}.hook_mlp_out"
        active = read(model, p.clean, [post])[post]

        def written(activation: Tensor, post: str = post, out: str = out) -> Tensor:
            return read(model, p.clean, [out], [replace(post, activation)])[out]

        silent = written(torch.zeros_like(active))
        close(scores.of(Bias("b_out", layer)), direct_effect(tiny, silent), tiny.atol)
        for neuron in (0, 7, active.shape[-1] - 1):
            alone = torch.zeros_like(active)
            alone[..., neuron] = active[..., neuron]
            close(scores.of(Neuron(layer, neuron)), direct_effect(tiny, written(alone) - silent), tiny.atol)


@pytest.mark.usefixtures("as_users_run")
@over(one_of_each)
def test_a_source_tokens_share_is_what_its_value_brings(tiny: Tiny) -> None:
    """Slow twin: the head's write when every other position's value is zero. Queries and keys stay, so A does."""
    p, model = prompts(padded=True), tiny.model
    split = influence.source_token_attribution(model, p)
    layer = tiny.family.n_layers - 1
    name = f"blocks.{layer}.attn.hook_v"
    v = read(model, p.clean, [name])[name]
    for head in (0, tiny.family.n_heads - 1):
        shares = split.values[split.nodes.index(Head(layer, head))]
        for source in range(v.shape[1]):
            alone = torch.zeros_like(v)
            alone[:, source] = v[:, source]
            write = slow.head_write(model, p.clean, layer, head, [replace(name, alone)])
            close(shares[:, source], direct_effect(tiny, write), tiny.atol)


@over()
def test_some_heads_and_layers_score_as_they_do_among_all(tiny: Tiny) -> None:
    """Choosing nodes changes which are shown, in the order asked for, and nothing else."""
    p, last = prompts(), tiny.family.n_layers - 1
    whole = influence.source_token_attribution(tiny.model, p)
    heads = [Head(last, 1), Head(0, 0)]
    some = influence.source_token_attribution(tiny.model, p, heads=heads)
    assert list(some.nodes) == heads
    for i, head in enumerate(heads):
        close(some.values[i], whole.values[whole.nodes.index(head)], tiny.atol)
    if has_mlp(tiny):
        neurons = influence.neuron_attribution(tiny.model, p)
        one = influence.neuron_attribution(tiny.model, p, layers=[last])
        assert {node.layer for node in one.nodes} == {last}
        for node in one.nodes[:3]:
            close(one.of(node), neurons.of(node), tiny.atol)


# --- logit lens ----------------------------------------------------------------------------------------------------


@over()
def test_every_stage_of_the_lens_is_the_models_own_head_on_it(tiny: Tiny) -> None:
    """Law 7 for metrics of all logits, by hand: final norm, unembedding, softmax; and the token that comes out top."""
    p, model = prompts(padded=True), tiny.model
    rows, end = torch.arange(len(p)), p.positions["END"]
    stages = influence.logit_lens(model, p).stages[:-1]
    names = [f"blocks.{layer}.hook_resid_{place}" for layer, place in (stage.split("_") for stage in stages)]
    kept = read(model, p.clean, names)
    each = [unembedded(model, kept[name])[rows, end] for name in names]
    each.append(model(p.clean, return_type="logits")[rows, end])
    for metric in ("probability", "log_probability", "probability_diff"):
        lens = influence.logit_lens(model, p, metric=metric)
        assert lens.stages == (*stages, "final") and lens.metric == metric
        for stage, logits in enumerate(each):
            close_to_stage(lens, stage, logits, metric, tiny)


def close_to_stage(lens: influence.LensScores, stage: int, logits: Tensor, metric: str, tiny: Tiny) -> None:
    p, chances = prompts(padded=True), logits.softmax(-1)
    right, wrong = (
        torch.stack([chances[i, list(tokens)].sum() for i, tokens in enumerate(answers)])
        for answers in (p.correct, p.wrong)
    )
    expected = {"probability": right, "log_probability": right.log(), "probability_diff": right - wrong}
    close(lens.values[stage], expected[metric], tiny.atol)
    close(lens.top_probability[stage], chances.max(-1).values, tiny.atol)
    labels = models.token_labels(tiny.model, chances.argmax(-1)[:, None])
    assert lens.top_tokens[stage] == tuple(label for (label,) in labels)


@over(among=POST_NORM)
def test_the_lens_reads_a_capped_model_as_it_is(tiny: Tiny) -> None:
    """Law 7 where attribution is refused: the lens splits nothing, and caps its logits as the model does."""
    p = prompts(padded=True)
    lens = influence.logit_lens(tiny.model, p)
    close(lens.values[-1], slow.logit_diff(tiny.model(p.clean, return_type="logits"), p), tiny.atol)
    first = read(tiny.model, p.clean, ["blocks.0.hook_resid_pre"])["blocks.0.hook_resid_pre"]
    close(lens.values[0], slow.logit_diff(unembedded(tiny.model, first), p), tiny.atol)


# --- token to token ------------------------------------------------------------------------------------------------


@over()
def test_influence_never_comes_from_later_tokens(tiny: Tiny) -> None:
    """Rollout, raw attention and norms are zero above the diagonal and not below it; rollout keeps half of itself."""
    p, n_layers = prompts(), tiny.family.n_layers
    found = [method(tiny.model, p) for method in (influence.rollout, influence.raw_attention)]
    found.append(influence.value_weighted_norms(tiny.model, p))
    below = torch.ones_like(found[0].values[0], dtype=torch.bool).tril()
    for one in found:
        assert one.per_layer is not None and len(one.per_layer) == n_layers
        for values in (one.values, *one.per_layer):
            assert values[:, ~below].abs().max() == 0
            assert values[:, below].min() > 0
    assert (found[0].values.diagonal(dim1=1, dim2=2) >= 2.0**-n_layers - 1e-9).all()


def path_sum(patterns: Tensor) -> Tensor:
    """Rollout by its meaning: over all paths through the layers, the product of the shares along each."""
    n_layers, batch, _, width, _ = patterns.shape
    rolled = torch.zeros(batch, width, width, dtype=patterns.dtype)
    for b in range(batch):
        for path in product(range(width), repeat=n_layers + 1):  # path[0] is the source, path[-1] the target
            share = 1.0
            for layer, (source, target) in enumerate(pairwise(path)):
                attention = float(patterns[layer, b, :, target, source].mean())
                share *= (attention + (source == target)) / 2
            rolled[b, path[-1], path[0]] += share
    return rolled


@functools.cache
def causal(width: int) -> Tensor:
    return torch.ones(width, width, dtype=torch.bool).tril()


def patterns_of(seed: int, n_layers: int, heads: int, width: int) -> Tensor:
    """Random attention [layer batch head query key]: rows sum to one and look back."""
    scores = 3 * torch.randn(n_layers, 2, heads, width, width, generator=torch.Generator().manual_seed(seed)).double()
    return scores.masked_fill(~causal(width), -math.inf).softmax(-1)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.integers(1, 3), st.integers(1, 3), st.integers(1, 4))
def test_rollout_is_the_sum_over_paths(seed: int, n_layers: int, heads: int, width: int) -> None:
    """And so its rows sum to one (law 49), it looks back, and it does not know heads apart."""
    patterns = patterns_of(seed, n_layers, heads, width)
    rolled = roll(patterns)
    torch.testing.assert_close(rolled, path_sum(patterns), atol=1e-12, rtol=0)
    torch.testing.assert_close(rolled.sum(-1), torch.ones_like(rolled[..., 0]), atol=1e-12, rtol=0)
    assert rolled[:, ~causal(width)].abs().sum() == 0
    torch.testing.assert_close(roll(patterns.flip(2)), rolled, atol=1e-12, rtol=0)


def test_rollout_is_a_product_in_order() -> None:
    """Layers do not commute: first 1 looks at 0, then 2 looks at 1. The other way round, 2 takes nothing from 0."""
    eye = torch.eye(3, dtype=torch.float64)
    first, then = eye.clone(), eye.clone()
    first[1], then[2] = eye[0], eye[1]
    in_order, reversed_ = (roll(torch.stack(steps)[:, None, None])[0] for steps in ((first, then), (then, first)))
    assert in_order[2].tolist() == [0.25, 0.25, 0.5]
    assert reversed_[2].tolist() == [0, 0.5, 0.5]


@pytest.mark.parametrize("n_layers", [1, 3, 12])
def test_rollout_of_a_sink_has_a_closed_form(n_layers: int) -> None:
    """All attention on the first token: what stays of a token after L layers is 2^-L, the rest is the first token's."""
    sink = torch.zeros(n_layers, 1, 2, 5, 5, dtype=torch.float64)
    sink[..., 0] = 1
    rolled, stays = roll(sink)[0], 2.0**-n_layers
    expected = stays * torch.eye(5, dtype=torch.float64)
    expected[:, 0] += 1 - stays
    torch.testing.assert_close(rolled, expected, atol=1e-12, rtol=0)


def test_rollout_of_the_model_needs_every_layer() -> None:
    """The product of a part of the layers is not it: the whole model's pattern goes in, in the model's order."""
    tiny = Tiny(GPT2, "bridge", True)
    names = [f"blocks.{layer}.attn.hook_pattern" for layer in range(LAYERS)]
    found = read(tiny.model, prompts().clean, names)
    patterns = torch.stack([found[name] for name in names])
    rolled = influence.rollout(tiny.model, prompts()).values
    close(rolled, roll(patterns), tiny.atol)
    assert all((roll(wrong) - rolled).abs().max() > 1e-3 for wrong in (patterns.flip(0), patterns[1:], patterns[:1]))
