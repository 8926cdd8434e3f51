"""Would other prompts have chosen the same edges? Bootstraps over prompts of scores that are already there.

    stable_edges        the edges whose mean score keeps its sign in nearly all draws
    jaccard_stability   how alike the circuits of the n best edges of two draws are, from 0 to 1

A draw takes as many prompts as there are, with replacement; it is a row of weights, and the means of all draws are one
matrix product [draw, prompt] x [prompt, edge]. No model is run. Neither says that an edge matters, only that the choice
does not hang on a few prompts; prompts of one template are alike, so both flatter.

    >>> scores = lt.circuits.eap_ig(model, prompts)
    >>> lt.circuits.stable_edges(scores)
    Circuit(379 of 1,519 edges, 31 nodes)
    >>> round(lt.circuits.jaccard_stability(scores, 50), 2)
    0.68
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from llmtrace.circuits.circuit import Circuit
from llmtrace.circuits.edge_scores import EdgeScores
from llmtrace.circuits.selection.select import require_size, top_edges
from llmtrace.errors import InputError
from llmtrace.statistics import bootstrap_samples

EDGES_AT_ONCE = 4096


def stable_edges(scores: EdgeScores, draws: int = 1000, level: float = 0.95, seed: int = 0) -> Circuit:
    """The edges whose mean over a draw has the sign of their mean over all prompts in at least `level` of the draws.

    Not pruned: `select(scores, 100) & stable_edges(scores)` leaves the doubtful out. An edge of mean 0 has no sign.
    Raises InputError for scores of fewer than two prompts or the same for all, no draw, or a level outside (0, 1].
    """
    if not 0 < level <= 1:
        raise InputError(f"Expected a level above 0 and up to 1, got {level}; 0.95 lets one draw in twenty differ.")
    weights, rows = _weights(scores, draws, 1, seed), _per_edge(scores)
    signs = scores.values.cpu()[scores.graph.real].sign()
    same = torch.cat(
        [
            (weights @ some.double()).sign_().eq(sign).sum(0)
            for some, sign in zip(rows.split(EDGES_AT_ONCE, 1), signs.split(EDGES_AT_ONCE), strict=True)
        ]
    )
    mask = torch.zeros_like(scores.graph.real)
    mask[scores.graph.real] = (same.double() / draws >= level) & (signs != 0)
    return Circuit(
        scores.graph, mask, scores=scores.values.cpu(), provenance=scores.provenance,
        options={
            **scores.options, "method": scores.method, "metric": scores.metric, "selection": "stable", "draws": draws,
            "level": level, "bootstrap_seed": seed,
        },
    )  # fmt: skip


def jaccard_stability(scores: EdgeScores, n_edges: int, draws: int = 100, seed: int = 0) -> float:
    """Mean over all pairs of draws of shared / joint edges, between the circuits of the `n_edges` largest |mean|.

    Raises InputError for scores of fewer than two prompts or the same for all, fewer than two draws, or a size outside
    1..all edges.
    """
    graph = scores.graph
    require_size(graph, n_edges)
    weights, flat = _weights(scores, draws, 2, seed), scores.per_prompt.detach().cpu().double().flatten(1)
    means = (weight @ flat for weight in weights)
    chosen = torch.stack([top_edges(graph, mean.view_as(graph.real), n_edges)[graph.real] for mean in means])
    shared = chosen.float() @ chosen.float().T
    first, second = torch.triu_indices(draws, draws, 1)
    pairs = shared[first, second].double()
    return float((pairs / (2 * n_edges - pairs)).mean())


def _per_edge(scores: EdgeScores) -> Float[Tensor, "batch edge"]:
    real: Bool[Tensor, "node port"] = scores.graph.real
    return scores.per_prompt.detach().cpu()[:, real]


def _weights(scores: EdgeScores, draws: int, least: int, seed: int) -> Float[Tensor, "draw batch"]:
    """How often each prompt is in each draw: whole numbers, so that what cancels cancels exactly."""
    prompts = len(scores.per_prompt)
    if prompts < 2:
        raise InputError(f"Expected scores of two prompts or more to draw from, got {prompts}; score more prompts.")
    if bool((scores.per_prompt == scores.per_prompt[0]).all()):
        raise InputError(
            f"Expected scores that differ between prompts, and {scores.method} gave all the same, so draws of them say "
            "nothing; repeat the method on other prompts or seeds."
        )
    if not isinstance(draws, int) or draws < least:
        raise InputError(f"Expected {least} or more draws, got {draws!r}; leave it out.")
    samples = bootstrap_samples(prompts, draws=draws, seed=seed)
    ones = torch.ones_like(samples, dtype=torch.float64)
    return torch.zeros(draws, prompts, dtype=torch.float64).scatter_add_(1, samples, ones)
