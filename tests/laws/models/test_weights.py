"""The view of the weights against the activations they make, and the norm as a value against the model's own module.

Every closed form of the package is built from these two, so they are tested on every model.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny import ALL, POST_NORM, Tiny, close, has_mlp, has_norm, over, prompts

from llmtrace import models, signals


def reads_of(tiny: Tiny, layer: int, *names: str) -> tuple[torch.Tensor, ...]:
    full = [f"blocks.{layer}.{name}" for name in names]
    trace = signals.capture(tiny.model, prompts(), what=full)
    return tuple(trace[name] for name in full)


@over(among=[*ALL, *POST_NORM])
def test_queries_keys_and_values_are_what_the_weights_say(tiny: Tiny) -> None:
    """q = norm(resid_pre) W_Q + b_Q, with k and v of the key-value heads that exist (before rotary, before QK-norm)."""
    for layer in range(tiny.family.n_layers):
        w = models.attention_weights(tiny.model, layer)
        x, q, k, v = reads_of(tiny, layer, "hook_resid_pre", "attn.hook_q", "attn.hook_k", "attn.hook_v")
        read = w.norm(x)
        for activation, weight, bias in ((q, w.W_Q, w.b_Q), (k, w.W_K, w.b_K), (v, w.W_V, w.b_V)):
            assert len(weight) == activation.shape[2]
            for head in range(len(weight)):
                close(activation[:, :, head], read @ weight[head] + bias[head], tiny.atol)
        assert len(w.W_Q) == tiny.family.n_heads and len(w.W_K) == len(w.W_V) == tiny.family.kv_heads


@over(has_mlp, among=[*ALL, *POST_NORM])
def test_mlp_activations_are_what_the_weights_say(tiny: Tiny) -> None:
    """pre = norm(x) W_in + b_in (of the gate, where there is one: act(pre) (norm(x) W_in + b_in)); x is resid_mid, or
    resid_pre in parallel blocks."""
    stream = "hook_resid_pre" if tiny.family.parallel else "hook_resid_mid"
    for layer in range(tiny.family.n_layers):
        w = models.mlp_weights(tiny.model, layer)
        x, pre, post, out = reads_of(tiny, layer, stream, "mlp.hook_pre", "mlp.hook_post", "hook_mlp_out")
        read = w.norm(x)
        if tiny.family.gated:
            assert w.W_gate is not None
            close(pre, read @ w.W_gate, tiny.atol)
            (linear,) = reads_of(tiny, layer, "mlp.hook_pre_linear")
            close(linear, read @ w.W_in, tiny.atol)
            gelu = tiny.family.name == "gemma2"
            act = torch.nn.functional.gelu(pre, approximate="tanh") if gelu else torch.nn.functional.silu(pre)
            close(post, act * linear + w.b_in, tiny.atol)
        else:
            assert w.W_gate is None
            close(pre, read @ w.W_in + w.b_in, tiny.atol)
        if not tiny.family.post_norm:
            close(out, post @ w.W_out + w.b_out, tiny.atol)


@over(has_mlp, among=[*ALL, *POST_NORM])
def test_one_mlp_alone_computes_what_it_did_in_the_model(tiny: Tiny) -> None:
    """`run_mlp` on the stream that the MLP read gives mlp_out, whatever the leading axes are."""
    stream = "hook_resid_pre" if tiny.family.parallel else "hook_resid_mid"
    for layer in range(tiny.family.n_layers):
        x, out = reads_of(tiny, layer, stream, "hook_mlp_out")
        close(models.run_mlp(tiny.model, layer, x), out, tiny.atol)
        close(models.run_mlp(tiny.model, layer, x[:, -1]), out[:, -1], tiny.atol)
        stacked = models.run_mlp(tiny.model, layer, torch.stack([x, x.flip(0)]))
        close(stacked[1], out.flip(0), tiny.atol)


@over(among=[*ALL, *POST_NORM])
def test_the_readers_are_where_they_say(tiny: Tiny) -> None:
    """`head_readers` and `mlp_readers`: norm(stream) weight + bias is the activation at their hook."""
    for layer in range(tiny.family.n_layers):
        norm = models.attention_weights(tiny.model, layer).norm
        streams = [("hook_resid_pre", norm, tuple(models.head_readers(tiny.model, layer).values()))]
        if has_mlp(tiny):
            stream = "hook_resid_pre" if tiny.family.parallel else "hook_resid_mid"
            streams.append((stream, models.mlp_norm(tiny.model, layer), models.mlp_readers(tiny.model, layer)))
        for stream, norm, readers in streams:
            for reader in readers:
                x, activation = reads_of(tiny, layer, stream, reader.hook.removeprefix(f"blocks.{layer}."))
                by_hand = torch.stack([norm(x) @ w + b for w, b in zip(reader.weight, reader.bias, strict=True)], dim=2)
                close(activation if activation.ndim == 4 else activation[:, :, None], by_hand, tiny.atol)


def norms_of(tiny: Tiny) -> list[tuple[models.Norm, Any]]:
    """Every norm as a value, beside the model's own module."""
    found = [(models.final_norm(tiny.model), tiny.model.ln_final)]
    for layer in range(tiny.family.n_layers):
        block = tiny.model.blocks[layer]
        found.append((models.attention_weights(tiny.model, layer).norm, block.ln1))
        found.append((models.mlp_norm(tiny.model, layer), getattr(block, "ln2", None) or block.ln1))
    return found


def streams(n: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 1.5 + 2 * torch.randn(n, 3, 16, generator=generator, dtype=torch.float64)


@over(has_norm, among=[*ALL, *POST_NORM])
def test_the_norm_as_a_value_is_the_models_own(tiny: Tiny) -> None:
    """Norm(x) = the module, which may compute in float32 on bridges."""
    x = streams(2, 0)
    for norm, module in norms_of(tiny):
        assert norm.kind == tiny.family.norm
        close(norm(x), module(x), tiny.atol)


@over(has_norm)
def test_pulling_a_gradient_back_through_a_norm_is_what_autograd_does(tiny: Tiny) -> None:
    """(g - mean g - y mean(g y)) / sigma, g weighted; for RMSNorm without the mean."""
    for norm, module in norms_of(tiny):
        x, g = streams(2, 1).requires_grad_(True), streams(2, 2)
        with torch.enable_grad():
            (by_autograd,) = torch.autograd.grad((module(x) * g).sum(), x)
        close(norm.pull_back(x.detach(), g), by_autograd, tiny.atol)


@over()
def test_a_frozen_norm_is_linear(tiny: Tiny) -> None:
    """frozen(a) + frozen(b) = frozen(a + b); of the stream itself it is norm(x) less the bias; and frozen(a) . d =
    a . frozen_transpose(d)."""
    norm, x, a, d = models.final_norm(tiny.model), streams(2, 3), streams(2, 4), streams(2, 5)
    scale = norm.scale(x)
    close(norm.frozen(a, scale) + norm.frozen(x - a, scale), norm.frozen(x, scale), 1e-9)
    close(norm.frozen(x, scale) + (0 if norm.bias is None else norm.bias), norm(x), 1e-9)
    close((norm.frozen(a, scale) * d).sum(-1), (a * norm.frozen_transpose(d, scale)).sum(-1), 1e-9)


@pytest.mark.parametrize("kind", ["LN", "RMS"])
def test_norm_worked_out_by_hand(kind: str) -> None:
    """x = (1, 3), w = (2, 1), b = (0, 5): LN y = (-1, 1) -> (-2, 6); RMS sigma = sqrt 5 -> (2 / sqrt 5, 3 / sqrt 5)."""
    x, w, b = (torch.tensor(v, dtype=torch.float64) for v in ((1.0, 3.0), (2.0, 1.0), (0.0, 5.0)))
    norm = models.Norm(kind, w, b if kind == "LN" else None, 0.0)
    expected = (-2.0, 6.0) if kind == "LN" else (2 / 5**0.5, 3 / 5**0.5)
    torch.testing.assert_close(norm(x), torch.tensor(expected, dtype=torch.float64))
