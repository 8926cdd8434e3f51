"""What an edge carries once it is removed, for gradient methods: as `running/empty_circuit.py`, batch by batch.

    resample   the writes of the corrupted run
    zero       0
    mean       means of the writes over a reference: `Mean(...)`, by default the corrupted prompts of a template group

Cost: one forward pass, under zero none. Memory: under a mean, the writes of all nodes for each group.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import einsum
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import one_hot

from llmtrace.circuits.discovery.scoring.prompt_scores import change_of_writes, writes_of
from llmtrace.circuits.graph import Graph
from llmtrace.circuits.running.background import Ablation, Buffer, Stream
from llmtrace.circuits.running.empty_circuit import new_of
from llmtrace.circuits.running.needed_memory import bytes_of_writes, scored_at_once
from llmtrace.errors import InputError, UnsupportedError
from llmtrace.interventions import Mean, Memory
from llmtrace.interventions.engine.changes import Fill, FromOther, New
from llmtrace.interventions.engine.means import rows_of_reference
from llmtrace.models import TraceModel, embedding
from llmtrace.progress import track
from llmtrace.prompts import PromptSet


@dataclass(frozen=True, eq=False)
class RemovedWrites:
    """`means` of every node by the groups of the mean's reference, where there is one; `held`: their bytes, while they
    are made."""

    model: TraceModel
    graph: Graph
    prompts: PromptSet
    new: New
    means: Float[Tensor, "node group pos d_model"] | None = None
    held: int = 0

    def of(self, some: PromptSet) -> Buffer:
        """Of some of the prompts."""
        match self.new:
            case Fill(number):
                shape = len(self.graph.nodes), *some.clean.shape, self.model.cfg.d_model
                return self.model.W_E.new_full(shape, number)
            case Mean():
                return self._mean(some, slice(None))
        return writes_of(self.model, self.graph, some.corrupted)

    def inputs(self, some: PromptSet) -> Stream:
        """What enters the first block when every edge out of the input is removed."""
        match self.new:
            case Fill(number):
                return torch.full_like(embedding(self.model, some.clean)[0], number * self.graph.before(0))
            case Mean():
                return self._mean(some, slice(self.graph.before(0))).sum(0)
        return embedding(self.model, some.corrupted)[0]

    def change(self, some: PromptSet) -> Buffer:
        """a_u(removed) - a_u(clean). One forward pass on top of `of`."""
        return change_of_writes(self.model, self.graph, some, self.of(some))

    def _mean(self, some: PromptSet, nodes: slice) -> Buffer:
        assert self.means is not None and isinstance(self.new, Mean)
        rows = rows_of_reference(some, self.new.reference_for(self.prompts), self.new)
        return self.means[nodes, :, : some.clean.shape[1]][:, rows.to(self.means.device)]


def removed_writes(
    model: TraceModel, graph: Graph, prompts: PromptSet, ablation: Ablation, memory: Memory, *, method: str
) -> RemovedWrites:
    """Raises InputError for prompts without the corruption that the ablation reads, and for prompts that are each the
    only one of their group, since each would be its own mean."""
    match new := new_of(ablation, prompts):
        case Mean():
            return _means(model, graph, prompts, new, memory, method)
        case FromOther():
            prompts.require_corruption(method.upper())
        case Fill():
            pass
        case _:
            raise UnsupportedError(
                f"Expected an ablation that edges can carry, got {ablation!r}; use zero, mean or resample."
            )
    return RemovedWrites(model, graph, prompts, new)


def _means(
    model: TraceModel, graph: Graph, prompts: PromptSet, mean: Mean, memory: Memory, method: str
) -> RemovedWrites:
    if mean.reference is None and mean.side == "corrupted":
        prompts.require_corruption(method.upper())
    rows = rows_of_reference(prompts, mean.reference_for(prompts), mean)
    own = mean.reference is None and mean.side == "clean" and mean.over != "global"
    if own and len(rows.unique()) == len(prompts):
        raise InputError(
            f"Expected several prompts of a group, got {len(prompts)} in as many groups, so that each is its own mean "
            "and every score 0; take more prompts, or over='position'."
        )
    reference = mean.reference_for(prompts)
    held = 2 * (int(rows.max()) + 1) * bytes_of_writes(model, graph, reference, 1)
    at_once = scored_at_once(model, graph, prompts, memory, held=held)
    return RemovedWrites(model, graph, prompts, mean, mean_writes(model, graph, reference, mean, at_once), held)


@torch.no_grad()
def mean_writes(
    model: TraceModel, graph: Graph, reference: PromptSet, mean: Mean, at_once: int
) -> Float[Tensor, "node group pos d_model"]:
    """What every node writes on average, batch by batch; under "global" the same at each position."""
    groups = _groups(reference, mean)
    n, width = int(groups.max()) + 1, reference.clean.shape[1]
    total = torch.zeros(len(graph.nodes), n, width, model.cfg.d_model, dtype=model.W_E.dtype, device=model.W_E.device)
    count = total.new_zeros(n, width)
    for rows in track(reference.batches(at_once), "means"):
        some = reference[rows]
        member = one_hot(groups[rows], n)[:, :, None] * some.mask[:, None]
        member = member.to(total)
        here = slice(some.clean.shape[1])
        total[:, :, here] += einsum(
            member, writes_of(model, graph, some.side(mean.side)),
            "batch group pos, node batch pos d -> node group pos d",
        )  # fmt: skip
        count[:, here] += member.sum(0)
    if mean.over == "global":
        total, count = total.sum(2, keepdim=True).expand_as(total), count.sum(1, keepdim=True).expand_as(count)
    return total / count.clamp(min=1)[:, :, None]


def _groups(reference: PromptSet, mean: Mean) -> Int[Tensor, " batch"]:
    return reference.groups if mean.over == "group" else torch.zeros_like(reference.groups)
