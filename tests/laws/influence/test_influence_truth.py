"""Laws over the whole table of influence methods, and what each must say where the truth is known by construction.

Every test runs over `influence.METHODS`: a row says what it sums to, and the law of that sum holds it; what it says of
the models that are known is a number here.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import slow_twins as slow
import torch
from tiny import ALL, HOOKED_EXISTS, POST_NORM, WIDE, Tiny, close, has_mlp, over, prompts
from torch import Tensor

from llmtrace import circuits, influence, interventions, models
from llmtrace.errors import UnsupportedError
from llmtrace.influence import LensScores, NodeScores, SourceScores, TokenInfluence
from llmtrace.models.hand_built.designs import DESIGNS, Design, known_circuit, word_tokenizer
from llmtrace.models.hand_built.from_weights import bridge_from_weights, hooked_from_weights
from llmtrace.nodes import Bias, Head, Mlp, Node, parse_edge
from llmtrace.prompts import PromptSet, Spans, from_pairs
from llmtrace.validation import validate

pytestmark = pytest.mark.usefixtures("as_users_run")
BACKENDS = ("hooked", "bridge") if HOOKED_EXISTS else ("bridge",)
methods = pytest.mark.parametrize("name", list(influence.METHODS))

# --- what a method's numbers sum to --------------------------------------------------------------------------------

Sides = tuple[Tensor, Tensor]  # what a method says, and what that must be


def metric_and_nodes(tiny: Tiny, p: PromptSet) -> Sides:
    """Law 6: nodes, every b_O and the unembedding's constant are the metric; final scale frozen."""
    found = influence.direct_logit_attribution(tiny.model, p)
    every_b_O = {Bias("b_O", layer) for layer in range(tiny.family.n_layers)}
    assert {*slow.writers(tiny.model), *every_b_O} < set(found.nodes)
    no_gap(found, tiny)
    return found.values.sum(0), slow.metric_of_run(tiny.model, p)


def no_gap(found: NodeScores | TokenInfluence, tiny: Tiny) -> None:
    assert found.gap is not None and float(found.gap.abs().max()) < 100 * tiny.atol


def mlps_and_neurons(tiny: Tiny, p: PromptSet) -> Sides:
    """Law 8: neurons and b_out are their MLP."""
    found, whole = influence.neuron_attribution(tiny.model, p), influence.direct_logit_attribution(tiny.model, p)
    layers = torch.tensor([node.layer for node in found.nodes])  # type: ignore[union-attr]
    each = range(tiny.family.n_layers)
    return (
        torch.stack([found.values[layers == n].sum(0) for n in each]),
        torch.stack([whole.of(Mlp(n)) for n in each]),
    )


def heads_and_sources(tiny: Tiny, p: PromptSet) -> Sides:
    """Summed over the tokens that it attends to, a head is whole; later tokens and padding give nothing."""
    found, whole = influence.source_token_attribution(tiny.model, p), influence.direct_logit_attribution(tiny.model, p)
    later = torch.arange(found.values.shape[-1]) > p.positions["END"][:, None]
    assert found.nodes == models.describe(tiny.model).heads and float(found.values[:, later].abs().max()) == 0
    return found.values.sum(-1), torch.stack([whole.of(node) for node in found.nodes])


def metric_and_last_stage(tiny: Tiny, p: PromptSet) -> Sides:
    """Law 7."""
    return influence.logit_lens(tiny.model, p).values[-1], slow.metric_of_run(tiny.model, p)


def metric_and_tokens(name: str) -> Callable[[Tiny, PromptSet], Sides]:
    """Law 6 by token."""

    def of(tiny: Tiny, p: PromptSet) -> Sides:
        found: TokenInfluence = influence.METHODS[name](tiny.model, p)
        no_gap(found, tiny)
        return found.values.sum((1, 2)), slow.metric_of_run(tiny.model, p)

    return of


def metric_tokens_and_biases(tiny: Tiny, p: PromptSet) -> Sides:
    found = influence.alti_logit(tiny.model, p)
    no_gap(found, tiny)
    return found.values.sum((1, 2)) + torch.tensor(found.options["biases"]), slow.metric_of_run(tiny.model, p)


def change_along_the_path(tiny: Tiny, p: PromptSet) -> Sides:
    """m(x) - m(x'): the midpoint rule with 64 points, so that only a few percent may be missing."""
    found = influence.integrated_gradients(tiny.model, p, baseline="resample", steps=64)
    change = slow.metric_of_run(tiny.model, p) - slow.metric_of_run(tiny.model, p, tokens=p.corrupted)
    assert (found.values.sum((1, 2)) - change).abs().max() < 0.05 * max(1, float(change.abs().max()))
    assert found.gap is not None
    return found.values.sum((1, 2)) + found.gap[:, 0], change


def shares(name: str) -> Callable[[Tiny, PromptSet], Sides]:
    """Laws 5, 49, 50 and 53: rows sum to one, of every layer too; nothing comes from later tokens or is below zero."""

    def of(tiny: Tiny, p: PromptSet) -> Sides:
        found: TokenInfluence = influence.METHODS[name](tiny.model, p)
        at = torch.arange(found.values.shape[1]).expand(len(p), -1) if found.targets is None else found.targets
        later = torch.arange(found.values.shape[2]) > at[..., None]
        steps = [found.values, *([] if found.per_layer is None else found.per_layer)]
        assert found.rows_sum_to_one and all(float(step[later].abs().sum()) == 0 for step in steps)
        assert min(float(step.min()) for step in steps) >= 0
        sums = torch.stack([step.sum(-1) for step in steps])
        return sums, torch.ones_like(sums)

    return of


LAWS: dict[tuple[str, str], Callable[[str], Callable[[Tiny, PromptSet], Sides]]] = {
    ("nodes", "the metric"): lambda name: metric_and_nodes,
    ("nodes", "its MLP's direct effect"): lambda name: mlps_and_neurons,
    ("sources", "its head's direct effect"): lambda name: heads_and_sources,
    ("stages", "the metric at the last stage"): lambda name: metric_and_last_stage,
    ("tokens", "the metric"): metric_and_tokens,
    ("tokens", "the metric less the biases"): lambda name: metric_tokens_and_biases,
    ("tokens", "the metric's change from the baseline"): lambda name: change_along_the_path,
    ("tokens", "one"): shares,
}
NOTHING = "nothing: "
NOT_COMPLETE = [name for name, row in influence.METHODS.items() if row.sums_to.startswith(NOTHING)]
COMPLETE = {
    name: LAWS[row.gives, row.sums_to](name) for name, row in influence.METHODS.items() if name not in NOT_COMPLETE
}


def test_what_sums_to_nothing_says_why() -> None:
    assert all(len(influence.METHODS[name].sums_to) > len(NOTHING) + 10 for name in NOT_COMPLETE)


@over(among=[*ALL, *WIDE])
def test_scores_sum_to_what_they_explain(tiny: Tiny) -> None:
    """Two lengths of prompts, each method by its own law; what it calls its `gap` is nothing (but along a path)."""
    p = prompts(padded=True)
    for name, sides in COMPLETE.items():
        if name == "neuron_attribution" and not has_mlp(tiny):
            with pytest.raises(UnsupportedError, match="attention-only"):
                sides(tiny, p)
            continue
        got, expected = sides(tiny, p)
        assert torch.allclose(got.double(), expected.double(), atol=100 * tiny.atol, rtol=100 * tiny.atol), name


@pytest.mark.parametrize("name", sorted(NOT_COMPLETE))
def test_what_is_not_complete_misses_something(name: str) -> None:
    """Else the reason above is none any more."""
    tiny, p = Tiny(ALL[0].family, "bridge", False), prompts()
    found: TokenInfluence = influence.METHODS[name](tiny.model, p)
    rows = found.values.sum(-1)
    whole = [torch.ones_like(rows), slow.metric_of_run(tiny.model, p)[:, None]]
    whole += [] if found.total is None else [found.total]
    assert not found.rows_sum_to_one and all(float((rows - one).abs().max()) > 1e-2 for one in whole)


NEEDS_WRITES_THAT_ADD_UP = {name for name, row in influence.METHODS.items() if "additive" in row.needs}


@over(among=POST_NORM)
@methods
def test_norms_after_the_blocks_are_refused_or_change_nothing(tiny: Tiny, name: str) -> None:
    """What splits the stream refuses them; what reads patterns, stages, slopes and changes has no need to."""
    p = prompts(padded=True)
    if name in NEEDS_WRITES_THAT_ADD_UP:
        with pytest.raises(UnsupportedError):
            influence.METHODS[name](tiny.model, p)
    else:
        assert influence.METHODS[name](tiny.model, p).values.isfinite().all()
        if name in COMPLETE:
            close(*COMPLETE[name](tiny, p), 1e-4)


# --- known models --------------------------------------------------------------------------------------------------


def redundant() -> Design:
    """The OR gate with both heads at position 1: "a . =" -> a, said twice, out = min(1, a + a). Either head suffices,
    and the neuron that counts the lack of them is dead."""
    design, at = DESIGNS["or-gate"](), "blocks.0.attn.W_K"
    keys = design.weights[at].clone()
    keys[1] = keys[0]
    return replace(design, name="redundant", weights=design.weights | {at: keys})


PAIRS = {"redundant": ("1 0 =", "0 0 =", "1", "0")} | {
    name: (truth.clean, truth.corrupted, truth.correct, truth.wrong)
    for name, truth in ((name, known_circuit(name)) for name in DESIGNS)
}


@functools.cache
def known(name: str, backend: str) -> tuple[Any, PromptSet]:
    if name in DESIGNS:
        model = models.load(name, dtype="float64", device="cpu", backend=backend)
    else:
        design, make = redundant(), hooked_from_weights if backend == "hooked" else bridge_from_weights
        model = make(design.name, design.shape, design.weights, word_tokenizer(design.vocabulary), torch.float64)
        model = model.eval().requires_grad_(False)
    return model, from_pairs(model, [PAIRS[name]])


OPTIONS: dict[str, dict[str, Any]] = {
    "integrated_gradients": {"baseline": "resample"}, "occlusion": {"ablation": "resample"},
}  # fmt: skip


def said(method: str, name: str, backend: str) -> list[float] | dict[str, Any]:
    """A method's numbers at the last token: by source token, or by node or stage without those that are 0."""
    model, p = known(name, backend)
    match influence.METHODS[method](model, p, **OPTIONS.get(method, {})):
        case TokenInfluence(values=values):
            return values[0, -1].tolist()
        case LensScores(stages=names, values=values):
            return dict(zip(names, values[:, 0].tolist(), strict=True))
        case SourceScores(nodes=nodes, values=values):
            return {node.label: row for node, row in zip(nodes, values[:, 0].tolist(), strict=True) if any(row)}
        case NodeScores(nodes=nodes, values=values):
            of_nodes = zip(nodes, values[:, 0].tolist(), strict=True)
            return {node.label: value for node, value in of_nodes if abs(value) > 1e-9}


# What is true of the metric. tokens: its loss without a token (that of the corrupted prompt in its place)
INDUCTION = [0, 0, 0, 8 / 3, 6, 0, 0, 0, 8 / 3]  # 3 becomes -3; without a match w4 is one of nine, 3 / 9 is left
THIRDS = [0, 0, 0, 1 / 6, 1 / 3, 0, 0, 1 / 6, 1 / 3]

# "<bos> w1 w2 w3 w4 w5 w1 w2 w3" -> w4 rather than w9: the induction head takes w4 from position 4, where the
# previous-token head wrote w3 from 3; at the end (8) it wrote w2 from 7, which nobody reads
ON_INDUCTION = {
    "direct_logit_attribution": {"1.0": 3},
    "source_token_attribution": {"1.0": [0, 0, 0, 0, 3, 0, 0, 0, 0]},
    "neuron_attribution": UnsupportedError,
    "logit_lens": {"0_pre": 0, "1_pre": 0, "final": 3},
    "token_attribution": [0, 0, 0, 0, 3, 0, 0, 0, 0],
    "decompx": [0, 0, 0, 0, 3, 0, 0, 0, 0],
    # the value is linear; what finds it is saturated, so that w3 at 3 and 8 has no slope: half the truth
    "input_x_gradient": [0, 0, 0, 0, 3, 0, 0, 0, 0],
    "integrated_gradients": [0, 0, 0, 0, 6, 0, 0, 0, 0],
    "occlusion": INDUCTION,
    # at position 4 a third of the stream is what the previous-token head wrote (token, position, previous token)
    "alti_logit": [0, 0, 0, 1, 2, 0, 0, 0, 0],
    # layer 1 brings 3 (w4) to a stream of 3: half; of what stood there, and at the end, a third is the earlier token's
    "alti": THIRDS,
    "flow_routes": THIRDS,
    "rollout": [0, 0, 0, 0.25, 0.25, 0, 0, 0.25, 0.25],
    "gradient_rollout": [0, 0, 0, 0, 3, 0, 0, 0, 1],  # what finds w4 is saturated, the end keeps its 1
    "attention_flow": [0, 0, 0, 0.5, 0.5, 0, 0, 0.5, 0.5],
    # means over layers: 1 of w2 arrives, then 3 of w4, beside the end's own 2 and 3 ones
    "raw_attention": [0, 0, 0, 0, 0.5, 0, 0, 0.5, 0],
    "value_weighted_norms": [0, 0, 0, 0, 1.5, 0, 0, 0.5, (2**0.5 + 3**0.5) / 2],
}  # fmt: skip

# "<bos> a b =" -> out - 1/2: heads bring a and b, one unit each, to the two units of "=" at position 3; the MLP writes
# out = 1. Whatever follows the forward pass alone says the same of both gates, where one of the two is enough and where
# both are needed.
FORWARD = {
    "source_token_attribution": {},  # the logits read neither a nor b
    "direct_logit_attribution": {"MLP 0": 1, "input": -0.5},
    "logit_lens": {"0_pre": -0.5, "0_mid": -0.5, "final": 0.5},
    "token_attribution": [0, 0, 0, 0.5],
    "raw_attention": [0, 0.5, 0.5, 0],
    "rollout": [0, 0.25, 0.25, 0.5],
    "attention_flow": [0, 0.25, 0.25, 0.5],
    "value_weighted_norms": [0, 1, 1, 2**0.5],
    "alti": [0, 0.25, 0.25, 0.5],
    "flow_routes": [0, 0.25, 0.25, 0.5],
    "alti_logit": [0, 0.25, 0.25, 0],  # the MLP's 1 by ALTI, less the 1/2 that "=" adds itself
}  # fmt: skip
ON_OR = FORWARD | {
    "neuron_attribution": {"b_out 0": 1},  # dead
    "decompx": [0, 0, 0, 0.5],  # and lets nothing through: b_out stays where it is added
    "input_x_gradient": [0, 0, 0, -0.5],  # no slope behind a dead neuron
    "gradient_rollout": [0, 0, 0, 1],  # so nothing but the identity
    "integrated_gradients": [0, 0.5, 0.5, 0],  # out = min(1, 2t): the slope is there for half of the way
    "occlusion": [0, 0, 0, 0],  # the other one is enough
}
ON_AND = FORWARD | {
    "neuron_attribution": {"m0.n0": 1},
    "decompx": [0, 1, 1, -1.5],  # relu(a + b - 1) is linear here, its -1 stands at "="
    "input_x_gradient": [0, 1, 1, -0.5],  # each has the whole effect: together twice of what there is
    "gradient_rollout": [0, 0.5, 0.5, 1],  # a slope of 1 by each of two heads
    "integrated_gradients": [0, 0.5, 0.5, 0],  # out = max(0, 2t - 1)
    "occlusion": [0, 1, 1, 0],  # either one breaks it
}
# both heads look at position 1
ON_REDUNDANT = FORWARD | {
    "raw_attention": [0, 1, 0, 0],
    "rollout": [0, 0.5, 0, 0.5],
    "attention_flow": [0, 0.5, 0, 0.5],
    "value_weighted_norms": [0, 2**0.5, 0, 2**0.5],
    "alti": [0, 0.5, 0, 0.5],
    "flow_routes": [0, 0.5, 0, 0.5],
    "alti_logit": [0, 0.5, 0, 0],
    "neuron_attribution": {"b_out 0": 1},
    "decompx": [0, 0, 0, 0.5],
    "input_x_gradient": [0, 0, 0, -0.5],  # everything hangs on this token, and its slope is 0
    "gradient_rollout": [0, 0, 0, 1],
    "integrated_gradients": [0, 1, 0, 0],
    "occlusion": [0, 1, 0, 0],  # without the token both heads lose it
}
KNOWN = {"induction": ON_INDUCTION, "or-gate": ON_OR, "and-gate": ON_AND, "redundant": ON_REDUNDANT}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", list(KNOWN))
@pytest.mark.parametrize("method", list(influence.METHODS))
def test_every_number_on_models_that_are_known(method: str, name: str, backend: str) -> None:
    """By hand, every method on every model: what it finds, and how it fails."""
    expected = KNOWN[name][method]
    if expected is UnsupportedError:
        with pytest.raises(UnsupportedError):
            said(method, name, backend)
        return
    found = said(method, name, backend)
    if isinstance(found, dict):
        assert found.keys() == expected.keys()
        assert all(found[key] == pytest.approx(expected[key], abs=1e-8) for key in found)
    else:
        assert found == pytest.approx(expected, abs=1e-8)


CANNOT_TELL = {
    "raw_attention": "it sees who looks at whom: the end looks at w2 (7) as much as at w4 (4), in another layer",
    "rollout": "half of layer 1 comes from 4, and of what stays half from 7, whatever is written there",
    "attention_flow": "half a unit can come from each of four tokens",
}
OF_NODES = {"direct_logit_attribution": "1.0", "logit_lens": "final"}  # the induction head, the stage behind it


@pytest.mark.parametrize("name", [name for name in influence.METHODS if name != "neuron_attribution"])
def test_the_token_that_truth_names(name: str) -> None:
    """w4, which is copied, has more than any other token, but for the one that predicts (8): methods of sizes count its
    own stream."""
    found = said(name, "induction", BACKENDS[0])
    if name in OF_NODES:
        assert isinstance(found, dict) and max(found, key=lambda key: found[key]) == OF_NODES[name]
        return
    if isinstance(found, dict):  # by head: only one says anything
        (found,) = found.values()
    others = max(value for position, value in enumerate(found) if position not in (4, 8))
    if name in CANNOT_TELL:
        assert found[4] == pytest.approx(others) == pytest.approx(found[7])
    else:
        assert found[4] > 1.4 * others


# --- two that do the same ------------------------------------------------------------------------------------------

HEADS: list[Node] = [Head(0, 0), Head(0, 1)]
GAPS = {"or-gate": 1, "redundant": 1, "and-gate": -1, "induction": 0}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["or-gate", "redundant"])
def test_of_two_heads_that_do_the_same_none_is_seen_alone(name: str, backend: str) -> None:
    """The truth: one of them may go (0), both may not (-1). One at a time, exactly or by slopes, finds neither; two
    ends and the path between them find the halves; ablating both finds it."""
    model, p = known(name, backend)
    alone = interventions.ablate(model, p, HEADS, ablation="resample").mean().tolist()
    together = interventions.ablate(model, p, HEADS, ablation="resample", together=True).mean().tolist()
    assert (alone, together) == ([0, 0], [-1])
    says = {"exact": 0, "eap": 0, "atp_star": 0, "hisp": 0, "clean_corrupted": -0.5, "eap_ig": -0.5}
    for method, share in says.items():
        if method == "atp_star" and backend == "bridge":
            continue
        scores = circuits.METHODS[method](model, p, **({"steps": 16} if method == "eap_ig" else {}))
        found = [scores.of(parse_edge(f"{head}->m0")).item() for head in HEADS]
        assert found == pytest.approx([share, share], abs=1e-9), method
    direct = influence.direct_logit_attribution(model, p)
    assert [direct.of(head).item() for head in HEADS] == [0, 0]  # neither writes for the logits to read


@pytest.mark.parametrize("backend", BACKENDS)
def test_of_two_tokens_that_say_the_same_none_is_seen_alone(backend: str) -> None:
    """ "1 1 =": either may be 0, both may not. Taken away as one they are found, by what they sum to along the path and
    by a curve of deletion, which falls at its end only."""
    model, p = known("or-gate", backend)
    places = ["resid_pre.0@1", "resid_pre.0@2", ["resid_pre.0@1", "resid_pre.0@2"]]
    assert interventions.patch(model, p, places, direction="noising").change[:, 0].tolist() == [0, 0, -1]
    tokens = influence.integrated_gradients(model, p, baseline="resample")
    pair = Spans.of_positions(p, {"both": [1, 2]})
    assert tokens.by_span(pair).values[0, 0].tolist() == pytest.approx([0, 1])  # the rest, both
    check = validate(model, p, tokens, ablation="resample", draws=1)
    assert check.loss[0, [1, 2]].tolist() == [0, 0] and check.curve("deletion")[0][0].tolist()[::-1][:2] == [0, 1]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", list(GAPS))
def test_a_gap_says_that_a_slope_failed_and_a_path_did_not(name: str, backend: str) -> None:
    """What input x gradient misses of m(x) - m(0): everything behind a dead neuron, nothing where all is linear, and as
    much too much where both are needed."""
    model, p = known(name, backend)
    slope = influence.input_x_gradient(model, p).gap
    path = influence.integrated_gradients(model, p, baseline="resample").gap
    assert slope is not None and slope.item() == pytest.approx(GAPS[name], abs=1e-8)
    assert path is not None and path.item() == pytest.approx(0, abs=1e-8)
