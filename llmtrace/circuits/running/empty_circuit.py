"""What removed edges carry, and the run in which every edge is removed: the ground that all circuits stand on.

    resample   the writes of the corrupted run
    zero       0
    mean       means of the writes over the corrupted prompts of a template group, per position; or any `Mean(...)`:
               per position or over everything, of the clean side, of held-out prompts

A port whose edges are all removed reads the ablated writes and the biases before it (`streams`). What a node writes
when it reads only that (`idle`, relative to its ablated write) is 0 under resample, and what its biases make of nothing
under the others. Cost: one forward pass, and under zero and mean one evaluation of every node. Memory: twice nodes x
batch x pos x d_model. It serves every circuit on the same prompts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from llmtrace.circuits.graph import Graph
from llmtrace.circuits.running.background import Ablation, Background, Buffer, Stream, ablation_name
from llmtrace.circuits.running.circuit_pass import idle_writes
from llmtrace.circuits.running.span_columns import span_of
from llmtrace.errors import InputError, UnsupportedError
from llmtrace.interventions import Mean, means_of
from llmtrace.interventions.engine.changes import Fill, FromOther, New
from llmtrace.interventions.rows import ABLATIONS, without_a_vector
from llmtrace.models import Hook, TraceModel, attention_weights, looks_back_only
from llmtrace.prompts import PromptSet
from llmtrace.signals import node_writes


@torch.no_grad()
def background(
    model: TraceModel,
    prompts: PromptSet,
    ablation: Ablation = "resample",
    *,
    graph: Graph | None = None,
    hooks: Sequence[Hook] = (),
) -> Background:
    """What removed edges carry on these prompts.

    hooks   change the corrupted run that resample takes from (its positions, say: compiled programs need it)

    Raises InputError for an unknown ablation, or prompts without corruption where that is needed.
    """
    graph = Graph.of(model) if graph is None else graph
    name = ablation_name(ablation)
    writes = _ablated(model, graph, prompts, ablation, hooks)
    attn, mlp = _streams(model, graph, writes)
    found = Background(name, graph, writes, attn, mlp, span_of=span_of(graph, prompts))
    if ablation != "resample":
        return replace(found, idle=idle_writes(model, found))
    same_start = looks_back_only(model) and not hooks
    differs = (prompts.clean != prompts.corrupted).any(0).nonzero()
    return replace(found, first=int(differs[0])) if same_start else found


def _ablated(model: TraceModel, graph: Graph, prompts: PromptSet, ablation: Ablation, hooks: Sequence[Hook]) -> Buffer:
    def written(tokens: Tensor, hooks: Sequence[Hook] = ()) -> Buffer:
        return node_writes(
            model, tokens, split_embed=graph.split_embed, received=True, neurons=graph.neurons, hooks=hooks
        ).values

    match new := new_of(ablation, prompts):
        case Fill(number):
            shape = len(graph.nodes), *prompts.clean.shape, model.cfg.d_model
            return torch.full(shape, number, dtype=model.W_E.dtype, device=model.W_E.device)
        case Mean():
            if new.side == "corrupted" and new.reference is None:
                prompts.require_corruption("Mean ablation of edges")
            values = written(new.reference_for(prompts).side(new.side))
            return torch.stack([means_of(write, prompts, new) for write in values])
        case FromOther():
            if not hooks:  # they may make another run of the same prompts
                prompts.require_corruption("Resample ablation of edges")
            return written(prompts.corrupted, hooks)
    raise UnsupportedError(f"Expected an ablation that edges can carry, got {ablation!r}; use zero, mean or resample.")


def new_of(ablation: Ablation, prompts: PromptSet) -> New:
    """The value that a removed edge carries. Raises InputError for an unknown ablation."""
    if isinstance(ablation, Mean):
        return ablation
    if ablation not in (known := without_a_vector()):
        raise InputError(f"Expected ablation {', '.join(known)} or Mean(...), got {ablation!r}; choose one.")
    new: New = ABLATIONS[ablation](prompts, "group", "corrupted", None)
    return new


def _streams(model: TraceModel, graph: Graph, writes: Buffer) -> tuple[list[Stream], list[Stream]]:
    """Running sums of the ablated writes and of b_O (b_out is part of an MLP's write)."""
    attn, mlp = [writes[: graph.before(0)].sum(0)], list[Stream]()
    for layer in range(graph.n_layers):
        b_O = attention_weights(model, layer).b_O
        after_heads = attn[-1] + (writes[graph.head_rows(layer)].sum(0) + b_O)
        if graph.attn_only:
            attn.append(after_heads)
            continue
        mlp.append(attn[-1] if graph.parallel else after_heads)
        after_mlp = after_heads + writes[graph.mlp_row(layer)]
        attn.append(after_mlp + writes[graph.neuron_rows(layer)].sum(0) if graph.neurons_of(layer) else after_mlp)
    return attn, mlp
