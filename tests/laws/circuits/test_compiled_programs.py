"""Programs that Tracr compiled, whose every edge is known: what `exact` and `acdc` must find, edge for edge, and where
the gradient methods stop.

The effect of an edge depends on what it carries once it is removed, and so does the circuit: under zero ablation the
whole program, with resampled tokens what tells one input from another, with resampled tokens and positions both. The
metric is the squared error on the output's dimensions, at every position after BOS of every input.
"""

from __future__ import annotations

import functools

import pytest
import torch
from tiny import HOOKED_EXISTS
from tracr import NAMES, every_input, other_positions, outputs, program, squared_error

from llmtrace import circuits, models
from llmtrace.circuits import Circuit, EdgeScores, Graph
from llmtrace.circuits.running.background import Background
from llmtrace.errors import InputError
from llmtrace.metrics import Metric

pytestmark = pytest.mark.skipif(not HOOKED_EXISTS, reason="transformer-lens 4 has no HookedTransformer")

TAU = 1e-6
# What Tracr's own run in float32 leaves of a number; categories are compared as such.
FLOAT32 = 1e-6

REVERSED_TOKENS = ("embed->a3.h0<v>", "a3.h0->logits")
WHERE_FROM = ("pos->m1", "m1->m2", "m2->a3.h0<q>", "pos->a3.h0<k>")
LENGTH = ("embed->a0.h0<v>", "embed->m0", "a0.h0->m0", "embed->m1", "m0->m1")
FRACTION = ("embed->m0", "m0->a1.h0<v>", "a1.h0->logits")
PREVIOUS = ("pos->a1.h0<q>", "pos->a1.h0<k>")

# All inputs are of one length, so only zero ablation sees how `reverse` measures it (LENGTH).
TRUTH = {
    ("reverse", "zero"): {*LENGTH, *WHERE_FROM, *REVERSED_TOKENS},
    ("reverse", "tokens"): {*REVERSED_TOKENS},
    ("reverse", "tokens and positions"): {*WHERE_FROM, *REVERSED_TOKENS},
    ("xproportion", "zero"): {*FRACTION, *PREVIOUS},
    ("xproportion", "tokens"): {*FRACTION},
    ("xproportion", "tokens and positions"): {*FRACTION, *PREVIOUS},
}
cases = pytest.mark.parametrize(("name", "removed"), list(TRUTH), ids=[f"{n}-{r}" for n, r in TRUTH])
programs = pytest.mark.parametrize("name", NAMES)


def graph_of(name: str) -> Graph:
    """Token and position embeddings are two writers: programs read one or the other."""
    return Graph.of(program(name).model, split_embed=True)


@functools.cache
def metric_of(name: str) -> Metric:
    return squared_error(program(name), every_input(name))


@functools.cache
def ground(name: str, removed: str) -> Background:
    """What removed edges carry: nothing, another input, or another input whose positions are exchanged as well."""
    p = every_input(name)
    hooks = [other_positions(*p.clean.shape)] if removed == "tokens and positions" else []
    ablation = "zero" if removed == "zero" else "resample"
    return circuits.background(program(name).model, p, ablation, graph=graph_of(name), hooks=hooks)


@functools.cache
def exact(name: str, removed: str) -> EdgeScores:
    """One run for each edge is what takes time here."""
    return circuits.exact(
        program(name).model, every_input(name), metric=metric_of(name), graph=graph_of(name),
        ablation=ground(name, removed),
    )  # fmt: skip


def above(scores: EdgeScores, least: float = TAU) -> set[str]:
    return {str(edge) for edge in scores.graph.edges(scores.values.abs() > least)}


# --- the programs ------------------------------------------------------------------------------------------------


def test_there_is_a_truth_for_every_program() -> None:
    assert {name for name, _ in TRUTH} == set(NAMES)


@programs
def test_the_model_computes_what_its_compiler_says(name: str) -> None:
    """Tracr's own inputs and outputs, after BOS."""
    p = program(name)
    for words, answers in p.tests:
        found = p.decode(outputs(p, torch.tensor([p.encode(words)]))[0])
        for value, answer in zip(found[1:], answers[1:], strict=True):
            assert float(value) == pytest.approx(float(answer), abs=FLOAT32), words


def test_reverse_reverses_and_xproportion_counts() -> None:
    """Every input, against the two programs in Python."""
    p, tokens = program("reverse"), every_input("reverse").clean
    words = {value: key for key, value in p.spec["enc"].items()}
    for row, found in zip(tokens.tolist(), outputs(p, tokens), strict=True):
        assert p.decode(found)[1:] == [words[token] for token in row[:0:-1]]
    p, tokens = program("xproportion"), every_input("xproportion").clean
    is_x = (tokens[:, 1:] == p.spec["enc"]["x"]).double()
    share = is_x.cumsum(1) / torch.arange(1, tokens.shape[1])
    torch.testing.assert_close(outputs(p, tokens)[:, 1:, 0], share, atol=FLOAT32, rtol=0)


@programs
def test_attention_sees_later_tokens_and_the_graph_has_two_inputs(name: str) -> None:
    arch = models.describe(program(name).model)
    assert arch.causal == program(name).spec["causal"]
    assert [str(node) for node in graph_of(name).nodes[:2]] == ["embed", "pos"]
    clean = metric_of(name)(models.logits(program(name).model, every_input(name).clean))
    assert clean.abs().max() == 0


# --- the edges ---------------------------------------------------------------------------------------------------


@cases
def test_exact_patching_finds_every_edge_and_no_other(name: str, removed: str) -> None:
    """And the gap is wide: what counts is above .01, what does not is rounding."""
    scores = exact(name, removed)
    assert above(scores) == above(scores, 1e-2) == above(scores, 1e-9) == TRUTH[name, removed]


@cases
def test_acdc_keeps_every_edge_and_no_other(name: str, removed: str) -> None:
    """The programs have no second way to do a thing, so one edge at a time and one after the other agree."""
    scores = circuits.acdc(
        program(name).model, every_input(name), tau=TAU, metric=metric_of(name), graph=graph_of(name),
        ablation=ground(name, removed),
    )  # fmt: skip
    assert above(scores) == TRUTH[name, removed]


@cases
def test_the_circuit_alone_is_the_program(name: str, removed: str) -> None:
    """No error with its edges; without any one of them as much as that edge has in the whole model, or more."""
    model, graph, edges = program(name).model, graph_of(name), sorted(TRUTH[name, removed])
    subsets = [edges, *([other for other in edges if other != edge] for edge in edges)]
    errors = circuits.run_circuits(
        model, every_input(name), [Circuit.of(graph, subset) for subset in subsets], metric=metric_of(name),
        ablation=ground(name, removed),
    ).mean(1)  # fmt: skip
    assert errors[0] < TAU
    assert (errors[1:] > 1e-2).all()


@programs
@pytest.mark.parametrize("removed", ["zero", "tokens"])
def test_acdc_finds_the_same_when_only_the_end_is_read(name: str, removed: str) -> None:
    """Then it runs the last position alone where nothing else is looked at: not the keys and values."""
    p, graph = every_input(name), graph_of(name)
    at_end = p.positions["READ"] == p.positions["END"]
    ablation = "zero" if removed == "zero" else "resample"
    some, metric = p[at_end], metric_of(name)[at_end]
    scores = circuits.acdc(program(name).model, some, tau=TAU, metric=metric, graph=graph, ablation=ablation)
    assert above(scores) == TRUTH[name, removed]


@programs
def test_discover_counts_the_edges_of_the_graph_it_is_given(name: str) -> None:
    """With two inputs there are more of them than `Graph.of(model)` has."""
    graph, some, metric = graph_of(name), every_input(name)[:40], metric_of(name)[:40]
    assert graph.n_edges > Graph.of(program(name).model).n_edges
    found = circuits.discover(
        program(name).model, some, n_edges=graph.n_edges, method="eap_ig", metric=metric, graph=graph
    )
    assert found.n_edges == graph.n_edges


# --- gradient methods --------------------------------------------------------------------------------------------

# Of the edges, ranked by |score|: the probability that one of the circuit stands above one outside it. Gradient methods
# corrupt tokens alone, and rank the circuit of resampled tokens without a mistake. An edge of the other circuits that
# is not in that one carries the same in both runs and has score 0: tied with all that is in none, so
#     AUC = share found + (1 - share found) / 2        up to rounding, which breaks some ties
AUC = {
    ("reverse", "zero"): 0.59,  # 2 of 11
    ("reverse", "tokens"): 1.0,
    ("reverse", "tokens and positions"): 0.67,  # 2 of 6
    ("xproportion", "zero"): 0.80,  # 3 of 5
    ("xproportion", "tokens"): 1.0,
    ("xproportion", "tokens and positions"): 0.80,  # 3 of 5
}
GRADIENT_METHODS = {
    "eap, denoising": lambda *given, **options: circuits.eap(*given, direction="denoising", **options),
    "eap_ig": circuits.eap_ig,
    "clean_corrupted": circuits.clean_corrupted,
    "eap_ig_activations": circuits.eap_ig_activations,
}


@functools.cache
def by_gradient(method: str, name: str) -> EdgeScores:
    given = program(name).model, every_input(name)
    return GRADIENT_METHODS[method](*given, metric=metric_of(name), graph=graph_of(name))


def effects(scores: EdgeScores, name: str) -> dict[str, float]:
    """Scores of the edges of the circuit of resampled tokens, as parts of their effects."""
    truth, graph = exact(name, "tokens").values, scores.graph
    ratio = scores.values / truth
    return {str(edge): ratio[graph.index(edge)].item() for edge in graph.edges() if str(edge) in TRUTH[name, "tokens"]}


@cases
@pytest.mark.parametrize("method", GRADIENT_METHODS)
def test_how_well_gradient_methods_rank_the_edges(method: str, name: str, removed: str) -> None:
    scores = by_gradient(method, name)
    real = scores.graph.real
    known = Circuit.of(scores.graph, sorted(TRUTH[name, removed])).mask
    auc = circuits.roc_auc(scores.values.abs()[real], known[real])
    assert auc == pytest.approx(AUC[name, removed], abs=0.02)
    assert above(scores) == TRUTH[name, "tokens"]


@programs
def test_gradient_methods_are_blind_to_how_a_program_looks(name: str) -> None:
    """Where it attends to is a matter of positions, the same for every input: no corruption of tokens shows it, though
    without any of these edges the output is wrong."""
    blind = TRUTH[name, "tokens and positions"] - TRUTH[name, "tokens"]
    assert {edge.split("<")[-1] for edge in blind} >= {"q>", "k>"}
    whole = exact(name, "tokens and positions")
    for edge in whole.graph.edges():
        if str(edge) in blind:
            assert whole.of(edge).mean() > 1e-2
            assert all(by_gradient(method, name).of(edge).abs().max() < 1e-9 for method in GRADIENT_METHODS)


@programs
def test_eap_has_nothing_to_go_by_at_the_clean_run(name: str) -> None:
    """The squared error has its minimum there, and no slope (law 34)."""
    with pytest.raises(InputError, match="the gradient of squared error is zero at the clean run"):
        circuits.eap(program(name).model, every_input(name), metric=metric_of(name), graph=graph_of(name))


@programs
@pytest.mark.parametrize("method", ["eap_ig", "eap_ig_activations"])
def test_integrated_gradients_give_the_very_effects(method: str, name: str) -> None:
    """A quadratic, of writes that move in a straight line: midpoints are exact."""
    assert effects(by_gradient(method, name), name) == pytest.approx(dict.fromkeys(TRUTH[name, "tokens"], 1), abs=0.05)


@programs
def test_denoising_doubles_a_squared_error(name: str) -> None:
    """At the corrupted run its slope is twice its rise: d^2 falls by 2 d of it. But `m0` reads 1 where the token is an
    x and else 0, the very kink of its ReLU, where PyTorch's slope is 0: an x that the corrupted run lost is not seen,
    and that is half of what differs."""
    expected = {edge: 1.0 if edge == "embed->m0" else 2.0 for edge in TRUTH[name, "tokens"]}
    found = {edge: -ratio for edge, ratio in effects(by_gradient("eap, denoising", name), name).items()}
    assert found == pytest.approx(expected, abs=0.1)


@programs
def test_two_ends_halve_what_is_dead_at_one_of_them(name: str) -> None:
    """The mean of both ends is exact for a quadratic. At the clean end it has no slope, and where the corrupted end
    stands at the kink (above) there is none at all."""
    expected = {edge: 0.5 if edge == "embed->m0" else 1.0 for edge in TRUTH[name, "tokens"]}
    assert effects(by_gradient("clean_corrupted", name), name) == pytest.approx(expected, abs=0.05)


def test_one_group_that_does_not_matter_does_not_stop_eap_ig_activations() -> None:
    """Layer 0's head of `reverse` writes the same for all inputs, so its path stands still at the clean run, where the
    error is flat: a score of 0 there, and no refusal."""
    scores = by_gradient("eap_ig_activations", "reverse")
    assert scores.values[scores.graph.head_rows(0)].abs().max() < 1e-9
