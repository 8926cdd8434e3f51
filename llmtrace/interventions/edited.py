"""A model with edits on it for the length of a `with` block: what if, and then any question.

    with lt.interventions.edited(model, prompts, [Ablate("3.2", "mean"), KnockOut(2, 1, key=4)]):
        lt.influence.direct_logit_attribution(model, prompts)       the edited model's, or the function refuses

Edits are hooks, on top of whatever hooks there are, so what holds of hooks holds of them (README, "Your own hooks").
They change what `ablate`, `patch`, `knock_out` and `steer` change: these say the changes, here they are put on.

Source: Wang et al. 2022, where backup heads are found with the name movers knocked out. Sign: that of the function that
is called. Law: in the block the metric is what these functions say `after` is; after it the logits are the clean ones,
bit for bit, also where the block raises. Cost: at most 2 F for what is put in (the other prompt, a mean), then nothing
beside the block's own passes.
Known failure: what is put in is that of the model before the edits; prompts are stacked in a batch, so an edit that is
another one for each prompt is refused.

    >>> with lt.interventions.edited(model, prompts, [lt.interventions.Ablate("3.2", "zero")]):
    ...     print(lt.influence.direct_logit_attribution(model, prompts))
    NodeScores(direct_logit_attribution of logit_diff: 42 nodes, 4 prompts; MLP 3 +1.82, 3.5 +1.47, 3.3 -1.19)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from llmtrace.errors import InputError, UnsupportedError
from llmtrace.interventions.ablation import Over, Reference, ablate
from llmtrace.interventions.engine.base_run import keep_sites
from llmtrace.interventions.engine.changes import Change, EdgeChange, FromOther, Mean, Value
from llmtrace.interventions.engine.hooks import apply, name_of, part
from llmtrace.interventions.engine.means import MeanTable, mean_tables
from llmtrace.interventions.engine.places import Written
from llmtrace.interventions.engine.sweep import Sweep
from llmtrace.interventions.knockout import knock_out
from llmtrace.interventions.patching import patch
from llmtrace.interventions.steering import steer, steering_vector
from llmtrace.models import TraceModel, describe, require_live
from llmtrace.models.hook_names import query_axis
from llmtrace.models.lock import lock_of
from llmtrace.nodes import Head, Position
from llmtrace.prompts import PromptSet, as_prompts


@dataclass(frozen=True)
class Ablate:
    """The node is without what it says (`ablate`): "zero", "mean" or "resample"."""

    node: Written
    how: str = "mean"
    positions: Sequence[Position] | None = None
    over: Over = "group"
    reference: Reference = "corrupted"

    def declared(self, model: TraceModel, prompts: PromptSet) -> Sweep:
        by: dict[str, Any] = {"ablation": self.how, "positions": self.positions}
        by |= {"over": self.over, "reference": self.reference} if self.how == "mean" else {}
        return _sweep(ablate.declare(model, prompts, [self.node], **by, metric=_nothing))


@dataclass(frozen=True)
class PatchIn:
    """The node (or any activation) is what it is on the corrupted prompt (`patch`, noising)."""

    node: Written
    positions: Sequence[Position] | None = None

    def declared(self, model: TraceModel, prompts: PromptSet) -> Sweep:
        place: Any = self.node if self.positions is None else (self.node, self.positions)
        return _sweep(patch.declare(model, prompts, [place], direction="noising", metric=_nothing))


@dataclass(frozen=True)
class KnockOut:
    """A head (None: every head of the layer) no longer sees `key` from `query` (None: from any later token)."""

    layer: int
    head: int | None = None
    query: Position | None = None
    key: Position = 0

    def declared(self, model: TraceModel, prompts: PromptSet) -> Sweep:
        heads = None if self.head is None else [Head(self.layer, self.head)]
        queries = self._later(prompts) if self.query is None else [self.query]
        cut: dict[str, Any] = {"layers": [self.layer], "heads": heads}
        return _sweep(knock_out.declare(model, prompts, queries, [self.key], **cut, metric=_nothing))

    def _later(self, prompts: PromptSet) -> list[Position]:
        after = range(int(prompts.position(self.key).max()) + 1, int(prompts.lengths.min()))
        if not after:
            raise InputError(
                f"Expected a key with later tokens that look back at it, got {self.key!r}, the last one; name a query."
            )
        return list(after)


@dataclass(frozen=True)
class Steer:
    """What enters the layer gets the two prompts' difference at END (`steering_vector`), `coefficient` times, at every
    position (`steer`)."""

    layer: int
    coefficient: float = 1.0

    def declared(self, model: TraceModel, prompts: PromptSet) -> Sweep:
        place = f"resid_pre.{describe(model).require_layers([self.layer])[0]}"
        vector = steering_vector(model, prompts, place=place)
        by: dict[str, Any] = {"places": place, "coefficient": self.coefficient}
        return _sweep(steer.declare(model, prompts, vector, **by, metric=_nothing))


Edit = Ablate | PatchIn | KnockOut | Steer


@contextmanager
def edited(model: TraceModel, prompts: PromptSet | str | Sequence[str], edits: Sequence[Edit]) -> Iterator[TraceModel]:
    """The model with `edits` on it, in this thread alone, for the length of the block.

    prompts   whose positions the edits name, and whose corrupted side and means are put in. Other texts may be run in
              the block; longer ones only where the edits are alike at all positions
    edits     `Ablate`, `PatchIn`, `KnockOut`, `Steer`, made in this order where they are at one place

    Raises what `ablate`, `patch`, `knock_out` and `steer` raise, UnsupportedError for edits that differ from prompt to
    prompt.
    """
    prompts = as_prompts(model, prompts)
    with lock_of(model):
        by_name: dict[str, list[_Put]] = {}
        for edit in edits:
            for put in _puts(model, prompts, edit):
                by_name.setdefault(name_of(put.change.site), []).append(put)
        require_live(model, list(by_name))
        hooks = [(name, _hook(puts)) for name, puts in by_name.items()]
        with model.hooks(fwd_hooks=hooks):
            yield model


@dataclass(frozen=True, eq=False)
class _Put:
    """One change of one prompt, and its activation in the other run.

    width   of the prompts that it was made for; None: it is alike at all positions, of any text
    """

    change: Change
    other: Float[Tensor, "1 pos *rest"] | None
    width: int | None

    def into(self, live: Tensor) -> None:
        """Write it into an activation of any number of rows."""
        width = live.shape[query_axis(name_of(self.change.site))]
        if self.width is not None and width > self.width:
            raise UnsupportedError(
                f"Expected texts of at most {self.width} tokens, for which the edit at {self.change.site} was made, "
                f"got one of {width}; leave the edit out, or make it with the longer prompt."
            )
        other = None if self.other is None else self._for(live, self.other)
        new: Any = self.change.new
        if isinstance(new, Value):
            value = new.value if self.width else new.value[:, :1].expand(1, width, *new.value.shape[2:])
            new = Value(self._for(live, value))
        where, keys = (
            mask if mask is None else self._for(live, mask) for mask in (self.change.where, self.change.keys)
        )
        apply(Change(self.change.site, new, where, keys), part(live, self.change.site), other, 0)

    def _for(self, live: Tensor, one: Tensor) -> Tensor:
        """The same for every row, at the positions that there are."""
        return one[:, : live.shape[query_axis(name_of(self.change.site))]].expand(len(live), *(-1,) * (one.ndim - 1))


def _puts(model: TraceModel, prompts: PromptSet, edit: Edit) -> list[_Put]:
    """The changes of an edit, and what they put in."""
    changes = [change for variant in edit.declared(model, prompts).variants for change in variant]
    if whole := [change for change in changes if isinstance(change, EdgeChange)]:
        raise InputError(f"Expected a node or an activation to edit, got the edge to {whole[0].port}; name its writer.")
    nodes = [change for change in changes if isinstance(change, Change)]
    names = [name_of(change.site) for change in nodes if isinstance(change.new, FromOther)]
    others = keep_sites(model, prompts.corrupted, names) if names else {}
    means = mean_tables(model, prompts, nodes, len(prompts))
    return [_put(change, prompts, others.get(name_of(change.site)), means) for change in nodes]


def _put(change: Change, prompts: PromptSet, other: Tensor | None, means: Mapping[tuple[str, Mean], MeanTable]) -> _Put:
    """Of the first prompt, where it is that of all."""
    new, width = change.new, prompts.clean.shape[1]
    alike = change.where is None and change.keys is None
    if isinstance(new, Mean):
        change = replace(change, new=means[name_of(change.site), new].value(change, slice(None), width))
    anywhere = new.over == "global" if isinstance(new, Mean) else not isinstance(new, FromOther)
    value = change.new.value if isinstance(change.new, Value) else None
    for each in (change.where, change.keys, value, other):
        if each is not None and not torch.equal(each, each[:1].expand_as(each)):
            raise UnsupportedError(
                f"Expected an edit that is the same for each of {len(prompts)} prompts, which are stacked in a batch, "
                f"got another one for each at {change.site}; edit one prompt, such as prompts[0]."
            )
    one, its = change.of(slice(0, 1), width), None if other is None else other[:1]
    return _Put(one, its, None if alike and anywhere else width)


def _hook(puts: Sequence[_Put]) -> Callable[..., Tensor]:
    """A plain hook, as a user would write it: so it counts as one of the user's."""

    def edited_here(value: Tensor, hook: Any) -> Tensor:
        value = value.clone()
        for put in puts:
            put.into(value)
        return value

    return edited_here


def _sweep(declared: Any) -> Sweep:
    assert isinstance(declared, Sweep)
    return declared


def _nothing(logits: Tensor) -> Tensor:
    """A metric that no answer is needed for: nothing is measured here."""
    return logits[..., 0]
