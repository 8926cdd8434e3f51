"""AtP* for edges: attribution patching that goes through the softmax of attention exactly, and through cancellations.

    into q and k   sum_ij  d metric / d P_ij  (P'_ij - P_ij),   P' = softmax(log P + change of the scores)       QK fix
    into others    < a_u(corrupted) - a_u(clean), d metric / d x_v >                                             as EAP
    grad_drop      mean over layers l of | the score with no gradient through what layer l writes |

Edge u -> q: the head's query becomes that of norm(x + change of u's write) at every position, all else is clean; so for
k, where all keys that the edge changes change together (the paper's nodes are one key each) and, with grouped queries,
in all heads of the group. The norm before the port is applied, not linearised: P' is the pattern of the patched edge.
What the change of the pattern does to the metric is linear, as in EAP. d metric / d P_ij = (d metric / d z_i) . v_j.
grad_drop skips the port's own layer (nothing is left of such an edge); the paper's 1 / (L - 1). It gives magnitudes.
Source: Kramar, Lieberum, Shah & Nanda 2024 (nodes; the form for edges is ours). With both corrections off it is EAP,
whose edges out of a node add up to AtP of that node (law 29); AtP* is not linear, so its edges do not add up so.
Cost: 2 F + 1 W, and for every earlier write and head a query, a key and two patterns; grad_drop: all that L times.
Memory: `edge_scoring.py`, the patterns of all layers, and about two more buffers of the writes.
Sign: as EAP, negative = patching the edge lowers the metric; with grad_drop no sign.
Exact where nothing but the pattern bends: edges into q and k of the last layer without a final norm and MLP. Refused:
caps of scores, norms of queries and keys, norms after attention, rotary bridges that do not show rotated queries.
Known failure: all that bends behind the pattern is still a slope (a dead ReLU, a second saturated softmax: 0).

    >>> lt.circuits.atp_star(model, prompts)
    EdgeScores(atp_star of logit_diff: 1,519 edges; m2->a3.h2<k> -5.1, m2->a3.h2<v> -4.25)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from einops import einsum
from jaxtyping import Float
from torch import Tensor

from llmtrace.circuits.discovery.scoring.edge_scoring import Gradients, edge_products, reader_gradients
from llmtrace.circuits.discovery.scoring.prompt_scores import recorder_of, scored, writes_of
from llmtrace.circuits.edge_scores import EdgeScores
from llmtrace.circuits.graph import Graph
from llmtrace.circuits.running.span_columns import require_no_spans
from llmtrace.errors import InputError
from llmtrace.interventions import Memory
from llmtrace.metrics import Metric, MetricLike
from llmtrace.models import (
    Hook,
    TraceModel,
    attention_weights,
    describe,
    head_readers,
    project,
    require_live,
    require_no_hooks,
)
from llmtrace.models.components.query_key import require_dot_product, rotated, rotation, score_scale
from llmtrace.models.hook_names import site_name
from llmtrace.prompts import PromptSet

Stream = Float[Tensor, "batch pos d_model"]
Scores = Float[Tensor, "batch node port"]


def atp_star(
    model: TraceModel,
    prompts: PromptSet,
    *,
    metric: MetricLike | None = None,
    graph: Graph | None = None,
    qk_fix: bool = True,
    grad_drop: bool = False,
    memory: Memory = "auto",
) -> EdgeScores:
    """Scores of every edge, per prompt.

    qk_fix      edges into queries and keys by the pattern that they make; off, they are EAP's
    grad_drop   without the gradient through one layer at a time, so that effects which cancel show

    Raises UnsupportedError for a model whose patterns are no softmax of (q . k), InputError for a metric whose gradient
    vanishes at the clean run, or for grad_drop in a model of one layer.
    """
    layers = range(describe(model).n_layers)
    if qk_fix:
        describe(model).require_pre_norm("The QK fix of AtP*")
        require_no_hooks(model, "The QK fix of AtP*", ("pattern", "z"))
        require_dot_product(model, "The QK fix of AtP*")
    if grad_drop:
        if len(layers) < 2:
            raise InputError("Expected a model of at least two layers for grad_drop, got one; leave grad_drop out.")
        require_live(model, [name for layer in layers for name in _outputs(model, layer)])

    if graph is not None and qk_fix:
        require_no_spans(graph, "The QK fix of AtP*")

    def of_batch(graph: Graph, some: PromptSet, read: Metric) -> Scores:
        record, patterns = recorder_of(model, graph), dict[int, Tensor]()
        keep = [*record.hooks, *_keepers(patterns, len(layers))]
        corrupted = writes_of(model, graph, some.corrupted)

        def of_pass(hooks: Sequence[Hook] = ()) -> Scores:
            gradients = reader_gradients(model, graph, some, read, hooks=[*keep, *hooks])
            change = corrupted - record.values
            scores = edge_products(gradients, change)
            return _through_patterns(scores, gradients, patterns, change) if qk_fix else scores

        if not grad_drop:
            return of_pass()
        without = (of_pass([(name, _no_gradient) for name in _outputs(model, layer)]).abs() for layer in layers)
        return _mean_over_other_layers(graph, without)

    return scored(
        "atp_star", of_batch, model, prompts, metric, graph, memory=memory, points=1, buffers=5,
        passes=f"{1 + len(layers)} forward, {len(layers)} backward" if grad_drop else "2 forward, 1 backward",
        options={"qk_fix": qk_fix, "grad_drop": grad_drop},
    )  # fmt: skip


def _through_patterns(scores: Scores, gradients: Gradients, patterns: dict[int, Tensor], change: Tensor) -> Scores:
    """The columns of queries and keys anew."""
    model, graph = gradients.model, gradients.graph
    group = graph.n_heads // graph.n_kv_heads
    for layer, at_writes in enumerate(_gradients_at_heads(gradients)):
        w, x = attention_weights(model, layer), gradients.streams[site_name("resid_pre", layer)]
        by, scale = rotation(model, layer, x.shape[1]), score_scale(model, layer)
        q, k, v = (
            project(reader, w.norm, range(len(reader.weight)), x.expand(len(reader.weight), *x.shape)).transpose(1, 2)
            for reader in head_readers(model, layer).values()
        )
        q, k, normed, log_p = rotated(q, by) / scale, rotated(k, by) / scale, w.norm(x), patterns[layer].to(x).log()
        q_columns, k_columns = (graph.head_columns(layer, slot).start for slot in ("q", "k"))
        scores[:, :, k_columns : k_columns + graph.n_kv_heads] = 0
        for rows in _few_rows(graph.before(layer), change):
            moved = w.norm(x + change[rows]) - normed
            for head in range(graph.n_heads):
                kv = head // group
                at_z = einsum(at_writes, w.W_O[head], "batch i d_model, d_head d_model -> batch i d_head")
                slope = einsum(at_z, v[:, kv], "batch i d_head, batch j d_head -> batch i j")
                more_q, more_k = rotated(moved @ w.W_Q[head], by), rotated(moved @ w.W_K[kv], by)
                by_q = einsum(more_q, k[:, kv], "node batch i d_head, batch j d_head -> node batch i j")
                by_k = einsum(q[:, head], more_k, "batch i d_head, node batch j d_head -> node batch i j")
                scores[:, rows, q_columns + head] = pattern_effect(slope, log_p[:, head], by_q)
                scores[:, rows, k_columns + kv] += pattern_effect(slope, log_p[:, head], by_k)
    return scores


def pattern_effect(
    slope: Float[Tensor, "batch query key"],
    log_p: Float[Tensor, "batch query key"],
    change: Float[Tensor, "node batch query key"],
) -> Float[Tensor, "batch node"]:
    """sum_ij slope_ij (P'_ij - P_ij) under a change of the scores. What a sink takes of a row stays in the softmax."""
    rest = (1 - log_p.exp().sum(-1, keepdim=True)).clamp(min=0)
    rest = rest.where(rest > max(1e-5, 100 * torch.finfo(rest.dtype).eps), 0).log()  # less is rounding
    before = torch.cat([log_p, rest], -1)
    after = torch.cat([log_p + change, rest.expand(*change.shape[:-1], 1)], -1)
    moved = (after.softmax(-1) - before.softmax(-1))[..., :-1]  # exactly 0 where nothing changes
    return einsum(slope, moved, "batch i j, node batch i j -> batch node")


def _gradients_at_heads(gradients: Gradients) -> list[Stream]:
    """d metric / d what the heads of each layer write: the sum over all ports that read it."""
    graph = gradients.graph
    found = [torch.zeros_like(gradients.final) for _ in range(graph.n_layers)]
    for _, sources, gradient in gradients.ports():
        together = gradient.sum(0)
        for layer in range(graph.n_layers):
            if graph.head_rows(layer).stop <= sources:
                found[layer] += together
    return found


def _mean_over_other_layers(graph: Graph, without: Iterator[Scores]) -> Scores:
    total: Tensor | float = 0.0
    for layer, scores in enumerate(without):
        last = graph.head_columns(layer, "v") if graph.attn_only else graph.neuron_columns(layer)  # after its MLP's
        own = slice(graph.head_columns(layer, "q").start, last.stop)
        scores[:, :, own] = 0
        total = total + scores
    assert isinstance(total, Tensor)
    total[:, :, :-1] /= graph.n_layers - 1
    total[:, :, -1] /= graph.n_layers
    return total


def _outputs(model: TraceModel, layer: int) -> list[str]:
    kinds = ("attn_out",) if describe(model).attn_only else ("attn_out", "mlp_out")
    return [site_name(kind, layer) for kind in kinds]


def _no_gradient(value: Tensor) -> Tensor:
    """The same value, on the autograd path still (nothing upstream is unreached), with a gradient of 0."""
    return value.detach() + 0 * (value - value.detach())


def _keepers(patterns: dict[int, Tensor], n_layers: int) -> list[Hook]:
    def keep(layer: int) -> Hook:
        return site_name("pattern", layer), lambda value: patterns.__setitem__(layer, value.detach())

    return [keep(layer) for layer in range(n_layers)]


def _few_rows(before: int, change: Float[Tensor, "node batch pos d_model"]) -> Iterator[slice]:
    """Writers, as many at a time as their temporaries take about the room of all writes."""
    nodes, _, width, d_model = change.shape
    step = max(1, nodes * d_model // (4 * max(width, d_model)))
    for start in range(0, before, step):
        yield slice(start, min(start + step, before))
