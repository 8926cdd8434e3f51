"""Information flow routes: the twin from the definition, and that the parts of what a port reads make up the whole."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import slow_twins as slow
import torch
from room import to_score
from tiny import ALL, POST_NORM, Tiny, close, has_norm, one_of_each, over, prompts

from llmtrace import circuits, models
from llmtrace.circuits.discovery.ifr import EPS, flow_shares, ifr
from llmtrace.metrics import custom
from llmtrace.nodes import Edge, Head, Logits, Mlp, Port
from llmtrace.prompts import PromptSet


def stream_of(model: Any, tokens: torch.Tensor, port: Port, *, parallel: bool) -> torch.Tensor:
    """What the port reads before its norm, asked of the model."""
    if isinstance(port.node, Logits):
        return slow.final_residual(model, tokens)
    where = "resid_mid" if isinstance(port.node, Mlp) and not parallel else "resid_pre"
    name = f"blocks.{port.node.layer}.hook_{where}"  # type: ignore[union-attr]
    return slow.read(model, tokens, [name])[name]


def twin(model: Any, p: PromptSet) -> dict[Edge, torch.Tensor]:
    """One port and one writer at a time; the part of no writer is whatever the writers leave over."""
    parallel = slow.describe(model).parallel
    writes = {u: slow.write_of(model, p.clean, u) for u in slow.writers(model)}
    scores: dict[Edge, torch.Tensor] = {}
    for port in slow.ports(model):
        x = stream_of(model, p.clean, port, parallel=parallel)
        before = [u for u in writes if slow.reads(u, port, parallel=parallel)]
        rest = x - sum(writes[u] for u in before)

        def near(part: torch.Tensor, x: torch.Tensor = x) -> torch.Tensor:
            return (x.abs().sum(-1) - (x - part).abs().sum(-1)).clamp(min=EPS)  # batch pos

        total = sum(near(writes[u]) for u in before)
        total = total + near(rest) if rest.abs().max() > 1e-4 else total  # there are biases
        for u in before:
            share, per_prompt = near(writes[u]) / total, []
            for row, end, length in zip(share, p.positions["END"].tolist(), p.lengths.tolist(), strict=True):
                per_prompt.append(row[end] if isinstance(port.node, Logits) else row[:length].mean())
            scores[Edge(u, port)] = torch.stack(per_prompt)
    return scores


@over(among=[*ALL, *POST_NORM])
def test_it_is_the_share_of_the_stream(tiny: Tiny) -> None:
    p = prompts(padded=True)
    scores, expected = ifr(tiny.model, p), twin(tiny.model, p)
    assert set(expected) == set(scores.graph.edges())
    for edge, share in expected.items():
        close(scores.of(edge), share, 10 * tiny.atol)
    assert not scores.values[~scores.graph.real].any()


def no_attention_bias(tiny: Tiny) -> bool:
    """Biases have a share that is no edge's."""
    layers = range(tiny.family.n_layers)
    return not any(models.attention_weights(tiny.model, layer).b_O.any() for layer in layers)


@over(no_attention_bias)
def test_the_parts_of_a_port_are_the_whole(tiny: Tiny) -> None:
    total = ifr(tiny.model, prompts(padded=True)).per_prompt.sum(1)
    close(total, torch.ones_like(total), 1e-9)


@over(lambda tiny: not no_attention_bias(tiny))
def test_biases_take_their_part(tiny: Tiny) -> None:
    """Nothing before the first layer's heads, at most all of it later."""
    scores = ifr(tiny.model, prompts(padded=True))
    total = scores.per_prompt.sum(1)
    first = scores.graph.head_columns(0, "q")
    close(total[:, first], torch.ones_like(total[:, first]), 1e-9)
    assert (total < 1 + 1e-9).all() and (total[:, -1] < 1).all() and (scores.per_prompt >= 0).all()


def test_parts_by_hand() -> None:
    """Law 53: [1, 1] and [2, 2] + [1, 1] into [4, 4] give .25, .5, .25; a part that points away has next to nothing."""
    parts = torch.tensor([[1.0, 1], [2, 2]], dtype=torch.float64).view(2, 1, 1, 2)
    shares = flow_shares(parts, torch.ones(2, dtype=torch.float64))
    close(shares.flatten(), torch.tensor([0.25, 0.5]), 1e-12)
    parts = torch.tensor([[-1.0, -1], [4, 4]], dtype=torch.float64).view(2, 1, 1, 2)
    away, along = flow_shares(parts, torch.zeros(2, dtype=torch.float64)).flatten()
    assert away < 1e-5 and along > 1 - 1e-5


@over(one_of_each, has_norm)
def test_neither_corruption_nor_metric_matters(tiny: Tiny) -> None:
    p = prompts(padded=True)
    plain = ifr(tiny.model, p)
    close(ifr(tiny.model, replace(p, corrupted=p.clean)).per_prompt, plain.per_prompt, 1e-12)
    flat = custom("flat", lambda rows: 0 * rows.sum(-1) + 7, p.positions["END"])
    close(ifr(tiny.model, p, metric=flat).per_prompt, plain.per_prompt, 1e-12)
    elsewhere = ifr(tiny.model, p, metric=custom("mid", lambda rows: rows.sum(-1), p.positions["MID"]))
    moved = (elsewhere.values - plain.values).abs()
    assert not moved[:, :-1].any() and moved[:, -1].max() > 1e-3  # only what the logits read


def test_batches_do_not_matter() -> None:
    model, p = ALL[0].model, prompts(padded=True)
    whole = ifr(model, p).per_prompt
    for size in (1, 2):
        close(ifr(model, p, memory=to_score(model, p, size, buffers=3, points=0)).per_prompt, whole, 1e-12)


def test_position_embeddings_may_be_a_writer_of_their_own() -> None:
    tiny, p = ALL[0], prompts(padded=True)
    graph = circuits.Graph.of(tiny.model, split_embed=True)
    scores = ifr(tiny.model, p, graph=graph)
    first = graph.head_columns(0, "q")
    assert (scores.values[:2, first] > 0).all()
    close(scores.values[:2, first].sum(0), torch.ones(4), 1e-9)
    assert scores.of(Edge(Head(0, 0), Port(Logits()))).shape == (5,)
