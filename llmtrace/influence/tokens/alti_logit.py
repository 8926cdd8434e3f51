"""ALTI-Logit: every layer's update of a logit (difference), followed back to the input tokens through ALTI.

    metric = sum_l [ sum_j A_h[i, j] (v_hj W_O_h) . u  over heads + mlp_i . u ] + x_i . u + biases
    score  = sum_l [ sum_j update_lj ALTI^(l-1)[j]                + mlp update_l ALTI^l[i] ] + x_i . u at i

i: the metric's position; u: its direction through the final norm with the scale frozen; x_i: the embedding. ALTI^l[j]
is the row of ALTI (`alti.py`) up to what leaves attention of layer l: where what stands at j came from. The update of
an MLP is that of what it reads; in a parallel block that is the layer's input, ALTI^(l-1)[i].
Source: Ferrando et al. 2023. Cost: that of ALTI. Sign: positive raises the metric. Contrastive in itself: the metric is
"why A rather than B". Complete: a row and the biases (b_O, the final norm's, b_U: `options["biases"]`, per prompt) sum
to the metric; `total` is the metric less these.
Known failure: ALTI hands out an MLP's update by the size of what it read, not by what it used.

    >>> found = lt.influence.alti_logit(model, prompts)
    >>> found.labels[0][found.values[0, -1].argmax()]
    'Eric'
"""

from __future__ import annotations

import torch
from einops import einsum
from jaxtyping import Float
from torch import Tensor

from llmtrace.influence.direct_logit_attribution import constant_of, logit_direction
from llmtrace.influence.tokens.alti import mixtures
from llmtrace.influence.tokens.attention.pattern_batches import prompt_batches
from llmtrace.influence.tokens.attention.value_writes import value_writes
from llmtrace.influence.tokens.results.token_influence import TokenInfluence
from llmtrace.metrics import Metric, MetricLike
from llmtrace.models import (
    TraceModel,
    attention_weights,
    describe,
    final_norm,
    require_additive,
)
from llmtrace.models.memory import Memory
from llmtrace.progress import track
from llmtrace.prompts import PromptSet, metric_of
from llmtrace.signals.each_layer import Layer

PerLayer = Float[Tensor, "layer batch source"]


@torch.no_grad()
def alti_logit(
    model: TraceModel, prompts: PromptSet, *, metric: MetricLike | None = None, memory: Memory = "auto"
) -> TokenInfluence:
    """[batch 1 source]: what each input token adds to a linear metric at the position where it is read.

    `per_layer` holds what came by each layer's update; the embedding's own is counted to layer 0.

    Raises MetricError for a metric that is not linear in the logits, UnsupportedError for a final soft cap or a
    post-norm model.
    """
    require_additive(model, "ALTI-Logit", reads=(), recomputes=("z",))
    metric = metric_of(model, prompts, metric)
    chunks = track(prompt_batches(model, prompts, memory), "alti_logit")
    found = [_of_prompts(model, prompts.clean[chunk], metric[chunk]) for chunk in chunks]
    updates = torch.cat([part[0] for part in found], 1)
    biases, values = (torch.cat([part[i] for part in found]) for i in (1, 2))
    return TokenInfluence.of(
        model, prompts, updates.sum(0)[:, None], "alti_logit", per_layer=updates[:, :, None],
        total=(values - biases)[:, None], targets=metric.positions[:, None], metric=metric.name,
        options={"biases": biases.tolist()},
    )  # fmt: skip


def _of_prompts(
    model: TraceModel, tokens: Tensor, metric: Metric
) -> tuple[PerLayer, Float[Tensor, " batch"], Float[Tensor, " batch"]]:
    """What came by each layer, what the biases add, and the metric."""
    arch, norm, direction = describe(model), final_norm(model), logit_direction(model, metric)
    # The frozen norm's scale is known after the pass; until then everything is that many times too large.
    seen = norm.frozen_transpose(direction, torch.ones_like(direction[:, :1]))
    updates: list[Tensor] = []
    biases = torch.zeros_like(seen[:, 0])

    def push_back(layer: int, found: Layer, before: Tensor, step: Tensor, after: Tensor) -> None:
        nonlocal biases
        looks = metric.here(found["pattern"].transpose(0, 1))  # head batch key
        along = einsum(
            looks, value_writes(model, layer, found["v"]), seen,
            "head batch key, batch key head d_model, batch d_model -> batch key",
        )  # fmt: skip
        update = einsum(along, before, "batch key, batch key source -> batch source")
        if not arch.attn_only:
            of_mlp = einsum(metric.here(found["mlp_out"]), seen, "batch d_model, batch d_model -> batch")
            update = update + of_mlp[:, None] * metric.here(before if arch.parallel else after)
        if layer == 0:
            own = einsum(metric.here(found["resid_pre"]), seen, "batch d_model, batch d_model -> batch")
            update.scatter_add_(1, metric.positions.to(update.device)[:, None], own[:, None])
        biases = biases + seen @ attention_weights(model, layer).b_O
        updates.append(update)

    also = () if arch.attn_only else ("mlp_out",)
    final = metric.here(mixtures(model, tokens, push_back, also=also))
    scale = norm.scale(final)
    constant = constant_of(model, metric, direction)
    return (
        (torch.stack(updates) / scale).to(final.dtype),
        (biases / scale[:, 0]).to(final.dtype) + constant,
        metric.of_residual(model, final).to(final.dtype),
    )
