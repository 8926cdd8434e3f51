"""Ablation: what the metric is without a node, everything downstream free to react.

    zero       its output becomes 0
    mean       its output becomes a mean over a reference: per position and template group (the knock-out of Wang et al.
               2022), per position, or over everything
    resample   its output becomes what it is on the corrupted prompt
    value      its output becomes the given vector

of heads, MLPs, neurons, any activation, or of edges: then one port alone reads the writer so.
A node's output is z of a head, mlp_out of an MLP, the post-activation of a neuron. Beside the effect stands the
*direct* effect that was taken away; what they differ by, later parts made up for (`Effects.self_repair`).

Source: Wang et al. 2022; McGrath et al. 2023 (self-repair). Cost: one pass to keep, one for a mean or the other run,
then each node from its own layer on. Sign: negative change = the node supports the metric. Known failure: backup heads
hide what is missing, and zero is far from anything the model has seen.

    >>> lt.interventions.ablate(model, prompts)
    Effects(mean ablation on logit_diff: 36 interventions, 4 prompts, before 8.72; MLP 0 -8.87, MLP 2 -8.48, 2.2 -7.58)
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from jaxtyping import Float
from torch import Tensor

from llmtrace.errors import InputError, UnsupportedError, require_one_of
from llmtrace.interventions.effects import Effects
from llmtrace.interventions.engine.changes import Change, EdgeChange, Fill, FromOther, Mean, New, Value
from llmtrace.interventions.engine.places import Masks, Written, read_place, site_of
from llmtrace.interventions.engine.ports import WRITERS
from llmtrace.interventions.engine.sweep import Sweep
from llmtrace.interventions.rows import ABLATIONS, OVER
from llmtrace.methods import Method
from llmtrace.metrics import MetricLike
from llmtrace.models import Architecture, TraceModel, describe, require_additive
from llmtrace.models.memory import Memory
from llmtrace.nodes import Edge, Node, Position, Site, parse_edge
from llmtrace.plan import Declaration, declares
from llmtrace.prompts import PromptSet, as_prompts, metric_of
from llmtrace.prompts.choice import Choice

Over = Literal["group", "position", "global"]
Reference = Literal["corrupted", "clean"] | PromptSet


@declares
def ablate(
    model: TraceModel,
    prompts: PromptSet,
    nodes: Sequence[Written | Edge] | None = None,
    *,
    ablation: str = "mean",
    over: Over = "group",
    reference: Reference = "corrupted",
    value: Float[Tensor, " d"] | float | None = None,
    positions: Choice | None = None,
    together: bool = False,
    metric: MetricLike | None = None,
    memory: Memory = "auto",
    resume: str | Path | None = None,
) -> Declaration[Effects]:
    """Ablate each node in turn (default: all heads and MLPs), or all of `nodes` together.

    ablation    a row of `ABLATIONS`
    nodes       heads, MLPs, neurons, sites or edges, as values or text ("9.6", "m3.n12", "a5.h5->a8.h6<v>")
    over        what a mean is taken over: "group" (per position), "position", or "global" (prompts and positions)
    reference   the prompts of the mean: these prompts' "corrupted" or "clean" side, or the clean side of another
                PromptSet (held-out prompts)
    value       the vector of ablation="value", or one number for all of it
    positions   ablate there only, names or indices (default: everywhere)
    memory      bytes, or "auto"
    resume      a file for partial results, taken up where it is there

    Raises InputError for an unknown ablation, a node the model does not have, no node at all, or prompts without the
    corruption that the ablation reads.
    """
    arch = describe(model)
    row = _row(ablation, over, value)
    at = () if positions is None else prompts.chosen(positions)
    places = _read(nodes, at, arch, prompts)
    if any(isinstance(place, Edge) for place in places):
        require_additive(model, "Ablating edges")
    bound = metric_of(model, prompts, metric)
    if isinstance(reference, PromptSet):
        as_prompts(model, reference)
    else:
        prompts.side(reference)
    by_reference = "reference" in row.needs
    if not by_reference and (over != "group" or reference != "corrupted"):
        raise InputError(f"Expected over= and reference= with a mean, got ablation={ablation!r}; leave them out.")
    if "corrupted" in row.needs or (by_reference and reference == "corrupted"):
        prompts.require_corruption(f"{ablation.capitalize()} ablation")
    masks = Masks(prompts)
    new, where = row(prompts, over, reference, value), masks[at]
    changes: list[Change | EdgeChange] = []
    for place in places:
        if isinstance(place, Edge):
            changes.append(EdgeChange(place.port, Change(site_of(place.writer, arch), new, where)))
        else:
            site = site_of(place, arch)
            changes.append(Change(site, new, masks[site.at]))
    variants = [changes] if together else [[change] for change in changes]
    other = prompts.corrupted if prompts.has_corruption else None
    options = {
        "ablation": ablation,
        "together": together,
        **({"over": over, "reference": getattr(reference, "name", reference)} if by_reference else {}),
        **({"positions": "+".join(map(str, at))} if at else {}),
    }
    return Sweep(
        model=model, prompts=prompts, metric=bound, base=prompts.clean, other=other, variants=variants,
        direct=_adds_up(model, changes), nodes=(places,) if together else tuple((place,) for place in places),
        method=f"{ablation} ablation", options=options, memory=memory, resume=resume, label="ablating",
    )  # fmt: skip


def _read(
    nodes: Sequence[Written | Edge] | None, at: tuple[Position, ...], arch: Architecture, prompts: PromptSet
) -> tuple[Node | Site | Edge, ...]:
    if nodes is not None and (isinstance(nodes, str) or not isinstance(nodes, Sequence)):
        raise InputError(f"Expected a list of nodes to ablate, got {nodes!r} alone; put it in a list: [Head(9, 6)].")
    written = (*arch.heads, *arch.mlps) if nodes is None else tuple(nodes)
    if not written:
        raise InputError("Expected a list of nodes to ablate, got none; leave nodes out for all heads and MLPs.")
    found: list[Node | Site | Edge] = []
    for node in written:
        edge: Any = parse_edge(node) if isinstance(node, str) and "->" in node else node
        if isinstance(edge, Edge):
            found.append(_require_edge(edge, arch))
        else:
            found.append(read_place((edge, at) if at else edge, arch, prompts))
    return tuple(found)


def _require_edge(edge: Edge, arch: Architecture) -> Edge:
    arch.require(edge.writer)
    arch.require_port(edge.port)
    if not arch.reads(edge.port, edge.writer):
        raise InputError(f"{edge} is not an edge of this model: {edge.port} reads before {edge.writer} writes.")
    return edge


def _row(ablation: str, over: str, value: Tensor | float | None) -> Method:
    for what, said, known in (("ablation", ablation, tuple(ABLATIONS)), ("over", over, OVER.one_of)):
        require_one_of(what, known, said)
    row = ABLATIONS[ablation]
    if ("value" in row.needs) != (value is not None):
        raise InputError(
            f"Expected value= with ablation='value' and only there, got ablation={ablation!r}; say both or neither."
        )
    return row


def zero(prompts: PromptSet, over: Over, reference: Reference, value: Tensor | float | None) -> New:
    return Fill(0.0)


def mean(prompts: PromptSet, over: Over, reference: Reference, value: Tensor | float | None) -> New:
    return Mean(over, "clean", reference) if isinstance(reference, PromptSet) else Mean(over, reference)


def resample(prompts: PromptSet, over: Over, reference: Reference, value: Tensor | float | None) -> New:
    return FromOther()


def given(prompts: PromptSet, over: Over, reference: Reference, value: Tensor | float | None) -> New:
    assert value is not None, "ablate asks for it"
    return Value(value.expand(*prompts.clean.shape, *value.shape)) if isinstance(value, Tensor) else Fill(value)


def _adds_up(model: TraceModel, changes: Sequence[Change | EdgeChange]) -> bool:
    """Whether what changes is written, and writes reach the residual stream as they are: so that there are direct
    effects to speak of."""
    kinds = {change.site.kind if isinstance(change, Change) else "edge" for change in changes}
    if not kinds <= set(WRITERS):
        return False
    of_neurons = "mlp_post" in kinds
    try:
        require_additive(model, "A direct effect", reads=(), recomputes=("mlp writes",) if of_neurons else ())
    except UnsupportedError:
        return False
    return True
