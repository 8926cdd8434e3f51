"""Head importance scores: which nodes the metric leans on at the clean run, spread to the edges between them.

    I(u)           = | sum_pos < a_u, d metric / d a_u > | / norm over the nodes of u's layer
    score(u -> v)  = min(I(u), I(node of v))

The norm is Euclidean, over the heads and the MLP of a layer together (an MLP alone would always be 1), for each prompt.
The embedding is a layer of its own, so `input` has 1, and the logits count as 1: both are in every circuit. As in
ACDC's comparison a circuit of the nodes over a threshold has all edges between them: an edge falls with the lower of
its ends. A key or value port is there for the best head of its group.
Source: Michel, Levy & Neubig 2019; for edges Conmy et al. 2023. Cost: 1 F + 1 W, no corruption. Memory:
`edge_scoring.py`.
In a post-norm model a_u is what the stream receives and d metric / d a_u is taken there.
Sign: none, scores lie between 0 and 1.
Known failure: the score of an edge is that of a node, so it cannot tell the edges of one node apart; and scores of
different layers are made alike whether the layers matter or not.

    >>> lt.circuits.hisp(model, prompts)
    EdgeScores(hisp of logit_diff: 1,519 edges; input->logits +1, input->m0 +0.769)
"""

from __future__ import annotations

from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from llmtrace.circuits.discovery.scoring.edge_scoring import edge_products, reader_gradients
from llmtrace.circuits.discovery.scoring.prompt_scores import recorder_of, scored
from llmtrace.circuits.edge_scores import EdgeScores
from llmtrace.circuits.graph import Graph
from llmtrace.interventions import Memory
from llmtrace.metrics import Metric, MetricLike
from llmtrace.models import TraceModel
from llmtrace.prompts import PromptSet


def hisp(
    model: TraceModel,
    prompts: PromptSet,
    *,
    metric: MetricLike | None = None,
    graph: Graph | None = None,
    memory: Memory = "auto",
) -> EdgeScores:
    """Scores of every edge, per prompt. The corrupted prompts are not run.

    Raises InputError for a metric whose gradient vanishes at the clean run.
    """

    def of_batch(graph: Graph, some: PromptSet, read: Metric) -> Float[Tensor, "batch node port"]:
        record = recorder_of(model, graph)
        gradients = reader_gradients(model, graph, some, read, hooks=record.hooks)
        # the ports that read a write share its gradient among them (law 29)
        nodes = node_importance(graph, edge_products(gradients, record.values).sum(-1))
        return torch.minimum(nodes[:, :, None], _of_ports(graph, nodes)[:, None]) * graph.real.to(nodes)

    return scored(
        "hisp", of_batch, model, prompts, metric, graph, memory=memory,
        passes="1 forward, 1 backward", options={}, contrast=False,
    )  # fmt: skip


def node_importance(graph: Graph, products: Float[Tensor, "batch node"]) -> Float[Tensor, "batch node"]:
    """|products| over their norm within each layer; 0 where a whole layer has none."""
    found = products.abs()
    bounds = [0, *(graph.before(layer) for layer in range(graph.n_layers)), len(graph.nodes)]
    for start, stop in pairwise(bounds):
        layer = found[:, start:stop]
        found[:, start:stop] = layer / layer.norm(dim=-1, keepdim=True).clamp(min=torch.finfo(found.dtype).tiny)
    return found


def _of_ports(graph: Graph, nodes: Float[Tensor, "batch node"]) -> Float[Tensor, "batch port"]:
    """The importance of the node that each port feeds: of a group's heads the best one, 1 for the logits."""
    found = nodes.new_ones(len(nodes), len(graph.ports))
    for layer in range(graph.n_layers):
        heads = nodes[:, graph.head_rows(layer)]
        groups = heads.unflatten(1, (graph.n_kv_heads, -1)).amax(-1)
        for slot, values in (("q", heads), ("k", groups), ("v", groups)):
            found[:, graph.head_columns(layer, slot)] = values.repeat_interleave(graph.columns_per_port, 1)
        if not graph.attn_only:
            found[:, graph.mlp_columns(layer)] = nodes[:, graph.mlp_row(layer), None]
            neurons = nodes[:, graph.neuron_rows(layer)]
            found[:, graph.neuron_columns(layer)] = neurons.repeat_interleave(graph.columns_per_port, 1)
    return found
