"""Laws 21, 44-48 over one list of all methods: what may not matter to any of them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from every_method import TABLES, Scores, asked, half_circuit
from room import for_passes, to_run, to_score
from tiny import (
    ALL,
    POST_NORM,
    VOCAB,
    Tiny,
    close,
    dot_products_are_seen,
    has_mlp,
    has_norm,
    no_rotary,
    of_each_shape,
    one_of_each,
    over,
    prompts,
    scores_are_live,
)

from llmtrace import circuits, influence, interventions, models, signals
from llmtrace.circuits import Graph
from llmtrace.nodes import Edge, Head, KvHead, Node
from llmtrace.prompts import PromptSet

# Every method several times over: shapes are checked where each has its own laws.
pytestmark = pytest.mark.usefixtures("as_users_run")

# a run per edge, or a pass per layer: their symmetries are those of `run_circuit` and `eap_ig`, which they consist of
TOO_SLOW_HERE = {"exact", "acdc", "eap_ig_activations"}
# decided by the mean over all prompts, and by a seed: not one number per prompt
OF_THE_WHOLE_SET = {"edge_pruning"}
# compared with a mean over all prompts: a prompt alone has another score, and everything else holds
AMONG_PROMPTS = {"eap_mean"}
# noise is drawn for the places of a batch, so another batch has another noise
OWN_NOISE = {"causal_trace"}
NOT_HERE = TOO_SLOW_HERE | OWN_NOISE | OF_THE_WHOLE_SET
METHODS: dict[str, Scores] = {"run_circuit": lambda m, p: circuits.run_circuit(m, p, half_circuit(m))[:, None]} | {
    name: asked(row) for table in TABLES for name, row in table.items() if name not in NOT_HERE
}
# methods whose token axes keep the width of the padded batch: of the source alone, or of target and source
OF_TOKENS = influence.METHODS.giving("tokens")
PER_SOURCE = {"source_token_attribution"} | {
    row.name for row in OF_TOKENS if {"metric", "positions"} & {*row.option_names()}
}
PER_TOKEN = {row.name for row in OF_TOKENS} - PER_SOURCE


def applies(tiny: Tiny, method: str) -> bool:
    """Neurons need an MLP, a knockout scores that the model goes on with, AtP* queries and keys that are to be seen."""
    if method == "atp_star":
        return dot_products_are_seen(tiny)
    return (has_mlp(tiny) or method != "neuron_attribution") and (scores_are_live(tiny) or method != "knock_out")


def every_method(tiny: Tiny) -> dict[str, Scores]:
    return {name: scores for name, scores in METHODS.items() if applies(tiny, name)}


@functools.cache
def scores_of(tiny: Tiny, name: str, *, padded: bool = False) -> torch.Tensor:
    """What the laws compare with: of the model as it is, once. That a second call says the same is a law of its own."""
    return METHODS[name](tiny.model, prompts(padded=padded))


@over(of_each_shape)
def test_methods_commute_with_the_order_of_prompts(tiny: Tiny) -> None:
    """Law 21: shuffled prompts give shuffled scores."""
    order, p = [3, 0, 4, 2, 1], prompts(padded=True)
    for name, scores in every_method(tiny).items():
        close(scores(tiny.model, p[order]), scores_of(tiny, name, padded=True)[order], 10 * tiny.atol)


@over(one_of_each)
def test_a_batch_is_a_loop_over_prompts(tiny: Tiny) -> None:
    """Laws 46 and 47: prompts of two lengths in one padded batch score as each prompt does alone, without padding.

    Mean ablation is not in the list: its reference is the whole prompt set, by definition.
    """
    p = prompts(padded=True)
    for name, scores in every_method(tiny).items():
        if name in AMONG_PROMPTS:
            continue
        whole = scores_of(tiny, name, padded=True)
        for i in (0, 4):  # a long one and a short one
            alone = scores(tiny.model, p[i])[0]
            together = whole[i]
            real = int(p.lengths[i])
            if name in PER_SOURCE | PER_TOKEN:
                together = together[..., :real] if name in PER_SOURCE else together[:real, :real]
            close(together, alone, 10 * tiny.atol)


@over(among=[*ALL, *POST_NORM])
def test_padding_leaves_real_positions_alone(tiny: Tiny) -> None:
    """Law 47: whatever stands after the end of a prompt, activations at its real positions are the same."""
    p = prompts(padded=True)
    junk = torch.randint(VOCAB, p.clean.shape, generator=torch.Generator().manual_seed(9))
    other = replace(p, clean=p.clean.where(p.mask, junk))
    assert not torch.equal(other.clean, p.clean)
    for layer in range(tiny.family.n_layers):
        a, b = (signals.capture(tiny.model, q, what="resid_post", layers=[layer]) for q in (p, other))
        close(signals.resid_post(a, layer)[p.mask], signals.resid_post(b, layer)[p.mask], tiny.atol)


@over(of_each_shape)
def test_what_padding_holds_does_not_reach_any_score(tiny: Tiny) -> None:
    """Law 47 for every method, mean ablation with its group means included."""
    p = prompts(padded=True)
    junk = torch.randint(VOCAB, p.clean.shape, generator=torch.Generator().manual_seed(9))
    other = replace(p, clean=p.clean.where(p.mask, junk), corrupted=p.corrupted.where(p.mask, junk.flip(0)))
    for scores in (
        lambda q: interventions.ablate(tiny.model, q, ablation="mean").change.T,
        lambda q: circuits.run_circuit(tiny.model, q, half_circuit(tiny.model), ablation="mean")[:, None],
    ):
        close(scores(other), scores(p), 10 * tiny.atol)
    for name, scores in every_method(tiny).items():
        got, expected = scores(tiny.model, other), scores_of(tiny, name, padded=True)
        if name in PER_TOKEN:  # a row and column per token, of padding too
            real = p.mask[:, :, None] & p.mask[:, None, :]
            got, expected = got[real], expected[real]
        close(got, expected, 10 * tiny.atol)


@over(of_each_shape)
def test_smaller_batches_are_the_same_batch(tiny: Tiny) -> None:
    """Law 46 for the arguments that split a batch: memory is spent differently, numbers stay."""
    p, some = prompts(padded=True), [Head(0, 0), Head(1, 1)]
    what = ("pattern", "z", "resid_post")
    rooms = ("auto", for_passes(tiny.model, 2, p.clean.shape[1]))
    one, two = (signals.capture(tiny.model, p, what=what, memory=room) for room in rooms)
    for name in one.activations:
        close(two[name], one[name], tiny.atol)
    circuit = half_circuit(tiny.model)
    for split in (
        lambda size: interventions.ablate(tiny.model, p, some, memory=size * 30_000).after,
        lambda size: circuits.eap(tiny.model, p, memory=to_score(tiny.model, p, size)).per_prompt,
        lambda size: (
            circuits.evaluate(
                tiny.model, p, circuit, ablation="mean", draws=0, memory=to_run(tiny.model, p, size, "mean")
            ).alone
        ),
    ):
        close(split(2), split(100), 10 * tiny.atol)


# --- the same function with other weights --------------------------------------------------------------------------


def views(source: Any, layer: int) -> dict[str, list[torch.Tensor]]:
    """Views of attention's weights, per slot: [head, d_head, ...], weights and biases. In place: change them, and the
    source changes."""
    if isinstance(source, dict):
        at = f"blocks.{layer}.attn."
        found = {slot: [source[at + f"W_{slot}"].transpose(1, 2), source[at + f"b_{slot}"]] for slot in "QKV"}
        return found | {"O": [source[at + "W_O"]]}
    config = source.config
    n_heads = config.num_attention_heads
    d_head = config.hidden_size // n_heads

    def rows(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.data.view(-1, d_head, *tensor.shape[1:])

    def columns(weight: torch.Tensor) -> torch.Tensor:
        return weight.data.view(weight.shape[0], -1, d_head).permute(1, 2, 0)

    match config.model_type:
        case "gpt2":  # one matrix [d_model, q k v x head x d_head]
            attn = source.transformer.h[layer].attn
            weight = attn.c_attn.weight.data.view(config.hidden_size, 3, n_heads, d_head).permute(1, 2, 3, 0)
            bias = attn.c_attn.bias.data.view(3, n_heads, d_head)
            found = {slot: [weight[i], bias[i]] for i, slot in enumerate("QKV")}
            return found | {"O": [attn.c_proj.weight.data.view(n_heads, d_head, -1)]}
        case "gpt_neox":  # one matrix [head x q k v x d_head, d_model]
            attn = source.gpt_neox.layers[layer].attention
            weight = attn.query_key_value.weight.data.view(n_heads, 3, d_head, -1)
            bias = attn.query_key_value.bias.data.view(n_heads, 3, d_head)
            found = {slot: [weight[:, i], bias[:, i]] for i, slot in enumerate("QKV")}
            return found | {"O": [columns(attn.dense.weight)]}
        case "gptj":
            attn = source.transformer.h[layer].attn
            out = attn.out_proj.weight
        case "llama" | "qwen2":
            attn = source.model.layers[layer].self_attn
            out = attn.o_proj.weight
        case other:
            raise KeyError(other)
    linears = {"Q": attn.q_proj, "K": attn.k_proj, "V": attn.v_proj}
    found = {slot: [rows(t) for t in (p.weight, p.bias) if t is not None] for slot, p in linears.items()}
    return found | {"O": [columns(out)]}


def head_order(tiny: Tiny, layer: int) -> tuple[list[int], list[int]]:
    """A permutation of query heads that moves groups as wholes and heads within them, and that of key-value heads."""
    kv_heads = tiny.family.kv_heads
    group = tiny.family.n_heads // kv_heads
    kv_order = [(i + 1 + layer) % kv_heads for i in range(kv_heads)]
    return [kv * group + (i + 1) % group for kv in kv_order for i in range(group)], kv_order


def permuted(tiny: Tiny) -> Any:
    """The same model with its heads in another order, at the level of its source weights."""
    source = tiny.family.source(0)
    for layer in range(tiny.family.n_layers):
        order, kv_order = head_order(tiny, layer)
        for slot, tensors in views(source, layer).items():
            for tensor in tensors:
                tensor.copy_(tensor[order if slot in "QO" else kv_order].clone())
    return tiny.build(source)


def moved(tiny: Tiny, node: Node) -> Node:
    """Where a node of the permuted model was before."""
    if isinstance(node, Head):
        return Head(node.layer, head_order(tiny, node.layer)[0][node.head])
    if isinstance(node, KvHead):
        return KvHead(node.layer, head_order(tiny, node.layer)[1][node.head])
    return node


def same_up_to_processing(tiny: Tiny) -> float:
    """Other weights are loaded anew, through float32 where they come from a Hugging Face model: exact to about 1e-6."""
    return 10 * tiny.atol if tiny.family.norm is None else 2e-5


def moved_along(tiny: Tiny, name: str, scores: torch.Tensor) -> torch.Tensor:
    """Scores of the model as it was, every node (axis 1) and edge (axes 1 and 2) where the permuted model has it."""
    graph, found = Graph.of(tiny.model), scores.clone()
    if scores.shape[1:] == graph.real.shape:
        for edge in graph.edges():
            was = Edge(moved(tiny, edge.writer), replace(edge.port, node=moved(tiny, edge.port.node)))
            found[(slice(None), *graph.index(edge))] = scores[(slice(None), *graph.index(was))]
        return found
    if name not in TELL_HEADS_APART:
        return scores
    nodes = TELL_HEADS_APART[name](tiny.model, prompts())
    return scores[:, [nodes.index(moved(tiny, node)) for node in nodes]]


# what axis 1 of these scores is; other scores are of tokens, stages and neurons, and do not know heads apart
TELL_HEADS_APART: dict[str, Callable[[Any, PromptSet], tuple[Node, ...]]] = {
    "direct_logit_attribution": lambda m, p: influence.direct_logit_attribution(m, p).nodes,
    "source_token_attribution": lambda m, p: influence.source_token_attribution(m, p).nodes,
    "path_patch": lambda m, p: tuple(models.describe(m).heads),
    "ablate": lambda m, p: (*models.describe(m).heads, *models.describe(m).mlps),
}


@over(one_of_each)
def test_permuting_heads_permutes_scores(tiny: Tiny) -> None:
    """Law 44: with the group, where keys and values are shared. A circuit names heads, so it is not in this law."""
    p, model, atol = prompts(), permuted(tiny), same_up_to_processing(tiny)
    close(models.logits(model, p.clean), models.logits(tiny.model, p.clean), atol)
    for name, scores in every_method(tiny).items():
        if name != "run_circuit":
            expected = moved_along(tiny, name, scores_of(tiny, name))
            assert torch.allclose(scores(model, p), expected, atol=atol, rtol=atol), name


def rotated(tiny: Tiny, slots: str) -> Any:
    """The same model after one random rotation per key-value head of what `slots` (a reader and its partner) share."""
    source, generator = tiny.family.source(0), torch.Generator().manual_seed(6)
    group = tiny.family.n_heads // tiny.family.kv_heads
    for layer in range(tiny.family.n_layers):
        found = views(source, layer)
        d_head = found["Q"][0].shape[1]
        noise = torch.randn(tiny.family.kv_heads, d_head, d_head, generator=generator, dtype=torch.float64)
        rotation = torch.linalg.qr(noise).Q
        for slot in slots:
            by_head = rotation if slot in "KV" else rotation.repeat_interleave(group, dim=0)
            for tensor in found[slot]:
                tensor.copy_(torch.einsum("hij,hj...->hi...", by_head, tensor.clone()))
    return tiny.build(source)


def unchanged(tiny: Tiny, model: Any) -> None:
    p, atol = prompts(), same_up_to_processing(tiny)
    for name, scores in every_method(tiny).items():
        got, expected = scores(model, p), scores_of(tiny, name)
        assert torch.allclose(got, expected, atol=atol, rtol=atol), name


@over(one_of_each)
def test_rotating_values_and_outputs_changes_nothing(tiny: Tiny) -> None:
    """Law 45: (W_V, W_O) of a head are only seen as a product."""
    model = rotated(tiny, "VO")
    layer = tiny.family.n_layers - 1
    new, old = (models.attention_weights(m, layer).W_V for m in (model, tiny.model))
    assert (new - old).abs().max() > 1e-2
    unchanged(tiny, model)


@over(no_rotary, one_of_each)
def test_rotating_queries_and_keys_changes_nothing(tiny: Tiny) -> None:
    """Law 45: (W_Q, W_K) of a head are only seen as a product, where no rotary embedding stands between them."""
    unchanged(tiny, rotated(tiny, "QK"))


@over(lambda tiny: not no_rotary(tiny))
def test_with_rotary_embeddings_that_law_stops(tiny: Tiny) -> None:
    """Law 45, the other side: the excluded models are rightly excluded."""
    model = rotated(tiny, "QK")
    assert (models.logits(model, prompts().clean) - models.logits(tiny.model, prompts().clean)).abs().max() > 1e-2


# --- precision and chance ------------------------------------------------------------------------------------------


@over(has_norm, of_each_shape)
def test_float32_is_near_float64(tiny: Tiny) -> None:
    """Law 48: within 1e-4 of the scale of the scores, for every method."""
    single = tiny.build(tiny.family.source(0), dtype="float32")
    assert next(single.parameters()).dtype == torch.float32
    for name, scores in every_method(tiny).items():
        wide, narrow = scores_of(tiny, name), scores(single, prompts())
        assert narrow.dtype == torch.float32
        assert (narrow.double() - wide).abs().max() <= 1e-4 * max(1.0, float(wide.abs().max())), name


@over(of_each_shape)
def test_nothing_is_left_behind_and_nothing_is_random(tiny: Tiny) -> None:
    """Law 48: a second call, under another state of the global generator, gives the same numbers bit for bit; no method
    leaves a hook, a gradient or a changed weight behind."""
    before = {name: parameter.clone() for name, parameter in tiny.model.named_parameters()}
    logits = models.logits(tiny.model, prompts().clean)
    for name, scores in every_method(tiny).items():
        first = scores_of(tiny, name)
        assert not first.requires_grad
        torch.manual_seed(1)
        assert torch.equal(scores(tiny.model, prompts()), first), name
    assert torch.equal(models.logits(tiny.model, prompts().clean), logits)
    for name, parameter in tiny.model.named_parameters():
        assert torch.equal(parameter, before[name]) and parameter.grad is None and not parameter.requires_grad
