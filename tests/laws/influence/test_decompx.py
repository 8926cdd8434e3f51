"""DecompX: vectors carried forward one token at a time, against the direction carried back."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from slow_twins import read
from tiny import (
    ALL,
    GPT2,
    LLAMA,
    WIDE,
    Tiny,
    close,
    one_of_each,
    over,
    over_hooked,
    prompts,
)
from torch import Tensor

from llmtrace import influence, models
from llmtrace.errors import UnsupportedError
from llmtrace.models.hook_names import site_name
from llmtrace.prompts import PromptSet


def carried(model: Any, p: PromptSet, prompt: int) -> Tensor:
    """The final residual stream as [source, pos, d_model]: what is there of each token, layer by layer, head by head.

    Every part of a stage is made from the parts before it; that they add up to the activation is asked at each.
    """
    arch, tokens = models.describe(model), p.clean[prompt][None]
    n = tokens.shape[1]
    own = range(n)

    kinds = ["resid_pre", "resid_post", "pattern"] + ([] if arch.attn_only else ["mlp_post"])
    kinds += [] if arch.attn_only or arch.parallel else ["resid_mid"]
    ran = read(model, tokens, [site_name(kind, layer) for kind in kinds for layer in range(arch.n_layers)])

    def at(kind: str, layer: int) -> Tensor:
        return ran[site_name(kind, layer)][0]

    def normed(norm: models.Norm, parts: Tensor, stream: Tensor) -> Tensor:
        found = norm.frozen(parts, norm.scale(stream))
        if norm.bias is not None:
            found[own, own] += norm.bias
        assert torch.allclose(found.sum(0), norm(stream), atol=1e-5)
        return found

    parts = torch.zeros(n, n, arch.d_model, dtype=model.W_E.dtype)
    parts[own, own] = at("resid_pre", 0)
    for layer in range(arch.n_layers):
        w, before, pattern = models.attention_weights(model, layer), at("resid_pre", layer), at("pattern", layer)
        read_in = normed(w.norm, parts, before)
        wrote = torch.zeros_like(parts)
        for head in range(arch.n_heads):
            v = read_in @ w.W_V[head // arch.group]
            v[own, own] += w.b_V[head // arch.group]
            for j in own:
                wrote += pattern[head, :, j, None] * (v[:, j] @ w.W_O[head])[:, None]
        wrote[own, own] += w.b_O
        if not arch.attn_only:
            middle = before if arch.parallel else at("resid_mid", layer)
            m = models.mlp_weights(model, layer)
            read_in = normed(m.norm, parts if arch.parallel else parts + wrote, middle)
            pre = read_in @ (m.W_in if m.W_gate is None else m.W_gate)
            if m.W_gate is None:
                pre[own, own] += m.b_in
                post = pre * (at("mlp_post", layer) / pre.sum(0))
            else:
                linear = read_in @ m.W_in
                acted = (at("mlp_post", layer) - m.b_in) / linear.sum(0)
                post = (pre * (acted / pre.sum(0)) * linear.sum(0) + acted * linear) / 2
                post[own, own] += m.b_in
            of_mlp = post @ m.W_out
            of_mlp[own, own] += m.b_out
            wrote = wrote + of_mlp
        parts = parts + wrote
    assert torch.allclose(parts.sum(0), at("resid_post", arch.n_layers - 1), atol=1e-4)
    return parts


@pytest.mark.usefixtures("as_users_run")
@over(among=[*ALL, *WIDE])
def test_decompx_equals_its_slow_twin(tiny: Tiny) -> None:
    """Each token's vector carried forward alone; the metric read of what arrived of it."""
    p, model = prompts(padded=True)[:2], tiny.model
    metric = p.metric("logit_diff")
    assert metric.tokens is not None and metric.weights is not None
    found, norm = influence.decompx(model, p), models.final_norm(model)
    assert found.targets is not None and found.targets[:, 0].tolist() == p.positions["END"].tolist()
    for prompt in range(len(p)):
        end = int(metric.positions[prompt])
        arrived = carried(model, p, prompt)[:, end]
        seen = norm.frozen(arrived, norm.scale(arrived.sum(0)))
        seen[end] += 0 if norm.bias is None else norm.bias
        logits = seen @ model.W_U
        logits[end] += model.b_U
        expected = logits[:, metric.tokens[prompt]] @ metric.weights[prompt].to(logits)
        close(found.values[prompt, 0], expected, 10 * tiny.atol)


@over_hooked(one_of_each, among=[tiny for tiny in ALL if tiny.family is LLAMA])
def test_decompx_is_input_times_gradient_of_what_is_held_still(tiny: Tiny) -> None:
    """Without biases: autograd with patterns, norms and ratios as constants (RelP's rule for the MLP)."""
    p, model = prompts(), tiny.model
    metric, norm = p.metric("logit_diff"), models.final_norm(model)
    assert metric.tokens is not None
    x = models.embedding(model, p.clean)[0].detach().requires_grad_(True)
    held = [(site_name("pattern", layer), torch.Tensor.detach) for layer in range(tiny.family.n_layers)]
    rule = models.backward_rule(model, "relp").hooks
    with torch.enable_grad():
        final = models.final_residual(model, p.clean, [(site_name("resid_pre", 0), lambda _: x), *rule, *held])
        end = metric.here(final)
        logits = norm.frozen(end, norm.scale(end).detach()) @ model.W_U
        (slope,) = torch.autograd.grad(metric.of_rows(logits.gather(1, metric.tokens)).sum(), [x])
    close(influence.decompx(model, p).values[:, 0], (slope * x).sum(-1), 1e-8)


def test_a_metric_that_is_not_linear_is_refused() -> None:
    tiny = next(tiny for tiny in ALL if tiny.family is GPT2)
    with pytest.raises(UnsupportedError, match="linear in the logits, such as 'logit_diff', got 'log_probability'"):
        influence.decompx(tiny.model, prompts(), metric="log_probability")
