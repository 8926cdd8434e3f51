"""DecompX: every vector as a sum over tokens, kept apart through all layers, down to what each adds to the answer.

With patterns, norm scales and activation ratios as they are, every step is linear, and parts of a sum stay parts:

    attention   sum_h A_h[i, j] (part_j W_V_h) W_O_h          norm   part / sigma          (LN: centred)
    act(x)      part act(x) / x                               gate x linear   of each, half of what their product is

so the answer is a sum over tokens. It is a linear function of the inputs, whose transpose gives all the sums at once:
the metric's direction is carried back through the same steps, as c[i] at every position, and

    score(j) = x_j . c_0[j] + biases added at j . what they become

Source: Modarressi et al. 2023, the decomposition of an answer; with one difference: they hand each bias out to the
tokens in the share that each has at that place, here it stays with the position where it is added (the final ones with
the metric's). The halves of a gate are those of RelP. Cost: 1 F + 1 W, no gradient. Memory: the patterns and the
ratios of every layer. Sign: positive raises the metric. Contrastive in itself. Complete: a row sums to the metric.
Known failure: what moves patterns, norms and gates has no part in it. A dead ReLU lets nothing through (the OR gate).

    >>> found = lt.influence.decompx(model, prompts)
    >>> found.labels[0][found.values[0, -1].argmax()]
    'Eric'
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from einops import einsum, reduce
from jaxtyping import Float
from torch import Tensor

from llmtrace.influence.direct_logit_attribution import constant_of, logit_direction
from llmtrace.influence.tokens.attention.pattern_batches import prompt_batches
from llmtrace.influence.tokens.inputs.metric_readings import Readings, in_order
from llmtrace.influence.tokens.results.token_influence import TokenInfluence
from llmtrace.metrics import MetricLike
from llmtrace.models import (
    Hook,
    Norm,
    TraceModel,
    attention_weights,
    describe,
    final_norm,
    final_residual,
    mlp_readers,
    mlp_weights,
    require_additive,
)
from llmtrace.models.hook_names import site_name
from llmtrace.models.memory import Memory
from llmtrace.progress import track
from llmtrace.prompts import PromptSet, metric_of

Covector = Float[Tensor, "reading pos d_model"]  # what a vector at each position would add to the metric
Bias = Float[Tensor, "reading pos"]


@torch.no_grad()
def decompx(
    model: TraceModel, prompts: PromptSet, *, metric: MetricLike | None = None, memory: Memory = "auto"
) -> TokenInfluence:
    """[batch 1 source]: what each token's own vector becomes in a linear metric, along every path.

    Raises MetricError for a metric that is not linear in the logits, UnsupportedError for a final soft cap or a
    post-norm model.
    """
    bound = metric_of(model, prompts, metric)
    values, total = decomposed(model, prompts, Readings.one_per_prompt(bound), memory=memory)
    return TokenInfluence.of(
        model, prompts, values[:, None], "decompx", total=total[:, None], targets=bound.positions[:, None],
        metric=bound.name,
    )  # fmt: skip


@torch.no_grad()
def decomposed(
    model: TraceModel, prompts: PromptSet, readings: Readings, *, memory: Memory = "auto"
) -> tuple[Float[Tensor, "reading source"], Float[Tensor, " reading"]]:
    """The scores of every reading, and the metric."""
    require_additive(model, "DecompX", recomputes=("z", "mlp writes"))
    parts = []
    for rows in track(prompt_batches(model, prompts, memory, layers=describe(model).n_layers), "decompx"):
        chosen, some = readings.within(rows, len(prompts))
        if len(chosen):
            parts.append((chosen, *_of_rows(model, prompts.clean[rows], some)))
    return in_order(parts)


def _of_rows(
    model: TraceModel, tokens: Tensor, readings: Readings
) -> tuple[Float[Tensor, "reading source"], Float[Tensor, " reading"]]:
    kept = [Kept() for _ in range(describe(model).n_layers)]
    inputs: list[Tensor] = []
    hooks = [hook for layer, into in enumerate(kept) for hook in _keepers(model, layer, into)]
    first = (site_name("resid_pre", 0), lambda value: inputs.append(value.detach()))
    final = readings.here(final_residual(model, tokens, [first, *hooks]))

    metric, rows, norm = readings.metric, readings.row.to(final.device), final_norm(model)
    direction = logit_direction(model, metric)
    reading, at = torch.arange(len(rows), device=final.device), readings.positions.to(final.device)
    c = final.new_zeros(len(rows), tokens.shape[1], final.shape[-1])
    c[reading, at] = norm.frozen_transpose(direction, norm.scale(final))
    scores = c.new_zeros(c.shape[:2])
    scores[reading, at] = constant_of(model, metric, direction).to(c)
    for layer in reversed(range(len(kept))):
        c, biases = _through_layer(model, layer, kept.pop(), rows, c)
        scores += biases
    scores += einsum(inputs[0][rows], c, "reading pos d_model, reading pos d_model -> reading pos")
    return scores, metric.of_residual(model, final).to(scores)


@dataclass
class Kept:
    """What a layer holds still: its patterns, the scales of its norms, and what each MLP input counts for.

    ratios  by reader of the MLP: its share of what leaves the activation, over what it read
    """

    pattern: Float[Tensor, "batch head query key"] | None = None
    scales: dict[str, Float[Tensor, "batch pos 1"]] = field(default_factory=dict)
    ratios: list[Float[Tensor, "batch pos d_mlp"]] = field(default_factory=list)


def _keepers(model: TraceModel, layer: int, into: Kept) -> list[Hook]:
    arch, norm = describe(model), attention_weights(model, layer).norm

    def keep_pattern(pattern: Tensor) -> None:
        into.pattern = pattern.detach()

    hooks: list[Hook] = [
        (site_name("resid_pre", layer), _keep_scale(norm, "attention", into)),
        (site_name("pattern", layer), keep_pattern),
    ]
    if arch.attn_only:
        return hooks
    w = mlp_weights(model, layer)
    stream = site_name("resid_pre" if arch.parallel else "resid_mid", layer)
    added_after = w.b_in if arch.gated else None
    read = [reader.hook for reader in mlp_readers(model, layer)]

    def keep_ratios(post: Tensor) -> None:
        product = post.detach() if added_after is None else post.detach() - added_after
        into.ratios = [torch.where(x == 0, 0.0, product / x) / len(read) for x in into.ratios]

    hooks += [(stream, _keep_scale(w.norm, "mlp", into))]
    hooks += [(name, lambda value: into.ratios.append(value.detach())) for name in read]
    return [*hooks, (site_name("mlp_post", layer), keep_ratios)]


def _keep_scale(norm: Norm, name: str, into: Kept) -> Callable[[Tensor], None]:
    return lambda stream: into.scales.__setitem__(name, norm.scale(stream.detach()))


def _through_layer(model: TraceModel, layer: int, kept: Kept, rows: Tensor, c: Covector) -> tuple[Covector, Bias]:
    """What the stream before a layer counts for, from what the one after it does; and what the layer's biases add."""
    arch, biases = describe(model), c.new_zeros(c.shape[:2])
    after = c
    if not arch.attn_only:
        of_mlp, biases = _through_mlp(model, layer, kept, rows, after)
        c = c + of_mlp
    of_attention, more = _through_attention(model, layer, kept, rows, after if arch.parallel else c)
    return c + of_attention, biases + more


def _through_mlp(model: TraceModel, layer: int, kept: Kept, rows: Tensor, c: Covector) -> tuple[Covector, Bias]:
    w = mlp_weights(model, layer)
    of_post = c @ w.W_out.T
    biases = c @ w.b_out + (of_post @ w.b_in if w.W_gate is not None else 0)
    read = torch.zeros_like(c)
    for reader, ratio in zip(mlp_readers(model, layer), kept.ratios, strict=True):
        of_pre = of_post * ratio[rows]
        biases = biases + of_pre @ reader.bias[0]
        read = read + of_pre @ reader.weight[0].T
    return _through_norm(w.norm, kept.scales["mlp"][rows], read, biases)


def _through_attention(model: TraceModel, layer: int, kept: Kept, rows: Tensor, c: Covector) -> tuple[Covector, Bias]:
    w, group = attention_weights(model, layer), describe(model).group
    of_z = einsum(c, w.W_O, "reading query d_model, head d_head d_model -> reading head query d_head")
    of_v = torch.empty_like(of_z)
    assert kept.pattern is not None, "every layer attends"
    for row in rows.unique():  # readings of one row share its pattern: no copy for each of them
        here = rows == row
        of_v[here] = einsum(
            kept.pattern[row], of_z[here], "head query key, reading head query d_head -> reading head key d_head"
        )
    of_v = reduce(of_v, "reading (kv_head group) key d_head -> reading kv_head key d_head", "sum", group=group)
    biases = c @ w.b_O + einsum(of_v, w.b_V, "reading kv_head key d_head, kv_head d_head -> reading key")
    read = einsum(of_v, w.W_V, "reading kv_head key d_head, kv_head d_model d_head -> reading key d_model")
    return _through_norm(w.norm, kept.scales["attention"][rows], read, biases)


def _through_norm(norm: Norm, scale: Tensor, read: Covector, biases: Bias) -> tuple[Covector, Bias]:
    return norm.frozen_transpose(read, scale), biases if norm.bias is None else biases + read @ norm.bias
