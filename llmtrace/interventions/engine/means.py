"""What a node says on average: the reference of mean ablation.

    over="group"      per position, over the prompts of one template group (the IOI paper's knock-out)
    over="position"   per position, over all prompts
    over="global"     over all prompts and real positions

Padding is left out. Cost: one forward pass over the reference prompts, and one table per activation.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from llmtrace.errors import InputError
from llmtrace.interventions.engine.base_run import keep_sites
from llmtrace.interventions.engine.changes import Change, Mean, Value
from llmtrace.interventions.engine.hooks import name_of, part
from llmtrace.models import TraceModel
from llmtrace.prompts import PromptSet
from llmtrace.shapes import PositionMask


@dataclass(frozen=True, eq=False)
class MeanTable:
    """Means of one activation: `rows[i]` says which row of `table` prompt i takes."""

    table: Float[Tensor, "group pos *rest"]
    rows: Int[Tensor, " batch"]

    def value(self, change: Change, rows: slice, width: int) -> Value:
        """The mean that a change puts in, for some prompts."""
        of_site = part(self.table, change.site)
        chosen = of_site[self.rows[rows].to(of_site.device)][:, :width]
        return Value(chosen.expand(chosen.shape[0], width, *chosen.shape[2:]))


def means_of(
    value: Float[Tensor, "reference pos *rest"], prompts: PromptSet, mean: Mean
) -> Float[Tensor, "batch width *rest"]:
    """What each prompt takes of an activation's mean over the reference, padding left out."""
    reference, width = mean.reference_for(prompts), prompts.clean.shape[1]
    per_group = mean.over == "group"
    groups = reference.groups if per_group else reference.groups * 0
    total, count = _sums(value, groups, reference.mask, len(reference.group_names) if per_group else 1)
    if mean.over == "global":
        total, count = total.sum(1, keepdim=True), count.sum(1, keepdim=True)
    chosen = _divided(total, count)[rows_of_reference(prompts, reference, mean).to(value.device)][:, :width]
    return chosen.expand(len(prompts), width, *chosen.shape[2:])


def mean_tables(
    model: TraceModel, prompts: PromptSet, changes: Iterable[Change], batch_size: int
) -> Mapping[tuple[str, Mean], MeanTable]:
    """The tables that changes to a mean read, each activation once."""
    wanted: dict[Mean, dict[str, None]] = {}
    for change in changes:
        if isinstance(change.new, Mean):
            wanted.setdefault(change.new, {})[name_of(change.site)] = None
    tables: dict[tuple[str, Mean], MeanTable] = {}
    for mean, names in wanted.items():
        reference = mean.reference_for(prompts)
        found = _tables(model, reference, tuple(names), mean, batch_size)
        rows = rows_of_reference(prompts, reference, mean)
        tables |= {(name, mean): MeanTable(table, rows) for name, table in found.items()}
    return tables


def _tables(
    model: TraceModel, reference: PromptSet, names: tuple[str, ...], mean: Mean, batch_size: int
) -> dict[str, Tensor]:
    per_group = mean.over == "group"
    n, groups = (len(reference.group_names), reference.groups) if per_group else (1, reference.groups * 0)
    sums: dict[str, tuple[Tensor, Tensor]] = {}
    for rows in reference.batches(batch_size):
        kept = keep_sites(model, reference.side(mean.side)[rows], names)
        for name in names:
            total, count = _sums(kept[name], groups[rows], reference.mask[rows], n)
            before = sums.get(name)
            sums[name] = (total, count) if before is None else (before[0] + total, before[1] + count)
    if mean.over == "global":
        sums = {name: (total.sum(1, keepdim=True), count.sum(1, keepdim=True)) for name, (total, count) in sums.items()}
    return {name: _divided(*of_name) for name, of_name in sums.items()}


def _sums(
    value: Float[Tensor, "batch pos *rest"], groups: Int[Tensor, " batch"], mask: PositionMask, n: int
) -> tuple[Float[Tensor, "group pos *rest"], Float[Tensor, "group pos"]]:
    """Per group and position: the sum over its prompts that are that long, and how many these are."""
    member = torch.nn.functional.one_hot(groups.to(value.device), n).to(value)
    real = mask.to(value)
    weights = member[:, :, None] * real[:, None, :]
    return torch.einsum("bgp,bp...->gp...", weights, value), weights.sum(0)


def _divided(total: Tensor, count: Tensor) -> Tensor:
    return total / count.clamp(min=1).reshape(*count.shape, *(1,) * (total.ndim - 2))


def rows_of_reference(prompts: PromptSet, reference: PromptSet, mean: Mean) -> Int[Tensor, " batch"]:
    """Which row of the reference's table each prompt takes: its group, by name.

    Refuses a reference without prompts of that group, or without one that is as long.
    """
    if mean.over == "global":
        return torch.zeros(len(prompts), dtype=torch.long)
    longest: dict[str, int] = {}
    for group, length in zip(reference.groups.tolist(), reference.lengths.tolist(), strict=True):
        name = reference.group_names[group] if mean.over == "group" else "all"
        longest[name] = max(length, longest.get(name, 0))
    names = [prompts.group_names[group] if mean.over == "group" else "all" for group in prompts.groups.tolist()]
    for name, length in zip(names, prompts.lengths.tolist(), strict=True):
        if longest.get(name, 0) < length:
            which = f"of the group {name!r} " if mean.over == "group" else ""
            raise InputError(
                f"Expected reference prompts {which}that are {length} tokens long, got none; make them from the same "
                "templates, or take the mean over='global'."
            )
    if mean.over == "position":
        return torch.zeros(len(prompts), dtype=torch.long)
    return torch.tensor([reference.group_names.index(name) for name in names])
