"""Information flow routes: how much of a prediction comes from each token, along the paths that carry it.

Each place passes its flow on to its parts (each head from each source, MLP, residual stream) by their share

    share(p) = max(0, |y|_1 - |y - p|_1) / sum over parts,   shares up to `threshold` dropped, the rest to one again

from the prediction (1) down to the tokens; the walk is `flow_walk.py`. `flow_graph` gives the places and edges
themselves, `flow_routes` what arrives at the tokens.
Source: Ferrando & Voita 2024. Cost: 1 F, and the distances at the places that are reached: at .01 and 1,024 tokens of
SmolLM2 about one and a half F more. Memory: three streams of every layer and one layer's patterns (all layers' where
they are small, and on a bridge, whose layers cannot be run alone), one prompt at a time.
Sign: a share, from 0 to 1; rows sum to one (law 53: after dropping too). It needs no answer and no contrast.
Known failure: it asks who is loud, not who matters for the answer; nearly all of it stays in the residual stream of a
token that predicts. With `threshold=0` every place is reached.

    >>> found = lt.influence.flow_routes(model, prompts)
    >>> found.labels[0][found.values[0, -1].argmax()]
    'to'
    >>> lt.influence.flow_graph(model, prompts[0])
    FlowGraph(of token 14, 'to', threshold 0.01: 274 edges, 79 of 135 places)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from llmtrace.errors import InputError
from llmtrace.influence.tokens.attention.flow_walk import FlowStep, flow_steps, passed_on, stages
from llmtrace.influence.tokens.attention.pattern_batches import target_positions
from llmtrace.influence.tokens.results.flow_graph import FlowGraph
from llmtrace.influence.tokens.results.token_influence import TokenInfluence
from llmtrace.models import TraceModel, describe, provenance, token_labels
from llmtrace.progress import track
from llmtrace.prompts import PromptSet, as_prompts
from llmtrace.prompts.choice import Choice

THRESHOLD = 0.01


@torch.no_grad()
def flow_routes(
    model: TraceModel,
    prompts: PromptSet | str | Sequence[str],
    *,
    threshold: float = THRESHOLD,
    positions: Choice | None = None,
) -> TokenInfluence:
    """[batch target source]: share of the prediction at each target position (default: END) from each input token.

    Raises UnsupportedError for models whose writes do not add up (post-norm).
    """
    prompts = as_prompts(model, prompts)
    at = target_positions(prompts, positions)
    rows = [
        _arriving(model, tokens, of_prompt, threshold)
        for tokens, of_prompt in track(list(zip(prompts.clean, at, strict=True)), "flow_routes")
    ]
    return TokenInfluence.of(
        model, prompts, torch.stack(rows), "flow_routes", targets=at, rows_sum_to_one=True,
        options={"threshold": threshold},
    )  # fmt: skip


def _arriving(
    model: TraceModel, tokens: Int[Tensor, " pos"], targets: Int[Tensor, " target"], threshold: float
) -> Float[Tensor, "target pos"]:
    last = deque(flow_steps(model, tokens, targets, threshold), maxlen=1).pop()
    assert last.heads is not None, "the first layer begins with attention"
    found = passed_on(last, last.heads.shape[1])
    return torch.cat([found, found.new_zeros(len(found), len(tokens) - found.shape[1])], 1)


@torch.no_grad()
def flow_graph(
    model: TraceModel, prompt: PromptSet | str, *, threshold: float = THRESHOLD, position: Choice = "END"
) -> FlowGraph:
    """The places that one prompt's prediction reaches, and the edges between them with share and flow."""
    prompts = as_prompts(model, prompt)
    if len(prompts) != 1:
        raise InputError(f"Expected one prompt, got {len(prompts)}; a flow graph is of one prediction: prompts[0].")
    at = prompts.position(position)
    names = stages(describe(model))
    parts = [_columns(step, names.index(step.stage)) for step in flow_steps(model, prompts.clean[0], at, threshold)]
    columns = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    return FlowGraph(
        **columns, stages=names, labels=token_labels(model, prompts.clean)[0], at=int(at), threshold=threshold,
        provenance=provenance(model).as_dict(),
    )  # fmt: skip


def _columns(step: FlowStep, stage: int) -> dict[str, Tensor]:
    """The columns of a FlowGraph for the edges into one stage."""
    found: list[tuple[int, Tensor, Tensor, Tensor, Tensor]] = []
    for kind, shares in (("mlp", step.mlp), ("residual", step.residual)):
        if shares is not None:
            n = (shares > 0).nonzero()[:, 0]
            found.append((FlowGraph.KINDS.index(kind), n, step.at[n], torch.full_like(n, -1), shares[n]))
    if step.heads is not None:
        n, source, head = (step.heads > 0).nonzero().T
        found.append((FlowGraph.KINDS.index("head"), n, source, head, step.heads[n, source, head]))
    kinds = torch.cat([torch.full_like(n, kind) for kind, n, *_ in found])
    reached, source, head, share = (torch.cat(parts) for parts in list(zip(*found, strict=True))[1:])
    return {
        "stage": torch.full_like(kinds, stage), "kind": kinds, "head": head, "source": source,
        "target": step.at[reached], "share": share, "flow": step.flow[0, reached] * share,
    }  # fmt: skip
