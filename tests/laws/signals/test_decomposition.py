"""Laws 1-5, 7-9, 51, 52: the residual stream is a sum, and so is everything read linearly from it.

That the scores of each method sum to what they explain is a law over the table of methods: `test_influence_truth.py`.
"""

from __future__ import annotations

import functools

import slow_twins as slow
import torch
from tiny import HEADS, POST_NORM, Tiny, close, has_mlp, over, prompts, sequential

from llmtrace import influence, models, signals
from llmtrace.influence.direct_logit_attribution import logit_direction
from llmtrace.influence.tokens.rollout import roll
from llmtrace.nodes import Bias, Head, Node

EVERYTHING = ("resid_pre", "resid_post", "attn_out", "pattern", "q", "k", "v", "z")


def trace_of(tiny: Tiny, *more: str) -> signals.Trace:
    return signals.capture(tiny.model, prompts(), what=(*EVERYTHING, *more))


def layers(tiny: Tiny) -> range:
    return range(tiny.family.n_layers)


@over()
def test_the_runner_gives_the_models_own_logits(tiny: Tiny) -> None:
    """The ground all laws stand on: `models.logits` is the model."""
    tokens = prompts().clean
    close(models.logits(tiny.model, tokens), tiny.model(tokens, return_type="logits"), tiny.atol)


@over()
def test_resid_post_is_resid_pre_plus_writes(tiny: Tiny) -> None:
    """Law 1: resid_post = resid_pre + attn_out + mlp_out."""
    trace = trace_of(tiny, *(["mlp_out"] if has_mlp(tiny) else []))
    for layer in layers(tiny):
        total = trace[f"blocks.{layer}.hook_resid_pre"] + trace[f"blocks.{layer}.hook_attn_out"]
        if has_mlp(tiny):
            total = total + trace[f"blocks.{layer}.hook_mlp_out"]
        close(signals.resid_post(trace, layer), total, tiny.atol)


@over(among=POST_NORM)
def test_with_post_norms_the_stream_still_adds_up(tiny: Tiny) -> None:
    """Law 1 for what the residual stream receives: `attn_out` and `mlp_out` are captured after the post-norm."""
    test_resid_post_is_resid_pre_plus_writes(tiny)


@over(sequential, has_mlp)
def test_resid_mid_stands_between_attention_and_mlp(tiny: Tiny) -> None:
    """Law 1, in the middle: resid_mid = resid_pre + attn_out."""
    trace = trace_of(tiny, "resid_mid")
    for layer in layers(tiny):
        total = signals.resid_pre(trace, layer) + trace[f"blocks.{layer}.hook_attn_out"]
        close(signals.resid_mid(trace, layer), total, tiny.atol)


@over()
def test_the_final_residual_is_the_sum_of_all_writes(tiny: Tiny) -> None:
    """Law 2: final residual = input + heads + MLPs + every b_O (MLP writes include b_out)."""
    tokens = prompts().clean
    writes = signals.node_writes(tiny.model, tokens)
    biases = sum(models.attention_weights(tiny.model, layer).b_O for layer in layers(tiny))
    close(writes.values.sum(0) + biases, models.final_residual(tiny.model, tokens), tiny.atol)
    close(writes.final, models.final_residual(tiny.model, tokens), tiny.atol)


@over()
def test_node_writes_equal_their_slow_twin(tiny: Tiny) -> None:
    """What a node writes = what the stream receives when the layer's other heads are silent."""
    writes = signals.node_writes(tiny.model, prompts(padded=True).clean)
    assert writes.nodes[0] == slow.writers(tiny.model)[0] and set(writes.nodes) == set(slow.writers(tiny.model))
    for node in writes.nodes:
        close(writes.of(node), write_by_hand(tiny, node), tiny.atol)


@functools.cache
def write_by_hand(tiny: Tiny, node: Node) -> torch.Tensor:
    return slow.write_of(tiny.model, prompts(padded=True).clean, node)


@over()
def test_attention_output_is_the_sum_of_head_results(tiny: Tiny) -> None:
    """Law 3: attn_out = sum_h result_h + b_O."""
    trace = trace_of(tiny)
    for layer in layers(tiny):
        total = signals.head_result(trace, tiny.model, layer).sum(2) + models.attention_weights(tiny.model, layer).b_O
        close(total, trace[f"blocks.{layer}.hook_attn_out"], tiny.atol)


@over()
def test_a_head_result_is_values_averaged_by_attention(tiny: Tiny) -> None:
    """Law 4: result_h[i] = sum_j A[i, j] v_j W_O, one head, target and source at a time."""
    trace = trace_of(tiny)
    for layer in layers(tiny):
        pattern, v = signals.attention_pattern(trace, layer), signals.values(trace, layer)
        W_O = models.attention_weights(tiny.model, layer).W_O
        results = signals.head_result(trace, tiny.model, layer)
        group = pattern.shape[1] // v.shape[2]
        for head in range(pattern.shape[1]):
            for i in range(pattern.shape[2]):
                by_hand = sum(pattern[:, head, i, j, None] * (v[:, j, head // group] @ W_O[head]) for j in range(i + 1))
                close(results[:, i, head], by_hand, tiny.atol)


@over()
def test_attention_rows_sum_to_one_and_look_back(tiny: Tiny) -> None:
    """Law 5: rows of A sum to 1; A[i, j > i] = 0."""
    trace = trace_of(tiny)
    for layer in layers(tiny):
        pattern = signals.attention_pattern(trace, layer)
        close(pattern.sum(-1), torch.ones_like(pattern[..., 0]), 1e-6)
        assert pattern.triu(1).abs().max() == 0


@over()
def test_direct_attribution_by_hand(tiny: Tiny) -> None:
    """Slow twin of DLA: (write - mean) / sigma * w . (mean correct row - mean wrong row), one by one."""
    p, model = prompts(padded=True), tiny.model
    scores = influence.direct_logit_attribution(model, p)
    final, norm = models.final_residual(model, p.clean), models.final_norm(model)
    for node in slow.writers(model):
        write = write_by_hand(tiny, node)
        for i, end in enumerate(p.positions["END"].tolist()):
            x, a = final[i, end], write[i, end]
            if tiny.family.norm == "LN":
                x, a = x - x.mean(), a - a.mean()
            if tiny.family.norm is not None:
                a = a / ((x**2).mean() + norm.eps).sqrt()
            a = a if norm.weight is None else a * norm.weight
            right, wrong = (model.W_U[:, list(answers)].mean(1) for answers in (p.correct[i], p.wrong[i]))
            close(scores.of(node)[i], a @ (right - wrong), tiny.atol)


@over()
def test_the_lens_of_the_last_layer_is_the_output(tiny: Tiny) -> None:
    """Law 7, and the slow twin: every stage through the model's own final norm and unembedding."""
    p, model = prompts(padded=True), tiny.model
    lens = influence.logit_lens(model, p)
    close(lens.values[-1], slow.metric_of_run(model, p), tiny.atol)
    names = [f"blocks.{layer}.hook_resid_pre" for layer in layers(tiny)]
    mids = has_mlp(tiny) and sequential(tiny)
    if mids:
        names = [
            n for layer in layers(tiny) for n in (f"blocks.{layer}.hook_resid_pre", f"blocks.{layer}.hook_resid_mid")
        ]
    streams = slow.read(model, p.clean, names)
    assert len(lens.stages) == len(names) + 1
    for value, name in zip(lens.values, names, strict=False):
        close(value, slow.logit_diff(slow.unembedded(model, streams[name]), p), tiny.atol)


@over(has_mlp)
def test_an_mlp_is_the_sum_of_its_neurons(tiny: Tiny) -> None:
    """Law 8: sum over neurons of act x W_out + b_out = mlp_out."""
    trace = trace_of(tiny, "mlp_post", "mlp_out")
    for layer in layers(tiny):
        w, post = models.mlp_weights(tiny.model, layer), signals.mlp_post(trace, layer)
        by_neuron = sum(post[..., n, None] * w.W_out[n] for n in range(post.shape[-1]))
        close(by_neuron + w.b_out, trace[f"blocks.{layer}.hook_mlp_out"], tiny.atol)


@over()
def test_heads_and_bias_add_up_to_the_layer(tiny: Tiny) -> None:
    """Law 9: direct attributions of a layer's heads + that of b_O = that of attn_out."""
    p, model = prompts(), tiny.model
    scores = influence.direct_logit_attribution(model, p)
    trace, metric = trace_of(tiny), p.metric("logit_diff")
    final, norm = models.final_residual(model, p.clean), models.final_norm(model)
    rows, at = torch.arange(len(p)), metric.positions
    direction = logit_direction(model, metric)
    for layer in layers(tiny):
        write = trace[f"blocks.{layer}.hook_attn_out"][rows, at]
        whole = (norm.frozen(write, norm.scale(final[rows, at])) * direction).sum(-1)
        heads = sum(scores.of(Head(layer, head)) for head in range(tiny.family.n_heads))
        close(heads + scores.of(Bias("b_O", layer)), whole, tiny.atol)


@over()
def test_token_writes_add_up_to_what_attention_writes(tiny: Tiny) -> None:
    """Law 51: sum_j T_i(x_j) + b_O = attn_out (with resid_pre: resid_mid, where there is one)."""
    trace = trace_of(tiny)
    for layer in layers(tiny):
        moved = influence.token_writes(tiny.model, trace, layer).sum(2)
        b_O = models.attention_weights(tiny.model, layer).b_O
        close(moved + b_O, trace[f"blocks.{layer}.hook_attn_out"], tiny.atol)


@over()
def test_value_weighted_norms_by_hand(tiny: Tiny) -> None:
    """Slow twin: || sum_h A_h[i, j] v_j W_O + [i = j] resid_pre_i ||, one pair of tokens at a time."""
    p, model, trace = prompts(), tiny.model, trace_of(tiny)
    layer = tiny.family.n_layers - 1
    with_stream = influence.value_weighted_norms(model, p, layer=layer)
    without = influence.value_weighted_norms(model, p, layer=layer, residual=False)
    pattern, v = signals.attention_pattern(trace, layer), signals.values(trace, layer)
    W_O, group = models.attention_weights(model, layer).W_O, pattern.shape[1] // v.shape[2]
    for i in range(pattern.shape[2]):
        for j in range(pattern.shape[3]):
            write = sum(pattern[:, h, i, j, None] * (v[:, j, h // group] @ W_O[h]) for h in range(pattern.shape[1]))
            close(without.values[:, i, j], write.norm(dim=-1), tiny.atol)
            stream = signals.resid_pre(trace, layer)[:, i] if i == j else 0
            close(with_stream.values[:, i, j], (write + stream).norm(dim=-1), tiny.atol)


@over()
def test_rollout_equals_its_slow_twin(tiny: Tiny) -> None:
    rolled = influence.rollout(tiny.model, prompts())
    trace = trace_of(tiny)
    by_hand = slow.rollout([signals.attention_pattern(trace, layer) for layer in layers(tiny)])
    close(rolled.values, by_hand, tiny.atol)


def test_rollout_of_attention_to_oneself_is_the_identity() -> None:
    """Law 52: with A = I, rollout is I."""
    eye = torch.eye(6, dtype=torch.float64).expand(3, 2, HEADS, 6, 6)
    torch.testing.assert_close(roll(eye), eye[0, :, 0])


@over()
def test_raw_attention_is_the_pattern(tiny: Tiny) -> None:
    """One head's pattern as it is, a layer's as the mean over heads."""
    trace = trace_of(tiny)
    pattern = signals.attention_pattern(trace, 1)
    close(influence.raw_attention(tiny.model, prompts(), layer=1, head=1).values, pattern[:, 1], tiny.atol)
    close(influence.raw_attention(tiny.model, prompts(), layer=1).values, pattern.mean(1), tiny.atol)
