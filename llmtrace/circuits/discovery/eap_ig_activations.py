"""EAP with integrated gradients, along activations: each group of writers goes from corrupted to clean by itself.

    score(u -> v) = < a_u(corrupted) - a_u(clean), mean_k d metric / d x_v with a_u at t_k a_u + (1 - t_k) a_u' >

u runs over the input, the heads of a layer together, and each MLP (with those of its neurons that are nodes); the
gradient is used for edges *out of u* only.
Source: Hanna, Pezzelle & Belinkov 2024 (their code lets the gradients of all groups add up at every reader; this is the
definition). Cost: 2 F + K (2 L + 1) (F + W): the most expensive of its family.
Sign: as EAP, negative = patching the edge lowers the metric.
Known failure: each group moves alone, so an OR gate between groups scores 0 on both sides; and what the heads of one
layer do together is shared out among them (each half of an AND gate has half of what it does alone).

    >>> lt.circuits.eap_ig_activations(model, prompts, steps=2)
    EdgeScores(eap_ig_activations of logit_diff: 1,519 edges; a2.h2->m2 -7.93, input->m0 -7.59)
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from llmtrace.circuits.discovery.eap_ig import midpoints
from llmtrace.circuits.discovery.scoring.edge_scoring import edge_products, reader_gradients
from llmtrace.circuits.discovery.scoring.prompt_scores import change_of_writes, scored
from llmtrace.circuits.edge_scores import EdgeScores
from llmtrace.circuits.graph import Graph
from llmtrace.interventions import Memory
from llmtrace.metrics import Metric, MetricLike
from llmtrace.models import Hook, TraceModel, embedding, final_residual
from llmtrace.models.hook_names import site_name
from llmtrace.prompts import PromptSet


def eap_ig_activations(
    model: TraceModel,
    prompts: PromptSet,
    *,
    metric: MetricLike | None = None,
    graph: Graph | None = None,
    rule: str = "standard",
    steps: int = 5,
    memory: Memory = "auto",
) -> EdgeScores:
    """Scores of every edge, per prompt, from `steps` points for each group of writers."""
    times = midpoints(steps)

    def of_batch(graph: Graph, some: PromptSet, read: Metric) -> Float[Tensor, "batch node port"]:
        change = change_of_writes(model, graph, some)
        scores = change.new_zeros(len(some), *graph.real.shape)
        clean, corrupted = (_outputs(model, graph, some.side(side)) for side in ("clean", "corrupted"))
        inputs = embedding(model, some.clean)[0].repeat(steps, 1, 1)
        for name, rows in _groups(graph):
            points = torch.cat([corrupted[name] + t * (clean[name] - corrupted[name]) for t in times])
            gradients = (
                reader_gradients(model, graph, some, read, inputs=points, rule=rule)
                if rows.start == 0
                else reader_gradients(
                    model, graph, some, read, inputs=inputs, hooks=[_put(name, points)], flat=True, rule=rule
                )
            )
            scores[:, rows] = edge_products(gradients, change)[:, rows]
            del gradients  # the next ones want their room
        return scores

    return scored(
        "eap_ig_activations", of_batch, model, prompts, metric, graph, memory=memory,
        points=steps, passes=_passes(model, steps), options={"rule": rule, "steps": steps},
    )  # fmt: skip


def _groups(graph: Graph) -> Iterator[tuple[str, slice]]:
    """(the activation that is moved, the writers that it is)."""
    yield site_name("resid_pre", 0), slice(0, graph.before(0))
    for layer in range(graph.n_layers):
        yield site_name("z", layer), graph.head_rows(layer)
        if not graph.attn_only:
            yield site_name("mlp_out", layer), slice(graph.mlp_row(layer), graph.neuron_rows(layer).stop)


@torch.no_grad()
def _outputs(model: TraceModel, graph: Graph, tokens: Tensor) -> dict[str, Tensor]:
    kept: dict[str, Tensor] = {}

    def keep(name: str) -> Hook:
        return name, lambda value: kept.__setitem__(name, value)

    final_residual(model, tokens, [keep(name) for name, _ in _groups(graph)])
    return kept


def _put(name: str, value: Tensor) -> Hook:
    """Put in without cutting the path of the gradient: what comes before still has edges, of slope 0 through here."""
    return name, lambda live: value + 0 * live


def _passes(model: TraceModel, steps: int) -> str:
    groups = sum(1 for _ in _groups(Graph.of(model)))
    return f"{4 + steps * groups} forward, {steps * groups} backward"
