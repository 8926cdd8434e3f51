"""Circuits known edge by edge: what each method must find in the hand-built models, and where it must fail."""

from __future__ import annotations

import functools
from itertools import combinations
from typing import Any

import pytest
import torch
from tiny import HOOKED_EXISTS
from torch import Tensor

import llmtrace as lt
from llmtrace import circuits, models, prompts, signals
from llmtrace.circuits import Circuit, EdgeScores, Graph
from llmtrace.models.hand_built.designs import CIRCUITS, GATE_EDGES, KnownCircuit, known_circuit
from llmtrace.nodes import Head, parse_edge
from llmtrace.prompts import PromptSet

BACKENDS = ("hooked", "bridge") if HOOKED_EXISTS else ("bridge",)
ATOL = 1e-9  # the slope of a saturated attention is about exp(-60)
names = pytest.mark.parametrize("name", list(CIRCUITS))
backends = pytest.mark.parametrize("backend", BACKENDS)


@functools.cache
def loaded(name: str, backend: str) -> Any:
    return lt.load(name, dtype="float64", device="cpu", backend=backend)


def case(name: str, backend: str) -> tuple[Any, KnownCircuit, PromptSet]:
    truth = known_circuit(name)
    model = loaded(name, backend)
    return model, truth, prompts.from_pairs(model, [(truth.clean, truth.corrupted, truth.correct, truth.wrong)])


def gate(name: str, backend: str, clean: str, corrupted: str) -> tuple[Any, PromptSet]:
    model = loaded(name, backend)
    return model, prompts.from_pairs(model, [(clean, corrupted, "1", "0")])


@functools.cache
def exact(name: str, backend: str) -> EdgeScores:
    """Of the stated pair of prompts, once: one run per edge is what takes time here."""
    model, _, p = case(name, backend)
    return circuits.exact(model, p)


def by_edge(scores: EdgeScores) -> dict[str, float]:
    return {str(edge): scores.of(edge).item() for edge in scores.graph.edges()}


def effects_only(scores: EdgeScores) -> dict[str, float]:
    return {edge: value for edge, value in by_edge(scores).items() if abs(value) > ATOL}


def faithfulness(model: Any, edges: Any, p: PromptSet) -> float:
    return circuits.evaluate(model, p, Circuit.of(Graph.of(model), edges), draws=0).faithfulness


def edges_of(circuit: Circuit) -> set[str]:
    return {str(edge) for edge in circuit.edges}


@names
@backends
def test_clean_and_corrupted_metric_are_as_stated(name: str, backend: str) -> None:
    model, truth, p = case(name, backend)
    metric = p.metric("logit_diff")
    assert metric(models.logits(model, p.clean)).item() == pytest.approx(truth.clean_metric, abs=ATOL)
    assert metric(models.logits(model, p.corrupted)).item() == pytest.approx(truth.corrupted_metric, abs=ATOL)


@names
@backends
def test_exact_patching_finds_each_edges_effect_and_no_other(name: str, backend: str) -> None:
    truth = known_circuit(name)
    for edge, effect in by_edge(exact(name, backend)).items():
        assert effect == pytest.approx(truth.alone.get(edge, 0.0), abs=ATOL), edge


@names
@backends
def test_eap_is_the_documented_first_order_estimate(name: str, backend: str) -> None:
    """0 where the neuron is dead (OR) or attention saturated (induction's queries and keys), whatever the truth."""
    model, truth, p = case(name, backend)
    for edge, score in by_edge(circuits.eap(model, p)).items():
        assert score == pytest.approx(truth.eap.get(edge, 0.0), abs=ATOL), edge


@names
@backends
def test_the_known_circuit_alone_is_the_model(name: str, backend: str) -> None:
    """Faithfulness 1 with its edges, 0 with all the others."""
    model, truth, p = case(name, backend)
    assert faithfulness(model, truth.edges, p) == pytest.approx(1, abs=ATOL)
    others = Circuit.full(Graph.of(model)) - Circuit.of(Graph.of(model), truth.edges)
    assert others.n_edges > 0
    assert faithfulness(model, others.edges, p) == pytest.approx(0, abs=ATOL)


@names
@backends
def test_without_one_edge_the_circuit_loses_what_that_edge_does_alone(name: str, backend: str) -> None:
    """All others carry nothing, so the loss is that inside the whole model: none for one half of an OR."""
    model, truth, p = case(name, backend)
    whole = truth.clean_metric - truth.corrupted_metric
    for edge in truth.edges:
        rest = [other for other in truth.edges if other != edge]
        expected = 1 + truth.alone.get(edge, 0.0) / whole
        assert faithfulness(model, rest, p) == pytest.approx(expected, abs=ATOL), edge


def suffices(name: str, kept: set[str]) -> bool:
    """Whether these edges of a known circuit are enough, by what the design says."""
    if name == "and-gate":
        return kept == set(GATE_EDGES)
    if name == "or-gate":
        halves = [{f"input->a0.h{head}<v>", f"a0.h{head}->m0"} <= kept for head in (0, 1)]
        return "m0->logits" in kept and any(halves)
    # Both prompts repeat at the same places: a corrupted query finds the same position among corrupted keys.
    values = {"input->a1.h0<v>", "a1.h0->logits"} <= kept
    keys_are_clean = {"input->a0.h0<v>", "a0.h0->a1.h0<k>"} <= kept
    return values and keys_are_clean == ("input->a1.h0<q>" in kept)


@names
@backends
def test_which_subsets_suffice(name: str, backend: str) -> None:
    """All 32 subsets of the five edges. An OR needs one half; a match needs query and key of the same run."""
    model, truth, p = case(name, backend)
    assert len(truth.edges) == 5
    graph, ground = Graph.of(model), circuits.background(model, p)
    for size in range(6):
        for kept in combinations(truth.edges, size):
            alone = circuits.run_circuit(model, p, Circuit.of(graph, kept), ablation=ground)
            enough = alone.item() > truth.clean_metric - ATOL
            assert enough == suffices(name, set(kept)), kept


@names
@backends
def test_discovery_finds_every_edge_with_an_effect_and_no_other(name: str, backend: str) -> None:
    model, truth, p = case(name, backend)
    size = len(truth.alone)
    assert edges_of(circuits.discover(model, p, n_edges=size, method="exact")) == set(truth.alone)
    for selection in ("greedy", "top"):
        assert edges_of(circuits.select(exact(name, backend), size, selection=selection)) == set(truth.alone)
    if name != "or-gate":  # of the OR gate one edge at a time sees the output alone
        assert set(truth.alone) == set(truth.edges)


@backends
def test_one_edge_at_a_time_is_blind_to_a_saturated_or(backend: str) -> None:
    """Either half may go, both may not: the documented failure of exact patching and of EAP's dead neuron alike."""
    model, truth, p = case("or-gate", backend)
    for scores in (exact("or-gate", backend), circuits.eap(model, p)):
        assert effects_only(scores) == pytest.approx({"m0->logits": -1.0}, abs=ATOL)
    heads = {head: {f"input->a0.h{head}<v>", f"a0.h{head}->m0"} for head in (0, 1)}
    for head in heads:
        assert faithfulness(model, set(truth.edges) - heads[head], p) == pytest.approx(1, abs=ATOL)
    assert faithfulness(model, set(truth.edges) - heads[0] - heads[1], p) == pytest.approx(0, abs=ATOL)
    effects = lt.ablate(model, p, [Head(0, 0), Head(0, 1)], ablation="resample")
    assert effects.mean().tolist() == [0, 0]
    assert lt.ablate(model, p, [Head(0, 0), Head(0, 1)], ablation="resample", together=True).mean().tolist() == [-1]


@backends
@pytest.mark.parametrize("head, clean", [(0, "1 0 ="), (1, "0 1 =")])
def test_an_or_with_one_input_on_shows_its_path(backend: str, head: int, clean: str) -> None:
    """With one half on, its three edges carry everything and are found."""
    model, p = gate("or-gate", backend, clean, "0 0 =")
    path = {f"input->a0.h{head}<v>", f"a0.h{head}->m0", "m0->logits"}
    scores = circuits.exact(model, p)
    assert effects_only(scores) == pytest.approx(dict.fromkeys(path, -1.0), abs=ATOL)
    for selection in ("greedy", "top"):
        assert edges_of(circuits.select(scores, 3, selection=selection)) == path
    assert faithfulness(model, path, p) == pytest.approx(1, abs=ATOL)


@backends
@pytest.mark.parametrize("method", ["exact", "eap"])
def test_an_or_seen_from_off_shows_all_its_edges(backend: str, method: str) -> None:
    """At "0 0 =" the neuron is alive, and the same two prompts exchanged give the whole circuit: scores are no
    property of a pair of prompts, but of a clean run (36 is not a law)."""
    model, p = gate("or-gate", backend, "0 0 =", "1 1 =")
    scores = circuits.METHODS[method](model, p)
    assert effects_only(scores) == pytest.approx(dict.fromkeys(GATE_EDGES, 1.0), abs=ATOL)
    assert edges_of(circuits.select(scores, 5)) == set(GATE_EDGES)


@backends
def test_eap_gives_both_heads_of_an_and_the_whole_effect(backend: str) -> None:
    """Each is needed, each gets -1, and so their sum is twice the change when both go."""
    model, _, p = case("and-gate", backend)
    scores = by_edge(circuits.eap(model, p))
    heads = Head(0, 0), Head(0, 1)
    both = lt.ablate(model, p, heads, ablation="resample", together=True).mean().item()
    assert [scores["a0.h0->m0"], scores["a0.h1->m0"]] == pytest.approx([both, both], abs=ATOL)
    assert both == pytest.approx(-1, abs=ATOL)
    assert lt.ablate(model, p, heads, ablation="resample").mean().tolist() == pytest.approx([-1, -1], abs=ATOL)
    assert edges_of(circuits.discover(model, p, n_edges=5, method="eap")) == set(GATE_EDGES)


@backends
def test_eap_finds_what_induction_moves_and_not_how_it_looks(backend: str) -> None:
    """The failure of a saturated softmax: asked for five edges, EAP ranks two and fills up with edges of no effect."""
    model, truth, p = case("induction", backend)
    moved = {"input->a1.h0<v>", "a1.h0->logits"}
    assert edges_of(circuits.discover(model, p, n_edges=2, method="eap")) == moved
    assert set(effects_only(exact("induction", backend))) - moved == set(truth.edges) - moved


# --- induction on random words -------------------------------------------------------------------------------------

LENGTH = 15
AGAIN = slice(1 + LENGTH, 1 + LENGTH + LENGTH // 2)  # where words come for the second time


def repeats(backend: str) -> tuple[Any, PromptSet]:
    model = loaded("induction", backend)
    return model, prompts.induction(model, 24, length=LENGTH, seed=3)


def top_is_correct(p: PromptSet) -> lt.Metric:
    """1 where the correct answer has the largest logit of all."""
    correct = torch.tensor(p.correct)[:, 0]
    return lt.metrics.custom(
        "accuracy", lambda rows, right: (rows.argmax(-1) == right).double(), p.positions["END"], context=(correct,)
    )


@backends
def test_induction_is_always_right_in_the_second_half(backend: str) -> None:
    """At every word that comes again, and nowhere before it: the first half cannot be known."""
    model, p = repeats(backend)
    predicted = models.logits(model, p.clean).argmax(-1)
    following = p.clean[:, 2 : 2 + LENGTH // 2]  # what followed each of them the first time
    assert (predicted[:, AGAIN] == following).all()
    first = slice(1, LENGTH)
    assert (predicted[:, first] == p.clean[:, 2 : 1 + LENGTH]).double().mean() == 0
    corrupted = models.logits(model, p.corrupted).argmax(-1)  # the same words with nothing to copy from
    assert (corrupted[:, AGAIN] == following).double().mean() == 0


@backends
@pytest.mark.parametrize("mode", ["zero", "mean", "resample"])
def test_induction_needs_both_heads(backend: str, mode: Any) -> None:
    """Accuracy 1 before; without the induction head 0. Without the previous-token head nothing tells one word of the
    prompt from another: zero leaves the current word on top, averages of other prompts leave chance."""
    model, p = repeats(backend)
    heads = [Head(0, 0), Head(1, 0)]
    effects = lt.ablate(model, p, heads, ablation=mode, metric=top_is_correct(p))
    assert (effects.before == 1).all()
    previous, induction = effects.after.mean(1).tolist()
    assert induction == 0
    assert previous == 0 if mode == "zero" else previous < 0.15
    logit_diff = lt.ablate(model, p, heads, ablation=mode)
    assert (logit_diff.mean() < -2).all()


@backends
def test_heads_attend_as_they_were_built_to(backend: str) -> None:
    """Previous-token score and induction score 1, and the one head's score is not the other's."""
    model, p = repeats(backend)
    trace = signals.capture(model, p, what="pattern")
    first, second = (signals.attention_pattern(trace, layer)[:, 0] for layer in (0, 1))
    now = torch.arange(AGAIN.start, AGAIN.stop)

    def scores(pattern: Tensor) -> tuple[float, float]:
        previous = pattern.diagonal(-1, dim1=1, dim2=2).mean().item()
        return previous, pattern[:, now, now - LENGTH + 1].mean().item()

    assert scores(first) == pytest.approx((1, 0), abs=1e-6)
    previous, induction = scores(second)
    assert induction == pytest.approx(1, abs=1e-6) and previous < 0.2
    rows = torch.arange(len(p))
    at_end = second[rows, p.positions["END"]]
    assert at_end[rows, p.positions["COPY"]].min() > 1 - 1e-6


def test_every_known_edge_can_be_read_back() -> None:
    """What the truths name are edges, so none of the tests above compares with an edge that does not exist."""
    for name, truth in CIRCUITS.items():
        graph = Graph.of(loaded(name, BACKENDS[0]))
        for edge in {*truth.edges, *truth.alone, *truth.eap}:
            assert str(parse_edge(edge)) == edge and graph.index(parse_edge(edge))
