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
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from jaxtyping import Float
from torch import Tensor

from llmtrace.errors import InputError, UnsupportedError
from llmtrace.interventions.declared import Declared
from llmtrace.interventions.effects import Effects
from llmtrace.interventions.engine import Sweep
from llmtrace.interventions.places import Masks, Written, read_place, site_of
from llmtrace.interventions.ports import WRITERS
from llmtrace.interventions.values import Change, EdgeChange, Fill, FromOther, Mean, New, Value
from llmtrace.metrics import MetricLike
from llmtrace.models import Architecture, TraceModel, describe, require_additive
from llmtrace.models.budget import Memory
from llmtrace.nodes import Edge, Node, Position, Site, parse_edge
from llmtrace.prompts import PromptSet, as_prompts, metric_of

Mode = Literal["zero", "mean", "resample", "value"]
MODES = ("zero", "mean", "resample", "value")
Over = Literal["group", "position", "global"]
OVERS = ("group", "position", "global")


def ablate(
    model: TraceModel,
    prompts: PromptSet,
    nodes: Sequence[Written | Edge] | None = None,
    *,
    mode: Mode = "mean",
    over: Over = "group",
    reference: Literal["corrupted", "clean"] | PromptSet = "corrupted",
    value: Float[Tensor, " d"] | None = None,
    positions: Sequence[Position] | None = None,
    together: bool = False,
    metric: MetricLike | None = None,
    memory: Memory = "auto",
    resume: str | Path | None = None,
) -> Effects:
    """Ablate each node in turn (default: all heads and MLPs), or all of `nodes` together.

    nodes       heads, MLPs, neurons, sites or edges, as values or text ("9.6", "m3.n12", "a5.h5->a8.h6<v>")
    over        what a mean is taken over: "group" (per position), "position", or "global" (prompts and positions)
    reference   the prompts of the mean: these prompts' "corrupted" or "clean" side, or the clean side of another
                PromptSet (held-out prompts)
    value       the vector of mode="value"
    positions   ablate there only, names or indices (default: everywhere)
    memory      bytes, or "auto"
    resume      a file for partial results, taken up where it is there

    Raises InputError for an unknown mode, a node the model does not have, no node at all, or prompts without the
    corruption that the mode reads.
    """
    return plan_ablate(
        model, prompts, nodes, mode=mode, over=over, reference=reference, value=value, positions=positions,
        together=together, metric=metric, memory=memory,
    ).run(resume)  # fmt: skip


def plan_ablate(
    model: TraceModel,
    prompts: PromptSet,
    nodes: Sequence[Written | Edge] | None = None,
    *,
    mode: Mode = "mean",
    over: Over = "group",
    reference: Literal["corrupted", "clean"] | PromptSet = "corrupted",
    value: Float[Tensor, " d"] | None = None,
    positions: Sequence[Position] | None = None,
    together: bool = False,
    metric: MetricLike | None = None,
    memory: Memory = "auto",
) -> Declared:
    """The same, to be looked at before it is run: `.plan` says passes and memory, `.run()` gives the effects."""
    arch = describe(model)
    for what, given, known in (("mode", mode, MODES), ("over", over, OVERS)):
        if given not in known:
            raise InputError(f"Expected {what} to be one of {', '.join(known)}, got {given!r}; choose one.")
    if (mode == "value") != (value is not None):
        raise InputError(f"Expected value= with mode='value' and only there, got mode={mode!r}; say both or neither.")
    places = _read(nodes, positions, arch)
    if any(isinstance(place, Edge) for place in places):
        require_additive(model, "Ablating edges")
    bound = metric_of(model, prompts, metric)
    if isinstance(reference, PromptSet):
        as_prompts(model, reference)
    else:
        prompts.side(reference)
    if mode == "resample" or (mode == "mean" and reference == "corrupted"):
        prompts.require_corruption(f"{mode.capitalize()} ablation")
    masks = Masks(prompts)
    new, where = _new(mode, over, reference, value, prompts), masks[tuple(positions or ())]
    changes: list[Change | EdgeChange] = []
    for place in places:
        if isinstance(place, Edge):
            changes.append(EdgeChange(place.port, Change(site_of(place.writer, arch), new, where)))
        else:
            site = site_of(place, arch)
            changes.append(Change(site, new, masks[site.at]))
    variants = [changes] if together else [[change] for change in changes]
    other = prompts.corrupted if prompts.has_corruption else None
    writes = all(isinstance(change, Change) and change.site.kind in WRITERS for change in changes)
    sweep = Sweep(
        model, prompts, bound, variants, prompts.clean, other, memory=memory, label="ablating",
        direct=writes and _adds_up(model),
    )  # fmt: skip
    options = {
        "mode": mode,
        "together": together,
        **({"over": over} if mode == "mean" else {}),
        **({"reference": reference if isinstance(reference, str) else reference.name} if mode == "mean" else {}),
        **({"positions": "+".join(map(str, positions))} if positions else {}),
    }
    return Declared(sweep, (places,) if together else tuple((place,) for place in places), f"{mode} ablation", options)


def _read(
    nodes: Sequence[Written | Edge] | None, positions: Sequence[Position] | None, arch: Architecture
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
            found.append(read_place(edge if positions is None else (edge, list(positions)), arch))
    return tuple(found)


def _require_edge(edge: Edge, arch: Architecture) -> Edge:
    arch.require(edge.writer)
    arch.require_port(edge.port)
    if not arch.reads(edge.port, edge.writer):
        raise InputError(f"{edge} is not an edge of this model: {edge.port} reads before {edge.writer} writes.")
    return edge


def _new(mode: str, over: Any, reference: Any, value: Tensor | None, prompts: PromptSet) -> New:
    match mode:
        case "zero":
            return Fill(0.0)
        case "resample":
            return FromOther()
        case "value":
            assert value is not None
            return Value(value.expand(*prompts.clean.shape, *value.shape))
    return Mean(over, "clean", reference) if isinstance(reference, PromptSet) else Mean(over, reference)


def _adds_up(model: TraceModel) -> bool:
    """Whether writes reach the residual stream as they are, so that there are direct effects to speak of."""
    try:
        require_additive(model, "A direct effect")
    except UnsupportedError:
        return False
    return True
