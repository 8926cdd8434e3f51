"""EAP against the mean: the first-order effect of every edge that carries what its writer says on average.

    score(u -> v) = < mean a_u - a_u(clean), d metric / d x_v at clean >

The mean is over the clean prompts: per position over those of a template group (`over="group"`) or over all of them
("position"), or over all prompts and positions ("global"), padding left out. No corrupted prompts are run. It estimates
what `exact` finds under `ablation=Mean(over, side="clean")`.
Source: Syed, Rager & Conmy 2023 and Nanda 2023 (attribution patching), with the mean ablation of Wang et al. 2022;
Mueller et al. 2025 compare such ablations. Cost: 2 F + 1 W; memory: `edge_scoring.py`, and the means of all nodes'
writes for each group.
Sign: as EAP, negative = taking away what is particular to the prompt lowers the metric. Laws: exact where a model is
linear in the edge, so into the logits without a final norm (law 31).
Known failure: what all prompts have in common is in the mean, so an edge that says the same of each has 0; and where
the gradient is the same for all prompts too (one answer for all, a linear model) the mean score over the prompts is 0,
whatever each prompt's is. Plateaus are as flat as EAP's.

    >>> lt.circuits.eap_mean(model, prompts)
    EdgeScores(eap_mean of logit_diff: 1,519 edges; input->m0 +1.87, a3.h2->logits -1.62)
"""

from __future__ import annotations

import torch
from einops import einsum
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import one_hot

from llmtrace.circuits.discovery.scoring.edge_scoring import edge_products, reader_gradients
from llmtrace.circuits.discovery.scoring.prompt_scores import recorder_of, scored, writes_of
from llmtrace.circuits.edge_scores import EdgeScores
from llmtrace.circuits.graph import Graph
from llmtrace.circuits.running.needed_memory import bytes_of_writes, scored_at_once
from llmtrace.errors import InputError
from llmtrace.interventions import Memory
from llmtrace.interventions.rows import OVER
from llmtrace.metrics import Metric, MetricLike
from llmtrace.models import TraceModel
from llmtrace.progress import track
from llmtrace.prompts import PromptSet


def eap_mean(
    model: TraceModel,
    prompts: PromptSet,
    *,
    metric: MetricLike | None = None,
    graph: Graph | None = None,
    over: str = "group",
    memory: Memory = "auto",
) -> EdgeScores:
    """Scores of every edge, per prompt: of this prompt among these prompts, whose mean it is compared with.

    Raises InputError for prompts that are each the only one of their group, since each would be its own mean, and for a
    metric whose gradient vanishes at the clean run.
    """
    if over not in OVER.one_of:
        raise InputError(f"Expected over to be one of {', '.join(OVER.one_of)}, got {over!r}; choose one.")
    graph, group = Graph.of(model) if graph is None else graph, groups_of(prompts, over)
    if over != "global" and len(group.unique()) == len(prompts):
        raise InputError(
            f"Expected several prompts of a group, got {len(prompts)} in as many groups, so that each is its own mean "
            "and every score 0; take more prompts, or over='position'."
        )
    held = 2 * (int(group.max()) + 1) * bytes_of_writes(model, graph, prompts, 1)  # the means, while they are made
    at_once = scored_at_once(model, graph, prompts, memory, held=held)
    means = mean_writes(model, graph, prompts, over, at_once)

    def of_batch(graph: Graph, some: PromptSet, read: Metric) -> Float[Tensor, "batch node port"]:
        there = means[:, :, : some.clean.shape[1]][:, groups_of(some, over).to(means.device)]
        record = recorder_of(model, graph, taken_from=there)
        gradients = reader_gradients(model, graph, some, read, hooks=record.hooks)
        return edge_products(gradients, record.values)

    return scored(
        "eap_mean", of_batch, model, prompts, metric, graph, memory=memory, held=held,
        passes="2 forward, 1 backward", options={"over": over}, contrast=False,
    )  # fmt: skip


def groups_of(prompts: PromptSet, over: str) -> Int[Tensor, " batch"]:
    """Which mean each prompt is compared with."""
    return prompts.groups if over == "group" else torch.zeros_like(prompts.groups)


@torch.no_grad()
def mean_writes(
    model: TraceModel, graph: Graph, prompts: PromptSet, over: str, at_once: int
) -> Float[Tensor, "node group pos d_model"]:
    """What every node writes on average, batch by batch; under "global" the same at each position."""
    n, width = int(groups_of(prompts, over).max()) + 1, prompts.clean.shape[1]
    total = torch.zeros(len(graph.nodes), n, width, model.cfg.d_model, dtype=model.W_E.dtype, device=model.W_E.device)
    count = total.new_zeros(n, width)
    for rows in track(prompts.batches(at_once), "means"):
        some = prompts[rows]
        member = one_hot(groups_of(some, over), n)[:, :, None] * some.mask[:, None]
        member = member.to(total)
        here = slice(some.clean.shape[1])
        total[:, :, here] += einsum(
            member, writes_of(model, graph, some.clean), "batch group pos, node batch pos d -> node group pos d"
        )
        count[:, here] += member.sum(0)
    if over == "global":
        total, count = total.sum(2, keepdim=True).expand_as(total), count.sum(1, keepdim=True).expand_as(count)
    return total / count.clamp(min=1)[:, :, None]
