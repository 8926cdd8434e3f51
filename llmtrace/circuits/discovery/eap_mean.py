"""EAP against the mean: the first-order effect of every edge that carries what its writer says on average.

    score(u -> v) = < mean a_u - a_u(clean), d metric / d x_v at clean >

The mean is over the clean prompts: per position over those of a template group (`over="group"`) or over all of them
("position"), or over all prompts and positions ("global"), padding left out. No corrupted prompts are run. It estimates
what `exact` finds under `ablation=Mean(over, side="clean")`.
Source: Syed, Rager & Conmy 2023 and Nanda 2023 (attribution patching), with the mean ablation of Wang et al. 2022;
Mueller et al. 2025 compare such ablations. Cost: 2 F + 1 W; memory: `edge_scoring.py`, and the means of all nodes'
writes for each group. It is `eap` with `ablation=Mean(over, side="clean")`.
Sign: as EAP, negative = taking away what is particular to the prompt lowers the metric. Laws: exact where a model is
linear in the edge, so into the logits without a final norm (law 31).
Known failure: what all prompts have in common is in the mean, so an edge that says the same of each has 0; and where
the gradient is the same for all prompts too (one answer for all, a linear model) the mean score over the prompts is 0,
whatever each prompt's is. Plateaus are as flat as EAP's.

    >>> lt.circuits.eap_mean(model, prompts)
    EdgeScores(eap_mean of logit_diff: 1,519 edges; input->m0 +1.87, a3.h2->logits -1.62)
"""

from __future__ import annotations

from dataclasses import replace

from llmtrace.circuits.discovery.eap import eap
from llmtrace.circuits.edge_scores import EdgeScores
from llmtrace.circuits.graph import Graph
from llmtrace.errors import require_one_of
from llmtrace.interventions import Mean, Memory
from llmtrace.interventions.rows import OVER
from llmtrace.metrics import MetricLike
from llmtrace.models import TraceModel
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
    require_one_of("over", OVER.one_of, over)
    mean = Mean(over, side="clean")  # type: ignore[arg-type]
    scores = eap(model, prompts, metric=metric, graph=graph, ablation=mean, memory=memory)
    return replace(scores, method="eap_mean", options={"seed": prompts.seed, "over": over})
