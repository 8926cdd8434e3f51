"""From scores to circuits: every row of SELECTIONS against its definition in loops; nesting (40); stability over
prompts against one draw at a time; and ACDC's own circuit (38)."""

from __future__ import annotations

import time
from itertools import combinations
from typing import Any

import pytest
import torch
from hypothesis import given, settings, strategies as st
from tiny import ALL, prompts

import llmtrace as lt
from llmtrace import circuits
from llmtrace.circuits import SELECTIONS, Circuit, EdgeScores, Graph, discover, jaccard_stability, select, stable_edges
from llmtrace.errors import InputError, LimitError
from llmtrace.statistics import bootstrap_samples

SHAPES = (
    Graph(2, 2, 2, parallel=False, attn_only=False),
    Graph(2, 4, 2, parallel=False, attn_only=False),
    Graph(3, 2, 1, parallel=True, attn_only=False),
    Graph(3, 2, 2, parallel=False, attn_only=True),
)
GPT2 = Graph(12, 12, 12, parallel=False, attn_only=False)
graphs = st.sampled_from(SHAPES)
seeds = st.integers(0, 2**31)
few = settings(max_examples=30, deadline=None)


def scores_of(graph: Graph, seed: int, n: int = 1, **fields: Any) -> EdgeScores:
    """Small whole numbers of both signs: many ties, some zeros, sums without rounding."""
    drawn = torch.randint(-9, 10, (n, *graph.real.shape), generator=torch.Generator().manual_seed(seed)).double()
    metric, higher = fields.pop("metric", "logit_diff"), fields.pop("higher_is_better", True)
    return EdgeScores(graph, drawn * graph.real, "random", metric, {}, "none", fields, higher_is_better=higher)


def table(scores: EdgeScores) -> dict[str, float]:
    return {edge: sum(found) / len(found) for edge, found in by_edge(scores).items()}


def by_edge(scores: EdgeScores) -> dict[str, list[float]]:
    """The scores of every edge over the prompts, in the order of writers, then of ports."""
    graph = scores.graph
    return {str(edge): scores.of(edge).tolist() for edge in sorted(graph.edges(), key=graph.index)}


def names(circuit: Circuit) -> set[str]:
    return {str(edge) for edge in circuit.edges}


# --- slow twins --------------------------------------------------------------------------------------------------


def largest(values: dict[str, float], n: int) -> list[str]:
    return sorted(values, key=lambda edge: -values[edge])[:n]  # sorting is stable: the earlier edge of two alike


def pnr_by_definition(values: dict[str, float], n: int, share: float, sign: int) -> set[str]:
    """One edge after the other: first those that support most, then the largest of what is left."""
    supporting = {edge: sign * value for edge, value in values.items() if sign * value > 0}
    chosen = set(largest(supporting, int(share * n)))
    rest = {edge: abs(value) for edge, value in values.items() if edge not in chosen}
    return chosen | set(largest(rest, n - len(chosen)))


def drawn_means(scores: EdgeScores, draws: int, seed: int) -> list[dict[str, float]]:
    """Per draw, the mean of every edge over the prompts that were drawn."""
    samples = bootstrap_samples(len(scores.per_prompt), draws=draws, seed=seed).tolist()
    each = by_edge(scores)
    return [{edge: sum(found[i] for i in draw) / len(draw) for edge, found in each.items()} for draw in samples]


# --- selection ---------------------------------------------------------------------------------------------------


@few
@given(graphs, seeds, st.integers(1, 60), st.sampled_from([0.0, 0.25, 0.5, 0.9, 1.0]))
def test_selections_are_their_definitions(graph: Graph, seed: int, n: int, share: float) -> None:
    scores, n = scores_of(graph, seed), min(n, graph.n_edges)
    values = table(scores)
    sizes = {edge: abs(value) for edge, value in values.items()}
    assert names(select(scores, n, selection="top", prune=False)) == set(largest(sizes, n))
    assert names(select(scores, n, selection="pnr", pnr=share, prune=False)) == pnr_by_definition(values, n, share, -1)
    for threshold in (1.0, 4.5, 9.0, 10.0):
        expected = {edge for edge, size in sizes.items() if size >= threshold}
        assert names(select(scores, threshold=threshold, prune=False)) == expected


def test_what_supports_the_answer_depends_on_what_was_scored() -> None:
    """Noising lowers the metric along edges that matter; denoising raises it; a distance is the other way round."""
    for fields, sign in (
        ({}, -1),
        ({"direction": "noising"}, -1),
        ({"direction": "denoising"}, 1),
        ({"metric": "my distance", "higher_is_better": False}, 1),
    ):
        scores = scores_of(SHAPES[0], 3, **fields)
        chosen = select(scores, 20, selection="pnr", pnr=0.8, prune=False)
        assert names(chosen) == pnr_by_definition(table(scores), 20, 0.8, sign)
        assert (chosen.options["pnr"], chosen.options["n_edges"]) == (0.8, 20)


def test_shares_without_a_sign_are_ranked_by_size() -> None:
    scores = scores_of(SHAPES[1], 2)
    positive = EdgeScores(scores.graph, scores.per_prompt.abs(), "ifr", "logit_diff", {}, "none")
    for n in (5, 40):
        by_size = select(positive, n, selection="top", prune=False)
        assert torch.equal(select(positive, n, selection="pnr", prune=False).mask, by_size.mask)


@few
@given(graphs, seeds, st.integers(1, 40), st.integers(1, 40), st.sampled_from([0.0, 0.3, 0.5, 0.7, 1.0]))
def test_circuits_that_grow_are_nested(graph: Graph, seed: int, n: int, more: int, share: float) -> None:
    """Laws 39 and 40, over every row, with and without pruning; of exactly n edges where nothing is pruned."""
    scores, more = scores_of(graph, seed), min(n + more, graph.n_edges)
    for name, row in SELECTIONS.items():
        if name == "integer":  # what is best of n edges need not be part of what is best of n + 1
            continue
        for prune in (False, True):
            options: dict[str, Any] = {"selection": name, "prune": prune, **({"pnr": share} if name == "pnr" else {})}
            if "threshold" in row.needs:
                small, large = (select(scores, threshold=t, **options) for t in (n / 4 + more, n / 4))
            else:
                small, large = (select(scores, size, **options) for size in (min(n, more), more))
                assert prune or name == "greedy" or large.n_edges == more
            assert small <= large and not (large.mask & ~graph.real).any()


def without_dead_ends(circuit: Circuit) -> bool:
    """Who writes reads something, but for the input; and what is read is read by somebody who writes, or the logits."""
    graph, written = circuit.graph, circuit.mask.any(1)
    reads = graph.reading(circuit.mask)
    reads[: graph.before(0)] = True
    readers = [graph.writer_of(graph.ports[column]) for column in circuit.mask.any(0).nonzero().flatten().tolist()]
    return bool(reads[written].all()) and all(not some or bool(written[some].any()) for some in readers)


@pytest.mark.parametrize("shape", [Graph(2, 1, 1, parallel=False, attn_only=True), Graph(1, 2, 1, False, False)])
@pytest.mark.parametrize("n", [1, 3, 4, 6])
def test_the_integer_programme_finds_the_best_of_all_circuits(shape: Graph, n: int) -> None:
    """Against every subset of the edges, of two layers and of one with a shared key-value head and an MLP."""
    for seed in range(3):
        scores, edges = scores_of(shape, seed), shape.real.nonzero()
        support, best = scores.values.abs(), 0.0
        for size in range(n + 1):
            for some in combinations(range(len(edges)), size):
                mask = torch.zeros_like(shape.real)
                mask[tuple(edges[list(some)].T)] = True
                if without_dead_ends(Circuit(shape, mask)):
                    best = max(best, float(support[mask].sum()))
        found = select(scores, n, selection="integer")
        assert without_dead_ends(found) and found.n_edges <= n
        assert float(support[found.mask].sum()) == pytest.approx(best)


def test_an_integer_programme_has_a_limit() -> None:
    with pytest.raises(LimitError, match="at most 10,000 edges"):
        select(scores_of(GPT2, 0), 100, selection="integer")


def test_a_size_or_a_threshold() -> None:
    scores = scores_of(SHAPES[0], 0)
    for asked, piece in (
        ({}, "got neither; say how many"), ({"n_edges": 3, "threshold": 1.0}, "got both; leave one out."),
        ({"threshold": 0.0}, "threshold above 0"), ({"threshold": float("nan")}, "threshold as a number"),
        ({"threshold": 1.0, "selection": "top"}, "Expected n_edges for the selection top, got threshold"),
        ({"n_edges": 3, "selection": "threshold"}, "Expected threshold for the selection threshold, got n_edges"),
        ({"n_edges": 3, "pnr": 0.5}, "options of greedy"), ({"n_edges": 0}, "whole number of edges"),
        ({"n_edges": 3, "selection": "pnr", "pnr": 1.5}, "from 0 to 1, got 1.5"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=piece):
            select(scores, **asked)  # type: ignore[arg-type]
    assert select(scores, threshold=float("inf")).n_edges == 0


def test_a_tenth_of_the_edges_where_nothing_is_said() -> None:
    model = lt.load("and-gate")
    p = lt.from_pairs(model, [("1 1 =", "0 0 =", "1", "0")])
    for options in ({}, {"graph": Graph.of(model, spans=("END",))}):
        graph = options.get("graph", Graph.of(model))
        found = discover(model, p, method="eap", prune=False, **options)
        assert found.options["n_edges"] == found.n_edges == max(1, round(graph.n_edges / 10))
    assert discover(model, p, method="eap", prune=False).n_edges < found.n_edges


# --- ACDC --------------------------------------------------------------------------------------------------------


def test_acdc_decides_itself() -> None:
    """Its circuit is every edge of |score| >= tau, dead ends included unless pruning is asked for."""
    model, tau = lt.load("and-gate"), 0.02
    p = lt.from_pairs(model, [("1 1 =", "0 0 =", "1", "0"), ("1 1 =", "0 1 =", "1", "0")])
    scores = circuits.acdc(model, p, tau=tau)
    found = discover(model, p, method="acdc", tau=tau)
    assert torch.equal(found.mask, (scores.values.abs() >= tau) & scores.graph.real) and found.n_edges > 0
    assert (found.options["tau"], found.options["threshold"], found.options["selection"]) == (tau, tau, "threshold")
    pruned = discover(model, p, method="acdc", tau=tau, prune=True)
    assert torch.equal(pruned.mask, found.pruned().mask)
    sized = discover(model, p, method="acdc", tau=tau, n_edges=2, selection="top", prune=False)
    assert sized.n_edges == 2 and sized <= found
    higher = discover(model, p, method="acdc", tau=tau, threshold=2 * tau)
    assert torch.equal(higher.mask, select(scores, threshold=2 * tau).mask)
    with pytest.raises(InputError, match=r"Expected tau for the method acdc, got none; try tau=0\.01"):
        discover(model, p, method="acdc")


def test_a_threshold_for_any_method() -> None:
    model, p = ALL[0].model, prompts()
    scores = circuits.eap_ig(model, p, steps=2)
    limit = float(scores.values.abs().flatten().sort().values[-10])
    found = discover(model, p, method="eap_ig", steps=2, threshold=limit, prune=False)
    assert found.n_edges == 10 and found.options["steps"] == 2
    assert names(found) == {str(edge) for edge, _ in scores.top(10)}


# --- stability over prompts --------------------------------------------------------------------------------------


@few
@given(graphs, seeds, st.integers(2, 7), st.sampled_from([0.5, 0.9, 0.95, 1.0]))
def test_stable_edges_are_those_that_keep_their_sign(graph: Graph, seed: int, n: int, level: float) -> None:
    scores = scores_of(graph, seed, n)
    whole, means = table(scores), drawn_means(scores, 40, seed)
    expected = {
        edge
        for edge, value in whole.items()
        if value and sum(mean[edge] * value > 0 for mean in means) / len(means) >= level
    }
    stable = stable_edges(scores, draws=40, level=level, seed=seed)
    assert names(stable) == expected
    assert torch.equal(stable_edges(scores, draws=40, level=level, seed=seed).mask, stable.mask)
    assert stable_edges(scores, draws=40, level=1.0, seed=seed) <= stable


@few
@given(graphs, seeds, st.integers(2, 5), st.integers(1, 30))
def test_jaccard_is_that_of_every_pair_of_draws(graph: Graph, seed: int, n: int, size: int) -> None:
    scores = scores_of(graph, seed, n)
    tops = [
        set(largest({edge: abs(value) for edge, value in mean.items()}, size)) for mean in drawn_means(scores, 6, seed)
    ]
    pairs = [len(a & b) / len(a | b) for a, b in combinations(tops, 2)]
    assert jaccard_stability(scores, size, draws=6, seed=seed) == pytest.approx(sum(pairs) / len(pairs))


def test_prompts_that_agree_are_stable_and_pure_noise_is_not() -> None:
    graph = SHAPES[1]
    sizes = torch.arange(1.0, 9.0, dtype=torch.float64)[:, None, None]
    alike = EdgeScores(graph, scores_of(graph, 1).per_prompt * sizes, "random", "none", {}, "none")
    assert torch.equal(stable_edges(alike).mask, alike.values != 0) and jaccard_stability(alike, 20) == 1
    noise = scores_of(graph, 2, 8)
    assert stable_edges(noise).n_edges < graph.n_edges / 2 and jaccard_stability(noise, 20) < 0.7
    few_left = select(noise, 60) & stable_edges(noise)
    assert 0 < few_left.n_edges < 60


def test_stability_refuses_what_it_cannot_know() -> None:
    one, some = scores_of(SHAPES[0], 1), scores_of(SHAPES[0], 1, 4)
    same = EdgeScores(one.graph, one.per_prompt.expand(4, -1, -1), "random", "none", {}, "none")
    for call, piece in (
        (lambda: stable_edges(one), "two prompts or more to draw from, got 1"),
        (lambda: jaccard_stability(one, 5), "two prompts or more to draw from, got 1"),
        (lambda: stable_edges(same), "random gave all the same, so draws of them say nothing"),
        (lambda: stable_edges(some, level=95.0), "level above 0 and up to 1, got 95.0"),
        (lambda: stable_edges(some, draws=0), "Expected 1 or more draws, got 0"),
        (lambda: jaccard_stability(some, 5, draws=1), "Expected 2 or more draws, got 1"),
        (lambda: jaccard_stability(some, 0), "whole number of edges"),
    ):
        with pytest.raises(InputError, match=piece):
            call()


def test_a_thousand_draws_of_gpt2s_edges_take_seconds() -> None:
    """32,491 edges, 100 prompts; about 1 s, and less than 10 on a busy machine."""
    scores = scores_of(GPT2, 0, 100)
    start = time.perf_counter()
    assert 0 < stable_edges(scores).n_edges < GPT2.n_edges == 32_491
    assert time.perf_counter() - start < 10
