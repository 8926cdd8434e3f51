"""Runs that are kept: what later passes restart from, and what they take over.

A base run keeps every residual stream, and the keys and values of every layer, so that a pass may enter at any layer
and any position. Another run keeps only the activations that changes take from it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor

from llmtrace.models import (
    Hook,
    KeysValues,
    TraceModel,
    can_skip_positions,
    describe,
    final_residual,
    resume,
    run_and_keep,
)
from llmtrace.signals.sites import site_name


@dataclass(frozen=True, eq=False)
class BaseRun:
    """`resid[layer]` enters that layer; the last one is the final residual stream. `past` is None where a pass must run
    all positions (bridges, attention in both directions)."""

    resid: Sequence[Float[Tensor, "batch pos d_model"]]
    past: Sequence[KeysValues] | None

    def restart(
        self, model: TraceModel, layer: int, hooks: Iterable[Hook] = (), *, first: int = 0, times: int = 1,
        until: int | None = None,
    ) -> Float[Tensor, "rows pos d_model"]:  # fmt: skip
        """Go on from layer `layer` and position `first`, `times` copies of the prompts stacked: the residual stream
        that leaves the last layer (or enters `until`), from `first` on."""
        stream = self.resid[layer][:, first:].repeat(times, 1, 1)
        if layer == len(self.resid) - 1:
            return stream
        past = None
        if first:
            assert self.past is not None, "this run kept no keys and values"
            past = [KeysValues(kept.keys[:, :first], kept.values[:, :first]) for kept in self.past]
        return resume(model, stream, layer, hooks, past=past, until=until)


@dataclass(frozen=True, eq=False)
class Runs:
    """The base run and the other run of some prompts, and the metric of each.

    old     activations of the base run that changes are measured against (direct effects, edges)
    sites   activations of the other run
    """

    base: BaseRun
    old: Mapping[str, Tensor]
    sites: Mapping[str, Tensor]
    before: Float[Tensor, " batch"]
    whole: Float[Tensor, " batch"]


def keep_base(model: TraceModel, tokens: Int[Tensor, "batch pos"], hooks: Iterable[Hook] = ()) -> BaseRun:
    """One forward pass without unembedding; `hooks` may change it."""
    streams: dict[str, Tensor] = {}
    names = [site_name("resid_pre", layer) for layer in range(describe(model).n_layers)]
    installed = [*hooks, *(keeper(name, streams) for name in names)]
    past: list[KeysValues] | None = None
    if can_skip_positions(model):
        final, past = run_and_keep(model, tokens, installed)
    else:
        final = final_residual(model, tokens, installed)
    return BaseRun([*(streams[name] for name in names), final], past)


def keep_sites(
    model: TraceModel, tokens: Int[Tensor, "batch pos"], names: Iterable[str], hooks: Iterable[Hook] = ()
) -> dict[str, Tensor]:
    """The named activations of one forward pass, and the final residual stream as `resid_pre` of the layer after the
    last."""
    kept: dict[str, Tensor] = {}
    end = site_name("resid_pre", describe(model).n_layers)

    wanted = [keeper(name, kept) for name in dict.fromkeys(names) if name != end]
    kept[end] = final_residual(model, tokens, [*hooks, *wanted])
    return kept


def keeper(name: str, into: dict[str, Tensor]) -> Hook:
    """A hook that keeps an activation as it is at that moment."""
    return name, lambda value: into.__setitem__(name, value)
