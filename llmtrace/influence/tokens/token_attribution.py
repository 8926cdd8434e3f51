"""Direct logit attribution by source token: where the direct effect on a metric came from, over all heads.

    score(j) = sum_heads A_h[i, j] (v_hj W_O_h) . u            u: the metric's direction through the final norm, frozen
    score(i)  also takes what stands at i itself: its embedding, its MLPs and every bias

i: the metric's position. Source: Elhage et al. 2021; Wang et al. 2022 (by source token). Cost: 1 F.
Sign: positive raises the metric. Complete: a row sums to the metric exactly (law 6, by token). `per_layer` is what each
layer's attention and MLP bring; the embedding and the final biases are in `values` only.
Known failure: one hop. What a head reads at j may have come there from another token.

    >>> found = lt.influence.token_attribution(model, prompts)
    >>> found.labels[0][found.values[0, -1].argmax()]
    'to'
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from einops import einsum, repeat
from jaxtyping import Float
from torch import Tensor

from llmtrace.influence.direct_logit_attribution import constant_of, logit_direction
from llmtrace.influence.tokens.inputs.metric_readings import Readings
from llmtrace.influence.tokens.results.token_influence import TokenInfluence
from llmtrace.metrics import MetricLike
from llmtrace.models import (
    Hook,
    TraceModel,
    attention_weights,
    describe,
    final_norm,
    final_residual,
    require_additive,
)
from llmtrace.models.hook_names import site_name
from llmtrace.prompts import PromptSet, metric_of


@torch.no_grad()
def token_attribution(model: TraceModel, prompts: PromptSet, *, metric: MetricLike | None = None) -> TokenInfluence:
    """[batch 1 source]: what each attended token adds directly to a linear metric.

    Raises MetricError for a metric that is not linear in the logits, UnsupportedError for a final soft cap or a
    post-norm model.
    """
    bound = metric_of(model, prompts, metric)
    per_layer, values, total = attributed(model, prompts, Readings.one_per_prompt(bound))
    return TokenInfluence.of(
        model, prompts, values[:, None], "token_attribution", per_layer=per_layer[:, :, None], total=total[:, None],
        targets=bound.positions[:, None], metric=bound.name,
    )  # fmt: skip


@torch.no_grad()
def attributed(
    model: TraceModel, prompts: PromptSet, readings: Readings
) -> tuple[Float[Tensor, "layer reading source"], Float[Tensor, "reading source"], Float[Tensor, " reading"]]:
    """(by layer, all together, the metric) of every reading."""
    require_additive(model, "Token attribution", reads=(), recomputes=("z",))
    metric, arch, norm = readings.metric, describe(model), final_norm(model)
    direction = logit_direction(model, metric)
    # The frozen norm's scale is known after the pass; until then everything is that many times too large.
    seen = norm.frozen_transpose(direction, torch.ones_like(direction[:, :1]))
    n, width = len(readings.row), prompts.clean.shape[1]
    by_layer = seen.new_zeros(arch.n_layers, n, width)
    own = seen.new_zeros(n)

    def at_target(to: Tensor) -> Callable[[Tensor], None]:
        def add(value: Float[Tensor, "batch pos d_model"]) -> None:
            to.add_(einsum(readings.here(value), seen, "reading d_model, reading d_model -> reading"))

        return add

    hooks: list[Hook] = [(site_name("resid_pre", 0), at_target(own))]
    of_layers = [seen @ attention_weights(model, layer).b_O for layer in range(arch.n_layers)]
    for layer, here in enumerate(of_layers):
        hooks += _attention(model, layer, readings, seen, by_layer[layer])
        hooks += [] if arch.attn_only else [(site_name("mlp_out", layer), at_target(here))]
    final = readings.here(final_residual(model, prompts.clean, hooks))
    scale = norm.scale(final)
    at = readings.positions.to(seen.device)[:, None]
    for layer, here in enumerate(of_layers):
        by_layer[layer].scatter_add_(1, at, here[:, None])
    by_layer = (by_layer / scale).to(seen.dtype)
    values = by_layer.sum(0)
    rest = (own[:, None] / scale).to(seen.dtype) + constant_of(model, metric, direction).to(seen.dtype)[:, None]
    return by_layer, values.scatter_add_(1, at, rest), metric.of_residual(model, final).to(seen.dtype)


def _attention(model: TraceModel, layer: int, readings: Readings, seen: Tensor, into: Tensor) -> list[Hook]:
    """Hooks that add what each token brings through this layer's heads; the values come before the pattern."""
    kept: dict[str, Tensor] = {}
    W_O, group = attention_weights(model, layer).W_O, describe(model).group

    def keep(v: Float[Tensor, "batch key kv_head d_head"]) -> None:
        kept["v"] = v

    def look(pattern: Float[Tensor, "batch head query key"]) -> None:
        rows = readings.row.to(pattern.device)
        looks = pattern[rows, :, readings.positions.to(pattern.device)]
        wants = einsum(W_O, seen, "head d_head d_model, reading d_model -> reading head d_head")
        v = repeat(kept.pop("v"), "batch key kv_head d_head -> batch key (kv_head group) d_head", group=group)
        for batch_row in rows.unique():  # readings of one row share its values: no copy for each of them
            here = (rows == batch_row).nonzero()[:, 0]
            into[here] = einsum(
                looks[here], v[batch_row], wants[here],
                "reading head key, key head d_head, reading head d_head -> reading key",
            )  # fmt: skip

    return [(site_name("v", layer), keep), (site_name("pattern", layer), look)]
