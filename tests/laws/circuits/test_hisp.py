"""Head importance scores: the twin from the definition, the spread to edges, and what may not matter."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import slow_twins as slow
import torch
from room import to_score
from tiny import ALL, POST_NORM, Tiny, close, one_of_each, over, prompts

from llmtrace.circuits.discovery.eap import eap
from llmtrace.circuits.discovery.hisp import hisp
from llmtrace.errors import InputError
from llmtrace.metrics import custom
from llmtrace.nodes import Embed, Head, KvHead, Logits, Mlp, Node
from llmtrace.prompts import PromptSet


def importance(model: Any, p: PromptSet) -> dict[Node, torch.Tensor]:
    """|d metric / d t at t = 0| of a plain run in which u writes (1 + t) a_u, over the norm of its layer."""
    slopes: dict[Node, torch.Tensor] = {}
    for node in slow.writers(model):
        t = torch.zeros(len(p), 1, 1, dtype=torch.float64, requires_grad=True)
        match node:
            case Embed():
                name = "blocks.0.hook_resid_pre"
            case Mlp(layer):
                name = f"blocks.{layer}.hook_mlp_out"
            case Head(layer, _):
                name = f"blocks.{layer}.attn.hook_z"

        def more(value: torch.Tensor, t: torch.Tensor = t, node: Node = node) -> torch.Tensor:
            if not isinstance(node, Head):
                return value + t * value
            alone = torch.zeros_like(value)
            alone[:, :, node.head] = value[:, :, node.head]
            return value + t[..., None] * alone

        with torch.enable_grad():
            total = slow.metric_of_run(model, p, [(name, more)]).sum()
        slopes[node] = torch.autograd.grad(total, t)[0].flatten().abs()
    found: dict[Node, torch.Tensor] = {Embed(): torch.ones(len(p), dtype=torch.float64)}
    for node, slope in slopes.items():
        if not isinstance(node, Embed):
            layer = [slopes[other] for other in slopes if not isinstance(other, Embed) and other.layer == node.layer]
            found[node] = slope / sum(s**2 for s in layer).sqrt()
    return found


@over()
def test_an_edge_has_the_lower_importance_of_its_ends(tiny: Tiny) -> None:
    p = prompts(padded=True)
    nodes, scores = importance(tiny.model, p), hisp(tiny.model, p)
    group = tiny.family.n_heads // tiny.family.kv_heads
    for edge in scores.graph.edges():
        match edge.port.node:
            case Logits():
                reader = torch.ones(len(p), dtype=torch.float64)
            case KvHead(layer, head):
                heads = range(head * group, (head + 1) * group)
                reader = torch.stack([nodes[Head(layer, h)] for h in heads]).amax(0)
            case node:
                reader = nodes[node]
        close(scores.of(edge), torch.minimum(nodes[edge.writer], reader), 100 * tiny.atol)
    assert not scores.values[~scores.graph.real].any()


@over(among=[*ALL, *POST_NORM])
def test_layers_have_norm_one(tiny: Tiny) -> None:
    """The edges into the logits have the importance of their writers: 1 for the input, norm 1 over each layer."""
    scores = hisp(tiny.model, prompts(padded=True))
    graph, nodes = scores.graph, scores.per_prompt[:, :, -1]
    close(nodes[:, 0], torch.ones(5), 1e-9)
    for layer in range(graph.n_layers):
        stop = graph.before(layer + 1)
        close(nodes[:, graph.before(layer) : stop].norm(dim=1), torch.ones(5), 1e-6)


@over(one_of_each)
def test_neither_corruption_nor_scale_nor_constant_matters(tiny: Tiny) -> None:
    p = prompts(padded=True)
    plain, metric = hisp(tiny.model, p), p.metric("logit_diff")
    close(hisp(tiny.model, replace(p, corrupted=p.clean)).per_prompt, plain.per_prompt, tiny.atol)
    assert metric.tokens is not None and metric.weights is not None

    def other(rows: torch.Tensor, tokens: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        return 7 - 3 * (rows.gather(-1, tokens.expand(*rows.shape[:-1], -1)) * weights).sum(-1)

    shifted = custom("other", other, metric.positions, context=(metric.tokens, metric.weights))
    close(hisp(tiny.model, p, metric=shifted).per_prompt, plain.per_prompt, 10 * tiny.atol)


def test_batches_do_not_matter() -> None:
    model, p = ALL[0].model, prompts(padded=True)
    whole = hisp(model, p).per_prompt
    for size in (1, 2):
        close(hisp(model, p, memory=to_score(model, p, size)).per_prompt, whole, 1e-9)


def test_a_flat_metric_is_refused() -> None:
    with pytest.raises(InputError, match="gradient"):
        hisp(ALL[0].model, prompts(), metric="kl")


def test_it_needs_no_corruption_and_eap_does() -> None:
    same = replace(prompts(), corrupted=prompts().clean)
    with pytest.raises(InputError, match="corrupt"):
        eap(ALL[0].model, same)
    assert hisp(ALL[0].model, same).passes == "1 forward, 1 backward"
