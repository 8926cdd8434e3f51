"""Runs that are kept: what later passes restart from, and what they take over.

A base run keeps the residual streams that enter some layers, and the keys and values from the first of these on, so
that a pass may enter there, at any position. Another run keeps only the activations that changes take from it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor

from llmtrace.interventions.engine.hooks import keeper
from llmtrace.models import (
    Hook,
    KeysValues,
    TraceModel,
    describe,
    final_residual,
    resume,
    run_and_keep,
)
from llmtrace.models.hook_names import site_name


@dataclass(frozen=True, eq=False)
class BaseRun:
    """A run of `tokens`. `resid[layer]` enters that layer, `final` would enter the layer after the last. `past` is None
    where a pass must run all positions (bridges, attention in both directions) or nobody restarts behind the first."""

    tokens: Int[Tensor, "batch pos"]
    resid: Mapping[int, Float[Tensor, "batch pos d_model"]]
    final: Float[Tensor, "batch pos d_model"]
    past: Sequence[KeysValues | None] | None

    def restart(
        self, model: TraceModel, layer: int, hooks: Iterable[Hook] = (), *, first: int = 0, times: int = 1,
        until: int | None = None,
    ) -> Float[Tensor, "rows pos d_model"]:  # fmt: skip
        """Go on from layer `layer` and position `first`, `times` copies of the prompts stacked: the residual stream
        that leaves the last layer (or enters `until`), from `first` on."""
        if layer not in self.resid:  # the layer after the last
            return self.final[:, first:].repeat(times, 1, 1)
        stream = self.resid[layer][:, first:].repeat(times, 1, 1)
        past = None
        if first:
            assert self.past is not None, "this run kept no keys and values"
            past = [kept and KeysValues(kept.keys[:, :first], kept.values[:, :first]) for kept in self.past]
        return resume(model, stream, layer, hooks, tokens=self.tokens, past=past, until=until)


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


def keep_base(
    model: TraceModel, tokens: Int[Tensor, "batch pos"], hooks: Iterable[Hook] = (), *, layers: Collection[int],
    past: bool,
) -> BaseRun:  # fmt: skip
    """One forward pass without unembedding; `hooks` may change it. `layers`: those that passes restart from, `past`: at
    later positions too."""
    streams: dict[str, Tensor] = {}
    n_layers = describe(model).n_layers
    names = {layer: site_name("resid_pre", layer) for layer in sorted(layers) if layer < n_layers}
    installed = [*hooks, *(keeper(name, streams) for name in names.values())]
    kept: list[KeysValues | None] | None = None
    if past:
        final, later = run_and_keep(model, tokens, installed, since=min(names))
        kept = [*[None] * min(names), *later]
    else:
        final = final_residual(model, tokens, installed)
    return BaseRun(tokens, {layer: streams[name] for layer, name in names.items()}, final, kept)


def keep_sites(
    model: TraceModel, tokens: Int[Tensor, "batch pos"], names: Iterable[str], *,
    at: Int[Tensor, "batch slot"] | None = None,
) -> dict[str, Tensor]:  # fmt: skip
    """The named activations of one forward pass (`at`: at these positions), and the final residual stream as
    `resid_pre` of the layer after the last."""
    kept: dict[str, Tensor] = {}
    end = site_name("resid_pre", describe(model).n_layers)
    kept[end] = final_residual(model, tokens, [keeper(name, kept, at) for name in dict.fromkeys(names) if name != end])
    return kept
