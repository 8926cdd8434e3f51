"""Attention flow: how much could flow from a token to a position, if attention were pipes.

    A^_l = 1/2 mean_h A_l + 1/2 I        capacity of the pipe from j below layer l to i above it: A^_l[i, j]
    flow(i, j) = the maximum flow between i above the last layer and j below the first

Source: Abnar & Zuidema 2020. Cost: 1 F, and a maximum flow (Dinic) for each target and source token, over layers x
(target + 1)^2 / 2 pipes: of 12 layers about .4 ms each at 15 tokens and 5 ms at 128. They grow with the square of the
length, so that all sources of a target grow with its cube: targets whose pipes x flows exceed `LIMIT` are refused.
Capacities are whole multiples of 1e-9.
Sign: from 0 to 1. Rows do not sum to one: each pair has the network for itself.
Known failure: it sees neither what values carry nor MLPs; flows of a deep model are all alike, since half of every step
stays where it is and any detour counts.

    >>> found = lt.influence.attention_flow(model, prompts)
    >>> found.labels[0][found.values[0, -1].argmax()]
    '<bos>'
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_flow
from torch import Tensor

from llmtrace.errors import LimitError
from llmtrace.influence.tokens.attention.pattern_batches import prompt_batches, target_positions
from llmtrace.influence.tokens.results.token_influence import TokenInfluence
from llmtrace.influence.tokens.rollout import half_steps
from llmtrace.models import TraceModel, describe
from llmtrace.models.memory import Memory
from llmtrace.progress import track
from llmtrace.prompts import PromptSet, as_prompts
from llmtrace.prompts.choice import Choice

UNIT = 10**9  # capacities are int32, and no more than 1 leaves a place
LIMIT = 10**9  # pipes x flows of a target: about a minute


@torch.no_grad()
def attention_flow(
    model: TraceModel,
    prompts: PromptSet | str | Sequence[str],
    *,
    positions: Choice | None = None,
    memory: Memory = "auto",
) -> TokenInfluence:
    """[batch target source]: maximum flow between target positions (default: END) and each input token.

    Raises LimitError where that would take too long.
    """
    prompts = as_prompts(model, prompts)
    at = target_positions(prompts, positions)
    _require_affordable(int(at.max()) + 1, describe(model).n_layers)
    chunks = prompt_batches(model, prompts, memory)
    per_layer = torch.cat([half_steps(model, prompts.clean[chunk]) for chunk in chunks], 1)
    values = per_layer.new_zeros(*at.shape, prompts.clean.shape[1])
    pairs = [(prompt, row, int(at[prompt, row])) for prompt in range(len(at)) for row in range(at.shape[1])]
    for prompt, row, target in track(pairs, "attention_flow"):
        values[prompt, row, : target + 1] = flows(per_layer[:, prompt], target)
    return TokenInfluence.of(model, prompts, values, "attention_flow", targets=at)


def flows(steps: Float[Tensor, "layer query key"], target: int) -> Float[Tensor, " source"]:
    """Maximum flow from `target` above the last layer to each token up to it, in causal layers of capacities."""
    width, n_layers = target + 1, len(steps)
    capacity = (steps[:, :width, :width].double().cpu() * UNIT).round().int().numpy()
    layer, query, key = np.nonzero(capacity)
    network = csr_array(
        (capacity[layer, query, key], ((layer + 1) * width + query, layer * width + key)),
        shape=((n_layers + 1) * width,) * 2,
    )
    network.indices, network.indptr = network.indices.astype(np.int32), network.indptr.astype(np.int32)
    start = n_layers * width + target
    found = [maximum_flow(network, start, source, method="dinic").flow_value / UNIT for source in range(width)]
    return steps.new_tensor(found)


def _require_affordable(width: int, n_layers: int) -> None:
    work = n_layers * width**2 // 2 * width
    if work > LIMIT:
        raise LimitError(
            f"Expected at most {LIMIT:,} pipes times flows for a target, got {work:,} ({width} tokens, {n_layers} "
            "layers); take an earlier target or a shorter prompt, or use rollout."
        )
