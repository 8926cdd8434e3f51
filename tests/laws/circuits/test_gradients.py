"""Laws 29-31, 33-35: edge attribution patching is a derivative, and when a derivative is the truth."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import slow_twins as slow
import torch
from room import to_score
from tiny import ALL, LLAMA, Tiny, close, no_norm, one_of_each, over, prompts, some_nodes

from llmtrace import circuits, interventions, models
from llmtrace.circuits import EdgeScores, Graph
from llmtrace.circuits.discovery.eap_ig import along_inputs
from llmtrace.circuits.discovery.scoring.prompt_scores import scored
from llmtrace.circuits.discovery.scoring.removed_writes import removed_writes
from llmtrace.circuits.running.needed_memory import bytes_of_writes
from llmtrace.errors import InputError
from llmtrace.interventions import Mean
from llmtrace.metrics import custom, kl
from llmtrace.nodes import Edge, Logits, Node, Port
from llmtrace.prompts import PromptSet, ioi


def table(scores: EdgeScores, edges: Sequence[Edge]) -> torch.Tensor:
    """[edge batch]"""
    return torch.stack([scores.of(edge) for edge in edges])


@over()
def test_eap_is_the_derivative_by_the_edges_mask(tiny: Tiny) -> None:
    """Law 30, and the slow twin of EAP: autograd through a run with an explicit mask per edge and prompt."""
    p = prompts(padded=True)
    by_autograd = slow.edge_gradients(tiny.model, p)
    scores = circuits.eap(tiny.model, p)
    close(table(scores, list(by_autograd)), torch.stack(list(by_autograd.values())), 10 * tiny.atol)
    assert (table(scores, list(by_autograd)).abs().amax(1) > 1e-6).float().mean() > 0.9  # no comparison of zeros
    assert not scores.values[~scores.graph.real].any()
    close(scores.values, scores.per_prompt.mean(0), 1e-12)


def test_the_slow_derivative_agrees_with_finite_differences() -> None:
    """Law 30 once more without autograd: (m(+h) - m(-h)) / 2h on a handful of edges of each kind."""
    tiny, p, h = ALL[0], prompts(padded=True), 1e-4
    corrupted = {u: slow.write_of(tiny.model, p.corrupted, u) for u in slow.writers(tiny.model)}
    scores = circuits.eap(tiny.model, p)
    for edge in slow.all_edges(tiny.model)[::17]:

        def moved(step: float, edge: Edge = edge) -> torch.Tensor:
            final = slow.run_edges(tiny.model, p.clean, corrupted, lambda u, v: step * (Edge(u, v) == edge))
            return slow.logit_diff(slow.unembedded(tiny.model, final), p)

        close(scores.of(edge), (moved(h) - moved(-h)) / (2 * h), 1e-5)


@over(one_of_each)
@pytest.mark.parametrize("mean", ["group", "position", "global"])
def test_eap_against_the_mean_is_the_derivative_by_the_edges_mask(tiny: Tiny, mean: str) -> None:
    """Law 30 where an edge's mask mixes in what its writer says on average, of prompts of two lengths and groups."""
    p = prompts(padded=True)
    by_autograd = slow.edge_gradients(tiny.model, p, slow.mean_writes(tiny.model, p, mean))
    scores = circuits.eap_mean(tiny.model, p, over=mean)
    close(table(scores, list(by_autograd)), torch.stack(list(by_autograd.values())), 10 * tiny.atol)
    assert (table(scores, list(by_autograd)).abs().amax(1) > 1e-6).float().mean() > 0.9
    means = bytes_of_writes(tiny.model, Graph.of(tiny.model), p, 2 * len(p.group_names))
    few = circuits.eap_mean(tiny.model, p, over=mean, memory=to_score(tiny.model, p, 2) + means)
    close(few.per_prompt, scores.per_prompt, 10 * tiny.atol)


def removed(model: Any, p: PromptSet, ablation: str) -> dict[Node, torch.Tensor]:
    """What edges carry once they are removed, by the slow road."""
    if ablation == "mean":
        return slow.mean_writes(model, p, "group", "corrupted")
    return {u: torch.zeros_like(slow.write_of(model, p.clean, u)) for u in slow.writers(model)}


@over(one_of_each)
@pytest.mark.parametrize("ablation", ["zero", "mean"])
def test_eap_under_another_ablation_is_the_derivative_by_the_edges_mask(tiny: Tiny, ablation: str) -> None:
    """Law 30 where an edge's mask mixes in nothing, or what the corrupted prompts of the group say on average."""
    p = prompts(padded=True)
    by_autograd = slow.edge_gradients(tiny.model, p, removed(tiny.model, p, ablation))
    scores = circuits.eap(tiny.model, p, ablation=ablation)
    close(table(scores, list(by_autograd)), torch.stack(list(by_autograd.values())), 10 * tiny.atol)
    assert (table(scores, list(by_autograd)).abs().amax(1) > 1e-6).float().mean() > 0.9
    assert scores.options["ablation"] == {"zero": "zero", "mean": "mean"}[ablation]


def input_explains_itself(tiny: Tiny, ablation: str) -> None:
    p = prompts(padded=True)
    input_ = removed(tiny.model, p, ablation)[slow.writers(tiny.model)[0]]
    hook = ("blocks.0.hook_resid_pre", lambda value, hook: input_)
    with torch.no_grad():
        change = slow.logit_diff(tiny.model.run_with_hooks(p.clean, fwd_hooks=[hook]), p)
    change = change - slow.metric_of_run(tiny.model, p)

    def missed(steps: int) -> float:
        scores = circuits.eap_ig(tiny.model, p, ablation=ablation, steps=steps)
        return float((scores.per_prompt[:, 0].sum(-1) - change).abs().max())

    assert change.abs().max() > 1e-3 and missed(64) < 0.02 * float(change.abs().max())
    assert missed(64) < missed(1) or missed(1) < 1e-9


@over(one_of_each)
def test_eap_ig_under_a_mean_explains_the_change_of_the_input(tiny: Tiny) -> None:
    """Law 32: the edges out of the input sum to what the metric loses when the input alone is what edges carry."""
    input_explains_itself(tiny, "mean")


@over(no_norm)
def test_eap_ig_under_zero_explains_the_change_of_the_input_without_norms(tiny: Tiny) -> None:
    """A norm takes the length away by which the path from 0 differs, so with norms the law does not hold."""
    input_explains_itself(tiny, "zero")


def test_denoising_puts_clean_writes_in_and_nothing_else() -> None:
    p, model = prompts(), ALL[0].model
    with pytest.raises(InputError, match=r"Expected ablation='resample' with direction='denoising'.*got zero"):
        circuits.eap(model, p, direction="denoising", ablation="zero")
    alone = replace(p, corrupted=p.clean)  # zero reads no corrupted prompts, a mean of them does
    assert circuits.eap(model, alone, ablation="zero").values.abs().max() > 1e-3
    with pytest.raises(InputError, match="corrupt"):
        circuits.eap(model, alone, ablation="mean")
    with pytest.raises(InputError, match="Expected ablation"):
        circuits.eap_ig(model, p, ablation="value")


@over(no_norm)
def test_edges_into_the_logits_carry_the_mean_exactly_without_a_final_norm(tiny: Tiny) -> None:
    """Law 31, second half, for the mean: by runs in which that edge alone carries it."""
    p = prompts(padded=True)
    scores, before = circuits.eap_mean(tiny.model, p), slow.metric_of_run(tiny.model, p)
    means = slow.mean_writes(tiny.model, p, "group")
    for writer in slow.writers(tiny.model):
        edge = Edge(writer, Port(Logits()))
        final = slow.run_edges(tiny.model, p.clean, means, lambda u, v: float(Edge(u, v) == edge))  # noqa: B023
        close(scores.of(edge), slow.logit_diff(slow.unembedded(tiny.model, final), p) - before, 10 * tiny.atol)


def test_prompts_that_are_their_own_mean_are_refused() -> None:
    p = prompts()[[0, 2]]
    with pytest.raises(InputError, match="Expected several prompts of a group, got 2 in as many groups"):
        circuits.eap_mean(ALL[0].model, p)
    assert circuits.eap_mean(ALL[0].model, p, over="position").values.abs().max() > 1e-3
    with pytest.raises(InputError, match="Expected over to be one of group, position, global, got 'all'"):
        circuits.eap_mean(ALL[0].model, p, over="all")


@over(one_of_each)
def test_edges_out_of_a_node_sum_to_attribution_patching(tiny: Tiny) -> None:
    """Law 29: AtP(u) = sum_v EAP(u -> v), with AtP from a plain run in which only u moves."""
    p = prompts(padded=True)
    scores = circuits.eap(tiny.model, p)
    out_of: dict[Node, torch.Tensor] = {}
    for edge in scores.graph.edges():
        out_of[edge.writer] = out_of.get(edge.writer, 0) + scores.of(edge)
    for node, score in slow.attribution_patching(tiny.model, p).items():
        close(out_of[node], score, 10 * tiny.atol)
        close(scores.by_node().of(node), score, 10 * tiny.atol)


@over(no_norm)
def test_edges_into_the_logits_are_exact_without_a_final_norm(tiny: Tiny) -> None:
    """Law 31, second half: nothing between the stream and a linear metric bends."""
    p = prompts(padded=True)
    scores = circuits.eap(tiny.model, p)
    effects = interventions.path_patch(tiny.model, p, senders=slow.writers(tiny.model), convention="all_frozen")
    for (sender,), change in zip(effects.nodes, effects.change, strict=True):
        close(scores.of(Edge(sender, Port(Logits()))), change, tiny.atol)


LINEAR = [tiny for tiny in ALL if tiny.family.attn_only][:1]


@over(among=LINEAR)
def test_a_linear_model_has_no_approximation(tiny: Tiny) -> None:
    """Law 31, first half: attention-only, no norm, patterns that no prompt moves (W_Q = b_Q = 0), a linear metric:
    EAP = exact, edge by edge; AtP = EAP summed = exact, node by node."""
    weights = {name: torch.zeros_like(w) if name.endswith("_Q") else w for name, w in tiny.family.source(0).items()}
    model, p = tiny.build(weights), prompts()
    scores, exact = circuits.eap(model, p), circuits.exact(model, p)
    close(scores.per_prompt, exact.per_prompt, 10 * tiny.atol)
    for ablation in ("zero", "mean"):
        found = circuits.exact(model, p, ablation=ablation)
        close(circuits.eap(model, p, ablation=ablation).per_prompt, found.per_prompt, 10 * tiny.atol)
        close(circuits.eap_ig(model, p, ablation=ablation).per_prompt, found.per_prompt, 10 * tiny.atol)
        assert found.values.abs().max() > 0.1
    against_mean = circuits.eap_mean(model, p).per_prompt
    close(against_mean, circuits.exact(model, p, ablation=Mean(side="clean")).per_prompt, 10 * tiny.atol)
    assert against_mean.abs().max() > 0.1
    atp = slow.attribution_patching(model, p)
    nodes = slow.writers(model)[1:]
    effects = interventions.ablate(model, p, nodes, ablation="resample")
    close(torch.stack([atp[node] for node in nodes]), effects.change, 10 * tiny.atol)
    assert exact.values.abs().max() > 0.1


def one_run_per_edge_is_cheap(tiny: Tiny) -> bool:
    """A run per edge takes seconds: one graph, with grouped keys and values."""
    return tiny.family is LLAMA and not tiny.processed


@over(one_run_per_edge_is_cheap)
def test_exact_edges_are_circuits_less_one_edge(tiny: Tiny) -> None:
    """The oracle by its definition, on a few edges of each kind: the run with this edge's mask at 1."""
    p = prompts(padded=True)
    exact, before = circuits.exact(tiny.model, p), slow.metric_of_run(tiny.model, p)
    corrupted = {u: slow.write_of(tiny.model, p.corrupted, u) for u in slow.writers(tiny.model)}
    for chosen in slow.all_edges(tiny.model)[::23]:
        final = slow.run_edges(tiny.model, p.clean, corrupted, lambda u, v: float(Edge(u, v) == chosen))  # noqa: B023
        close(exact.of(chosen), slow.logit_diff(slow.unembedded(tiny.model, final), p) - before, 10 * tiny.atol)


@over(one_of_each)
def test_a_constant_on_the_output_changes_nothing(tiny: Tiny) -> None:
    """Law 33: metric + 7 has the scores and effects of the metric."""
    p = prompts()
    plain = p.metric("logit_diff")
    tokens, weights = plain.tokens, plain.weights
    assert tokens is not None and weights is not None

    def shifted(rows: torch.Tensor, tokens: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        return (rows.gather(-1, tokens.expand(*rows.shape[:-1], -1)) * weights).sum(-1) + 7

    metric = custom("shifted", shifted, plain.positions, context=(tokens, weights))
    close(circuits.eap(tiny.model, p, metric=metric).per_prompt, circuits.eap(tiny.model, p).per_prompt, tiny.atol)
    a, b = (interventions.path_patch(tiny.model, p, metric=m) for m in (metric, plain))
    close(a.change, b.change, tiny.atol)
    close(a.after, b.after + 7, tiny.atol)


@over(one_of_each)
def test_eap_of_the_distance_to_the_clean_run_is_refused(tiny: Tiny) -> None:
    """Law 34: KL(clean || now) has no slope at the clean run, so every score would be 0: refused, whatever its name is.
    The distance to another run has one, and is scored."""
    p, end = prompts(), prompts().positions["END"]
    clean, corrupted = (models.logits(tiny.model, p.side(side)) for side in ("clean", "corrupted"))

    def distance(rows: torch.Tensor, log_p: torch.Tensor) -> torch.Tensor:
        return (log_p.exp() * (log_p - rows.log_softmax(-1))).sum(-1)

    log_p = clean[torch.arange(len(p)), end].log_softmax(-1)
    for metric in ("kl", kl(end, clean), custom("distance", distance, end, context=(log_p,))):
        with pytest.raises(InputError, match="gradient"):
            circuits.eap(tiny.model, p, metric=metric)
    assert circuits.eap(tiny.model, p, metric=kl(end, corrupted)).values.abs().max() > 1e-3


@over(one_of_each)
def test_prompts_without_a_difference_score_zero(tiny: Tiny) -> None:
    """Law 35: where clean = corrupted every score and effect is 0, and the other prompts keep theirs."""
    p = prompts(padded=True)
    same = replace(p, corrupted=torch.cat([p.clean[:2], p.corrupted[2:]]))
    for values in (
        lambda p: circuits.eap(tiny.model, p).per_prompt,
        lambda p: interventions.path_patch(tiny.model, p).change.T,
        lambda p: interventions.ablate(tiny.model, p, some_nodes(tiny), ablation="resample").change.T,
    ):
        close(values(same)[:2], torch.zeros_like(values(same)[:2]), 1e-12)
        close(values(same)[2:], values(p)[2:], tiny.atol)


def test_runs_that_never_differ_are_refused() -> None:
    """Law 35 as a sentence: nothing can be patched in from a run that is the clean run."""
    p = replace(prompts(), corrupted=prompts().clean)
    for method in (circuits.eap, circuits.exact, interventions.path_patch):
        with pytest.raises(InputError, match="corrupt"):
            method(ALL[0].model, p)


# --- the authors' own numbers ----------------------------------------------------------------------------------------


def test_with_its_authors_points_eap_ig_gives_its_authors_numbers() -> None:
    """Stored scores of all edges; with our midpoints the edges of the input come closer to the change they explain."""
    theirs = json.loads((Path(__file__).parents[2] / "data" / "eap_ig_scores.json").read_text())
    model = models.load("tiny-english", dtype="float64")
    p, steps = ioi(model, 8, seed=0), theirs["steps"]
    resample = removed_writes(model, Graph.of(model), p, "resample", "auto", method="eap_ig")
    of_batch = along_inputs(model, [k / steps for k in range(steps)], "standard", resample)
    same = scored(
        "eap_ig", of_batch, model, p, None, None, memory="auto", points=steps, passes="", options={}
    ).df()  # fmt: skip
    ours = dict(zip(same["edge"], same["score"], strict=True))
    assert ours.keys() == theirs["scores"].keys()
    assert max(abs(ours[edge] - score) for edge, score in theirs["scores"].items()) < 1e-13

    def share(scores: dict[str, float]) -> float:
        metric = p.metric("logit_diff")
        change = [metric(models.logits(model, p.side(side))).mean() for side in ("corrupted", "clean")]
        explained = sum(score for edge, score in scores.items() if edge.startswith("input->"))
        return explained / float(change[0] - change[1])

    found = circuits.eap_ig(model, p, steps=steps).df()
    assert abs(share(dict(zip(found["edge"], found["score"], strict=True))) - 1) < 0.05
    assert share(theirs["scores"]) < 0.7
