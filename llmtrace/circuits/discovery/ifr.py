"""Information flow routes: how much of what a port reads is a writer's, from one forward pass and no contrast.

    proximity(u, v) = max(|x_v|_1 - |x_v - a_u|_1, EPS)
    score(u -> v)   = mean over positions of proximity(u, v) / sum over all parts of x_v

x_v: the residual stream at port v before its norm; its parts are the writes before it and, as one part, the attention
biases before it. Positions: all real ones of the prompt; the logits are read at the metric's answer position alone.
(The paper walks a graph of (layer, position) nodes; a port here stands for all its positions, hence the mean.)
Source: Ferrando & Voita 2024. Cost: 1 F. Memory: the writes and two more buffers of their size.
Sign: a share, from 0 to 1; over the writers of a port the shares add up to 1 less that of the biases. q, k, v of all
heads of a layer read one stream, so their edges score alike.
Known failure: it asks who is loud, not who matters: neither metric, nor corruption, nor what a head does with the
stream comes in. The L1 norm depends on the basis, so processed weights (centred writes) have other scores.

    >>> lt.circuits.ifr(model, prompts)
    EdgeScores(ifr of logit_diff: 1,519 edges; input->a0.h0<q> +1, input->a0.h1<q> +1)
"""

from __future__ import annotations

import torch
from einops import einsum
from jaxtyping import Bool, Float
from torch import Tensor

from llmtrace.circuits.discovery.scoring.prompt_scores import scored, writes_of
from llmtrace.circuits.edge_scores import EdgeScores
from llmtrace.circuits.graph import Graph
from llmtrace.circuits.running.span_columns import span_of
from llmtrace.influence.tokens.attention.proximity import proximity
from llmtrace.interventions import Memory
from llmtrace.metrics import Metric, MetricLike
from llmtrace.models import TraceModel, attention_weights
from llmtrace.prompts import PromptSet

EPS = 1e-5  # of the authors' program: a part that points away from the whole still has a share


@torch.no_grad()
def ifr(
    model: TraceModel,
    prompts: PromptSet,
    *,
    metric: MetricLike | None = None,
    graph: Graph | None = None,
    memory: Memory = "auto",
) -> EdgeScores:
    """Share of every writer in what every port reads, per prompt. The corrupted prompts are not run; of the metric only
    the answer position counts."""

    def of_batch(graph: Graph, some: PromptSet, read: Metric) -> Float[Tensor, "batch node port"]:
        writes = writes_of(model, graph, some.clean)
        mask = _positions(graph, some).to(writes)
        found = writes.new_zeros(len(some), len(graph.nodes), len(graph.ports))
        bias = writes.new_zeros(writes.shape[-1])
        for layer in range(graph.n_layers):
            before, sources = graph.before(layer), graph.mlp_sources(layer)
            whole = slice(graph.head_columns(layer, "q").start, graph.head_columns(layer, "v").stop)
            shares = _mean(flow_shares(writes[:before], bias), mask)
            found[:, :before, whole] = shares.repeat(1, 1, graph.n_heads + 2 * graph.n_kv_heads)
            after = bias + attention_weights(model, layer).b_O
            if not graph.attn_only:
                read_bias = bias if graph.parallel else after
                shares = _mean(flow_shares(writes[:sources], read_bias), mask)
                found[:, :sources, graph.mlp_columns(layer)] = shares
                if apart := len(graph.neurons_of(layer)):
                    found[:, :sources, graph.neuron_columns(layer)] = shares.repeat(1, 1, apart)
            bias = after
        at_answer = torch.stack([read.here(write) for write in writes])[:, :, None]
        found[:, :, -1] = flow_shares(at_answer, bias)[:, :, 0].T
        return found

    return scored(
        "ifr", of_batch, model, prompts, metric, graph, memory=memory, points=0, buffers=3,
        passes="1 forward", options={}, contrast=False,
    )  # fmt: skip


def flow_shares(
    writes: Float[Tensor, "node batch pos d_model"], bias: Float[Tensor, " d_model"]
) -> Float[Tensor, "node batch pos"]:
    """proximity / sum of proximities of the parts of one stream. The biases' own share is what is left to 1."""
    stream = writes.sum(0) + bias
    own = proximity(writes, stream).clamp_(min=EPS)
    of_bias = proximity(bias, stream).clamp_(min=EPS) if bias.any() else torch.zeros_like(own[0])
    return own / (own.sum(0) + of_bias)


def _positions(graph: Graph, prompts: PromptSet) -> Bool[Tensor, "batch pos span"]:
    """The real positions of each span; without spans they are one."""
    of = span_of(graph, prompts)
    here = prompts.mask[:, :, None]
    return here if of is None else here & (of[:, :, None] == torch.arange(len(graph.spans)))


def _mean(
    shares: Float[Tensor, "node batch pos"], mask: Float[Tensor, "batch pos span"]
) -> Float[Tensor, "batch node span"]:
    """Over the positions of each span; 0 where a prompt has none of them."""
    total = einsum(shares, mask, "node batch pos, batch pos span -> batch node span")
    return total / mask.sum(1)[:, None].clamp(min=1)
