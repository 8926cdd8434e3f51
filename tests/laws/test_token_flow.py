"""Laws 49-53: how much of each position comes from which token. Each method against its definition in loops."""

from __future__ import annotations

import functools
from importlib import import_module

import pytest
import torch
from slow_twins import read
from tiny import GPT2, POST_NORM, Tiny, close, has_mlp, over, prompts
from torch import Tensor

from llmtrace import influence, models
from llmtrace.errors import UnsupportedError

alti_file = import_module("llmtrace.influence.alti")  # the function stands where the module did

# --- the paper's pieces, by hand -----------------------------------------------------------------------------------


def kept(tiny: Tiny, layer: int, *kinds: str) -> list[Tensor]:
    """Activations of a layer on the random prompts."""
    names = [f"blocks.{layer}.{kind}" for kind in kinds]
    found = read(tiny.model, prompts(padded=True).clean, names)
    return [found[name] for name in names]


@functools.cache
def head_parts(tiny: Tiny, layer: int) -> tuple[Tensor, Tensor, Tensor]:
    """What each head moves from source to target [batch head target source d_model], the stream before attention and
    the stream after it [batch pos d_model] (for parallel blocks the sum that would stand there)."""
    pattern, v, pre = kept(tiny, layer, "attn.hook_pattern", "attn.hook_v", "hook_resid_pre")
    w = models.attention_weights(tiny.model, layer)
    group = len(w.W_O) // v.shape[2]
    parts = torch.stack(
        [pattern[:, h, :, :, None] * (v[:, :, h // group] @ w.W_O[h])[:, None] for h in range(len(w.W_O))], 1
    )
    return parts, pre, pre + parts.sum((1, 3)) + w.b_O


def toward(part: Tensor, whole: Tensor) -> float:
    return max(0.0, float(whole.abs().sum() - (whole - part).abs().sum()))


@functools.cache
def slow_alti(tiny: Tiny) -> list[Tensor]:
    """ALTI up to the input of layer 0, after attention of layer 0, of layer 1, ...: one [batch pos pos] each."""
    n, width = prompts().clean.shape
    rolled = [torch.eye(width, dtype=torch.float64).repeat(n, 1, 1)]
    for layer in range(tiny.family.n_layers):
        parts, pre, whole = head_parts(tiny, layer)
        step = torch.zeros(n, width, width, dtype=torch.float64)
        for b in range(n):
            for i in range(width):
                for j in range(i + 1):
                    moved = parts[b, :, i, j].sum(0) + (pre[b, i] if i == j else 0)
                    step[b, i, j] = toward(moved, whole[b, i])
                if step[b, i].sum() == 0:  # nothing points along y: i keeps to itself
                    step[b, i, i] = 1
                step[b, i] /= step[b, i].sum()
        rolled.append(step @ rolled[-1])
    return rolled


def direction(tiny: Tiny, final: Tensor) -> Tensor:
    """d metric / d final stream with the norm's scale frozen, at END: by autograd."""
    p, model = prompts(padded=True), tiny.model
    end = final[torch.arange(len(p)), p.positions["END"]]
    norm = models.final_norm(model)
    scale = norm.scale(end)
    leaf = torch.zeros_like(end).requires_grad_(True)
    rows = [
        model.W_U[:, list(a)].mean(1) - model.W_U[:, list(b)].mean(1) for a, b in zip(p.correct, p.wrong, strict=True)
    ]
    total = (norm.frozen(leaf, scale) * torch.stack(rows)).sum()
    return torch.autograd.grad(total, leaf)[0]


# --- ALTI ----------------------------------------------------------------------------------------------------------


@over()
def test_alti_is_its_definition(tiny: Tiny) -> None:
    """Law 50 too: rows sum to one, and nothing comes from later tokens."""
    p = prompts(padded=True)
    found = influence.alti(tiny.model, p)
    close(found.values, slow_alti(tiny)[-1], tiny.atol * 10)
    assert found.per_layer is not None and len(found.per_layer) == tiny.family.n_layers
    for step in (found.values, *found.per_layer):
        close(step.sum(-1), torch.ones_like(step[..., 0]), tiny.atol)
        assert float(step.triu(1).abs().max()) == 0 and float(step.min()) >= 0
    rolled = found.per_layer[0]
    for step in found.per_layer[1:]:
        rolled = step @ rolled
    close(found.values, rolled, tiny.atol)


def test_blocks_and_batches_do_not_change_alti(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny, p = Tiny(GPT2, "bridge", True), prompts(padded=True)
    whole = influence.alti(tiny.model, p).values
    monkeypatch.setattr(alti_file, "QUERIES", 3)
    monkeypatch.setattr(alti_file, "KEYS", 2)
    close(influence.alti(tiny.model, p, batch_size=2).values, whole, tiny.atol)
    metric = p.metric()
    parts = [influence.alti_logit(tiny.model, p, metric=metric, batch_size=size).values for size in (None, 2)]
    close(*parts, tiny.atol)


def test_a_part_that_nothing_points_along_keeps_to_itself() -> None:
    """y = 1 = 10 - 9: both overshoot, so neither is nearer to y than nothing is."""
    pattern = torch.tensor([[[1.0, 0], [1, 0]]]).double()
    written = torch.tensor([[[-9.0]], [[0.0]]]).double()
    stream = torch.tensor([[10.0], [10.0]]).double()
    found = alti_file.contributions(pattern, written, stream, stream - 9, causal=True)
    assert found.tolist() == [[1, 0], [0, 1]]


@over(among=POST_NORM)
def test_alti_refuses_norms_after_the_blocks(tiny: Tiny) -> None:
    with pytest.raises(UnsupportedError, match="ALTI needs writes that add up"):
        influence.alti(tiny.model, prompts())
    with pytest.raises(UnsupportedError, match="ALTI-Logit needs writes that add up"):
        influence.alti_logit(tiny.model, prompts())


@over()
def test_alti_logit_is_its_definition_and_complete(tiny: Tiny) -> None:
    """Every update by hand, followed back through the slow ALTI; with the biases they sum to the metric."""
    p, model, rolled = prompts(padded=True), tiny.model, slow_alti(tiny)
    found = influence.alti_logit(model, p)
    final = models.final_residual(model, p.clean)
    seen = direction(tiny, final)
    expected = torch.zeros(len(p), p.clean.shape[1], dtype=torch.float64)
    biases = torch.zeros(len(p), dtype=torch.float64)
    for layer in range(tiny.family.n_layers):
        parts, pre, _ = head_parts(tiny, layer)
        for b, i in enumerate(p.positions["END"].tolist()):
            expected[b, i] += pre[b, i] @ seen[b] if layer == 0 else 0
            for j in range(i + 1):
                expected[b] += (parts[b, :, i, j].sum(0) @ seen[b]) * rolled[layer][b, j]
            if has_mlp(tiny):
                (mlp,) = kept(tiny, layer, "hook_mlp_out")
                expected[b] += (mlp[b, i] @ seen[b]) * rolled[layer + (not tiny.family.parallel)][b, i]
            biases[b] += models.attention_weights(model, layer).b_O.double() @ seen[b].double()
    close(found.values[:, 0], expected, tiny.atol * 100)
    assert found.gap is not None and found.per_layer is not None
    assert float(found.gap.abs().max()) < tiny.atol * 100
    close(found.per_layer.sum(0), found.values, tiny.atol * 10)
    metric = p.metric()(model(p.clean, return_type="logits"))
    with_biases = found.values.sum((1, 2)) + torch.tensor(found.options["biases"])
    close(with_biases, metric, tiny.atol * 100)
