"""What chosen heads, MLPs or neurons do: how far each is along its own way from one class to the other.

    activity(n) = (a_n - mean a_n) . u_n / |u_n| / deviation,     u_n = mean over True of a_n - mean over False of a_n
    value = mean over the nodes of activity(n)

`a_n` is a head's z, an MLP's output or a neuron's activation at the last token. Nodes are those that are named, or the
`count` heads that are furthest apart (in deviations) on labelled prompts.
Source: head-wise probes, Li et al. 2023. Cost: none beyond the shared pass.
Sign: larger = more like prompts at which the model did what is watched for.
Known failure: a node that is active need not be heard by any later one. Blind to other positions than the last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from llmtrace.audit.evidence.lever import Lever, Nodes
from llmtrace.audit.labelled import LabelledPrompts
from llmtrace.audit.layers import between
from llmtrace.audit.seen import Place, Seen, look
from llmtrace.audit.watch import Watch
from llmtrace.errors import InputError
from llmtrace.models import TraceModel, describe, provenance
from llmtrace.nodes import Head, Mlp, Neuron, Node

Watched = Head | Mlp | Neuron


@dataclass(frozen=True, eq=False)
class NodeActivity(Watch):
    """`ways[n]` has the length of what node n gives; `means`, `deviations`: of its projection, over the fit."""

    nodes: tuple[Node, ...]
    ways: tuple[Float[Tensor, " _"], ...]
    means: tuple[float, ...]
    deviations: tuple[float, ...]

    def places(self) -> tuple[Place, ...]:
        return tuple(dict.fromkeys(_place(node) for node in self.nodes))

    def value(self, seen: Seen) -> Float[Tensor, " batch"]:
        parts = [
            (_of(seen, node) @ way.to(_of(seen, node)) - mean) / deviation
            for node, way, mean, deviation in zip(self.nodes, self.ways, self.means, self.deviations, strict=True)
        ]
        return torch.stack(parts).mean(0)

    def lever(self) -> Lever:
        return Nodes(self.nodes)

    def evidence(self) -> dict[str, Any]:
        return {"nodes": [node.label for node in self.nodes]}


def fit(
    model: TraceModel, labelled: LabelledPrompts, *, nodes: Sequence[str | Node] | None = None, count: int = 6
) -> NodeActivity:
    """`nodes`: heads, MLPs and neurons, as values or text ("3.2", "m1", "m1.n7"); None: the `count` heads furthest
    apart.

    Raises InputError for a node that this model does not have.
    """
    labelled.require_both("to find a way between")
    arch = describe(model)
    named = arch.heads if nodes is None else arch.require_all([*nodes], (Head, Mlp, Neuron), "to watch")
    if count < 1:
        raise InputError(f"Expected at least one head to watch, got count={count}; leave it out for 6.")
    seen = look(model, labelled.prompts, labelled.spans, {_place(node) for node in named})
    fitted = [(node, *_fitted(_of(seen, node).double().cpu(), labelled)) for node in named]
    if nodes is None:
        fitted = sorted(fitted, key=lambda row: -row[-1])[:count]
    columns = list(zip(*fitted, strict=True))
    return NodeActivity("node_activity", provenance(model).as_dict(), *columns[:4])


def _fitted(a: Float[Tensor, "batch d"], labelled: LabelledPrompts) -> tuple[Float[Tensor, " d"], float, float, float]:
    """Unit way, mean and deviation along it within the classes, and how many deviations the classes are apart."""
    way = between(a, labelled.labels)
    unit = way / way.norm().clamp(min=1e-12)
    along = a @ unit
    within = torch.stack([along[some].std(correction=0) for some in (labelled.labels, ~labelled.labels)]).mean()
    deviation = max(float(within), 1e-6)
    return unit.float(), float(along.mean()), deviation, float(way.norm()) / deviation


def _place(node: Node) -> Place:
    assert isinstance(node, Watched), "no other node is fitted"
    return node.writes, node.layer


def _of(seen: Seen, node: Node) -> Float[Tensor, "batch d"]:
    found = seen.at_end[_place(node)].float()
    if isinstance(node, Head):
        return found[:, node.head]
    return found[:, [node.index]] if isinstance(node, Neuron) else found
