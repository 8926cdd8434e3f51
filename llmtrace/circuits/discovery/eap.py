"""Edge attribution patching: the first-order effect of every edge, from two forward passes and one backward pass.

    score(u -> v) = < a_u(corrupted) - a_u(clean), d metric / d x_v at clean >           noising
    score(u -> v) = < a_u(clean) - a_u(corrupted), d metric / d x_v at corrupted >       denoising

Noising, an edge that is removed may carry something else than the corrupted run, `ablation="zero"` or "mean", as in
`exact` and in circuits; then the score estimates that effect.
Source: Syed, Rager & Conmy 2023; Nanda 2023. Cost: 2 F + 1 W; memory: `edge_scoring.py`.
Sign: negative = patching the edge lowers the metric (denoising: positive = it restores it). Laws: clean = corrupted
gives 0 (law 35); the edges out of a node sum to its attribution patching score (law 29); edges into logits are exact
without a final norm (law 31). Denoising is not the negative of noising.
Known failure: where the run sits on a plateau (an OR gate's dead ReLU, a saturated softmax) every score is 0.
And a circuit of its best edges can miss the one that matters: look at faithfulness over several sizes and prompt sets.

    >>> lt.circuits.eap(model, prompts)
    EdgeScores(eap (noising, resample) of logit_diff: 1,519 edges; m2->a3.h2<v> -4.25, a3.h2->logits -3.34)
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from llmtrace.circuits.discovery.scoring.edge_scoring import edge_products, reader_gradients
from llmtrace.circuits.discovery.scoring.prompt_scores import recorder_of, scored, writes_of
from llmtrace.circuits.discovery.scoring.removed_writes import removed_writes
from llmtrace.circuits.edge_scores import EdgeScores
from llmtrace.circuits.graph import Graph
from llmtrace.circuits.running.background import Ablation, ablation_name
from llmtrace.errors import InputError, require_one_of
from llmtrace.interventions import Memory
from llmtrace.metrics import Metric, MetricLike
from llmtrace.models import TraceModel
from llmtrace.prompts import PromptSet


def eap(
    model: TraceModel,
    prompts: PromptSet,
    *,
    metric: MetricLike | None = None,
    graph: Graph | None = None,
    rule: str = "standard",
    direction: str = "noising",
    ablation: Ablation = "resample",
    memory: Memory = "auto",
) -> EdgeScores:
    """Scores of every edge, per prompt. Cost: 2 forward passes (zero: 1) and 1 backward pass, as many prompts at a time
    as `memory` allows; the scores do not depend on it.

    ablation   what removed edges carry: "resample", "zero", "mean" (of the corrupted prompts) or a `Mean(...)`

    Raises InputError for a metric whose gradient vanishes at the run (KL to the clean run), for denoising with another
    ablation than resample, and for prompts without the corruption that the ablation reads.
    """
    require_one_of("direction", ("noising", "denoising"), direction)
    if direction == "denoising" and ablation != "resample":
        raise InputError(
            f"Expected ablation='resample' with direction='denoising', which puts clean writes into the corrupted run, "
            f"got {ablation_name(ablation)}; leave one of the two out."
        )
    graph = Graph.of(model) if graph is None else graph
    removed = removed_writes(model, graph, prompts, ablation, memory, method="eap")

    def of_batch(graph: Graph, some: PromptSet, read: Metric) -> Float[Tensor, "batch node port"]:
        here = some.clean if direction == "noising" else some.corrupted
        other = removed.of(some) if direction == "noising" else writes_of(model, graph, some.clean)
        record = recorder_of(model, graph, taken_from=other)
        gradients = reader_gradients(model, graph, some, read, tokens=here, hooks=record.hooks, rule=rule)
        return edge_products(gradients, record.values)

    return scored(
        "eap", of_batch, model, prompts, metric, graph, memory=memory, held=removed.held, contrast=False,
        passes=f"{1 if ablation == 'zero' else 2} forward, 1 backward",
        options={"rule": rule, "direction": direction, "ablation": ablation_name(ablation)},
    )  # fmt: skip
