"""Laws 32 and 35 for the methods that average a gradient over a path, and what ties them to EAP."""

from __future__ import annotations

import torch
from room import to_score
from tiny import POST_NORM, Tiny, close, one_of_each, over, prompts

from llmtrace import circuits, interventions
from llmtrace.circuits import EdgeScores
from llmtrace.nodes import Embed, Head, Mlp

STEPS = 60


def out_of(scores: EdgeScores, nodes: list[object]) -> torch.Tensor:
    """[batch]: all edges out of these nodes together."""
    rows = [scores.graph.row[node] for node in nodes]  # type: ignore[index]
    return scores.per_prompt[:, rows].sum((1, 2))


@over(one_of_each)
def test_edges_out_of_the_input_sum_to_the_whole_change(tiny: Tiny) -> None:
    """Law 32: the midpoint rule comes to m(corrupted) - m(clean) quadratically in the number of steps."""
    p = prompts(padded=True)
    effects = interventions.ablate(tiny.model, p, [Head(0, 0)], ablation="resample")
    assert effects.other is not None
    whole = effects.other - effects.before
    gaps = [
        (out_of(circuits.eap_ig(tiny.model, p, steps=steps), [Embed()]) - whole).abs().max().item()
        for steps in (5, STEPS)
    ]
    assert gaps[1] < 2e-3 and gaps[1] < gaps[0] / 10


@over(one_of_each)
def test_edges_out_of_a_layers_writers_sum_to_their_patch(tiny: Tiny) -> None:
    """Completeness of the path of activations: with more steps, the edges out of a group come to the effect of its
    resample ablation."""
    p = prompts(padded=True)
    scores = circuits.eap_ig_activations(tiny.model, p, steps=STEPS)
    groups: list[list[object]] = [[Head(0, head) for head in range(tiny.family.n_heads)]]
    groups += [] if tiny.family.attn_only else [[Mlp(0)]]
    for nodes in groups:
        effect = interventions.ablate(tiny.model, p, nodes, ablation="resample", together=True)  # type: ignore[arg-type]
        close(out_of(scores, nodes), effect.change[0], 2e-3)


@over(one_of_each)
def test_one_point_at_both_ends_is_the_mean_of_two_eaps(tiny: Tiny) -> None:
    """clean_corrupted = (EAP noising - EAP denoising) / 2: the change of the writes has the other sign there."""
    p = prompts(padded=True)
    noising, denoising = (circuits.eap(tiny.model, p, direction=side).per_prompt for side in ("noising", "denoising"))
    close(circuits.clean_corrupted(tiny.model, p).per_prompt, (noising - denoising) / 2, 10 * tiny.atol)


@over(one_of_each)
def test_points_of_a_path_ride_together(tiny: Tiny) -> None:
    """Batches and points in one batch change nothing."""
    p = prompts(padded=True)
    for method in (circuits.eap_ig, circuits.eap_ig_activations):
        whole = method(tiny.model, p, steps=3).per_prompt
        close(method(tiny.model, p, steps=3, memory=to_score(tiny.model, p, 2, points=3)).per_prompt, whole, tiny.atol)
        assert whole.abs().max() > 1e-2


@over(among=POST_NORM)
def test_on_post_norm_models_edges_out_of_the_input_are_complete_too(tiny: Tiny) -> None:
    """The write is what the stream receives, so the first law holds where blocks are normed on their way out."""
    p = prompts(padded=True)
    graph = circuits.Graph.of(tiny.model)
    full, none = (
        circuits.run_circuit(tiny.model, p, c) for c in (circuits.Circuit.full(graph), circuits.Circuit.empty(graph))
    )
    close(out_of(circuits.eap_ig(tiny.model, p, steps=200), [Embed()]), none - full, 5e-3)
