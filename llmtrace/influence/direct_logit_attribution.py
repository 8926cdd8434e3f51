"""Direct logit attribution: what each write adds to the logits on the straight path, the final norm's scale frozen.

    score(u) = norm_frozen(a_u) . direction,   direction = sum_n weight_n W_U[:, token_n]

Source: Elhage et al. 2021; nostalgebraist 2020. Cost: one forward pass, no gradient. Sign: positive raises the metric.
Law: the scores of all nodes, with the biases, sum to the metric exactly (law 6). Defined for metrics linear in the
logits (logit difference), before a final soft cap (refused otherwise).
Known failure: it sees the direct path only. A head may act through later heads, and later heads may make up for it
(self-repair), so a score is a claim until an intervention confirms it.

    >>> lt.influence.direct_logit_attribution(model, prompts)
    NodeScores(direct_logit_attribution of logit_diff: 42 nodes, 4 prompts; MLP 3 +4.19, 3.2 +3.72, 3.5 +1.4)
    >>> lt.influence.neuron_attribution(model, prompts)
    NodeScores(neuron_attribution of logit_diff: 2052 nodes, 4 prompts; m3.n52 +0.413, m3.n19 +0.393, m3.n81 +0.379)
    >>> lt.influence.source_token_attribution(model, prompts)
    SourceScores(source_token_attribution of logit_diff: 32 heads, 4 prompts, 15 source tokens)
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from einops import einsum
from jaxtyping import Float
from torch import Tensor

from llmtrace.errors import MetricError, UnsupportedError
from llmtrace.influence.node_scores import NodeScores, SourceScores
from llmtrace.metrics import Metric
from llmtrace.models import (
    Hook,
    TraceModel,
    attention_weights,
    describe,
    final_norm,
    mlp_weights,
    provenance,
    require_additive,
    token_labels,
)
from llmtrace.models.hook_names import site_name
from llmtrace.nodes import Bias, Head, Neuron, Node, NodeLike
from llmtrace.prompts import PromptSet, metric_of
from llmtrace.signals import attention_pattern, capture, mlp_post, node_writes, values


@torch.no_grad()
def direct_logit_attribution(
    model: TraceModel, prompts: PromptSet, *, metric: str | Metric = "logit_diff"
) -> NodeScores:
    """The direct effect of every head, MLP, the input and the biases on a linear metric.

    Where norms stand behind the blocks they are frozen too: a head's write is what the residual stream receives of it.

    Raises MetricError for a metric that is not linear in the logits, UnsupportedError for a final soft cap.
    """
    arch = describe(model)
    metric = metric_of(model, prompts, metric)
    direction = logit_direction(model, metric)
    together = dict[str, Tensor]()

    def keep(name: str) -> Hook:
        return name, lambda out: together.__setitem__(name, metric.here(out))

    names = [site_name("attn_out", layer) for layer in range(arch.n_layers)] if arch.post_norm else []
    writes = node_writes(model, prompts.clean, metric.positions[:, None], received=True, hooks=list(map(keep, names)))
    norm, scale = final_norm(model), final_norm(model).scale(writes.final[:, 0])
    of_nodes = writes.values[:, :, 0]
    if names:  # what the norm behind a layer's attention passes on beside its heads
        heads = {layer: [isinstance(n, Head) and n.layer == layer for n in writes.nodes] for layer in range(len(names))}
        rest = [together[name] - of_nodes[heads[layer]].sum(0) for layer, name in enumerate(names)]
    else:
        rest = [attention_weights(model, layer).b_O.expand_as(direction) for layer in range(arch.n_layers)]
    biases = [Bias("b_O", layer) for layer in range(arch.n_layers)]
    vectors = torch.cat([of_nodes, torch.stack(rest)])
    scores = einsum(norm.frozen(vectors, scale), direction, "node batch d_model, batch d_model -> node batch")
    constant = constant_of(model, metric, direction)
    return NodeScores(
        nodes=(*writes.nodes, *biases, Bias("unembedding", arch.n_layers)),
        values=torch.cat([scores, constant[None]]),
        total=metric.of_residual(model, writes.final[:, 0]),
        method="direct_logit_attribution",
        metric=metric.name,
        provenance=provenance(model).as_dict(),
        fingerprints=prompts.fingerprints,
    )


@torch.no_grad()
def neuron_attribution(
    model: TraceModel,
    prompts: PromptSet,
    *,
    layers: Sequence[int] | None = None,
    metric: str | Metric = "logit_diff",
) -> NodeScores:
    """The direct effect of every neuron of `layers` (default: all) and of their b_out.

    act_n (W_out[n] / sigma) . direction. Per layer the sum is the direct effect of that MLP (law 8).
    """
    arch = describe(model)
    if arch.attn_only:
        raise UnsupportedError("This model is attention-only, so it has no neurons; use direct_logit_attribution.")
    require_additive(model, "Neuron attribution", reads=("mlp",), recomputes=("mlp writes",))
    layers = arch.require_layers(layers)
    metric = metric_of(model, prompts, metric)
    direction = logit_direction(model, metric)
    last = site_name("resid_post", arch.n_layers - 1)
    trace = capture(model, prompts, what=("mlp_post", last), layers=layers, positions=metric.positions[:, None])
    norm = final_norm(model)
    # The frozen norm is linear: its transpose acts once on the direction instead of on every neuron's row.
    seen = norm.frozen_transpose(direction, norm.scale(trace[last][:, 0]))
    nodes: list[Node] = []
    parts: list[Tensor] = []
    for layer in layers:
        w = mlp_weights(model, layer)
        per_unit = einsum(w.W_out, seen, "d_mlp d_model, batch d_model -> d_mlp batch")
        parts += [mlp_post(trace, layer)[:, 0].T * per_unit, (seen @ w.b_out)[None]]
        nodes += [*(Neuron(layer, i) for i in range(arch.d_mlp)), Bias("b_out", layer)]
    return NodeScores(
        nodes=tuple(nodes), values=torch.cat(parts), total=None, method="neuron_attribution", metric=metric.name,
        provenance=provenance(model).as_dict(), options={"layers": list(layers)},
        fingerprints=prompts.fingerprints,
    )  # fmt: skip


@torch.no_grad()
def source_token_attribution(
    model: TraceModel,
    prompts: PromptSet,
    *,
    heads: Sequence[NodeLike] | None = None,
    metric: str | Metric = "logit_diff",
) -> SourceScores:
    """A head's direct effect split by the token it attended to: A[i, j] (v_j W_O) / sigma . direction.

    Summed over sources it is the head's direct logit attribution.
    """
    arch = describe(model)
    require_additive(model, "Source-token attribution", reads=(), recomputes=("z",))
    heads = arch.heads if heads is None else arch.require_all(heads, (Head,), "to split by source")
    layers = tuple(sorted({head.layer for head in heads}))
    metric = metric_of(model, prompts, metric)
    direction = logit_direction(model, metric)
    last = site_name("resid_post", arch.n_layers - 1)
    trace = capture(model, prompts, what=("pattern", "v", last), layers=layers)
    norm = final_norm(model)
    seen = norm.frozen_transpose(direction, norm.scale(metric.here(trace[last])))
    rows = []
    for head in heads:
        W_O = attention_weights(model, head.layer).W_O[head.head]
        v = values(trace, head.layer)[:, :, head.head // arch.group]
        from_end = metric.here(attention_pattern(trace, head.layer)[:, head.head])
        along = einsum(v, W_O, seen, "batch key d_head, d_head d_model, batch d_model -> batch key")
        rows.append(from_end * along)
    return SourceScores(
        nodes=heads, values=torch.stack(rows), labels=token_labels(model, prompts.clean),
        method="source_token_attribution", metric=metric.name, provenance=provenance(model).as_dict(),
    )  # fmt: skip


def logit_direction(model: TraceModel, metric: Metric) -> Float[Tensor, "batch d_model"]:
    """The direction in the normed residual stream along which a linear metric grows."""
    arch = describe(model)
    if metric.weights is None or metric.tokens is None:
        raise MetricError(
            f"Expected a metric that is linear in the logits, such as 'logit_diff', got {metric.name!r}; "
            "direct effects add up for linear metrics only."
        )
    if arch.logit_cap:
        raise UnsupportedError(
            f"This model caps its logits at {arch.logit_cap:g} (tanh), so direct effects do not add up; "
            "patch paths instead."
        )
    rows = model.W_U.T[metric.tokens]
    return einsum(rows, metric.weights.to(rows), "batch n d_model, batch n -> batch d_model")


def constant_of(model: TraceModel, metric: Metric, direction: Tensor) -> Float[Tensor, " batch"]:
    """What the metric is when nothing is written: the final norm's bias and b_U."""
    bias = final_norm(model).bias
    assert metric.weights is not None and metric.tokens is not None
    from_unembedding = (model.b_U[metric.tokens] * metric.weights.to(model.b_U)).sum(-1)
    return from_unembedding if bias is None else from_unembedding + direction @ bias
