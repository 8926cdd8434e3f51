"""An intervention is a frozen value: which activation, at which positions, and what becomes of it.

    Change       one activation (a `Site`) at some positions becomes `new`
    EdgeChange   the same, but only one port sees it
    Variant      changes that are made together: one run of the model

`new` is one of

    FromOther()          what the activation is in the other run (activation patching, resample ablation)
    Mean(over, side)     its mean over a reference (mean ablation)
    Value(tensor)        the given value (a path-patched query, a vector of the user's)
    Add(tensor)          what it is, plus a vector (steering, noise)
    ProjectOut(basis)    what it is, less its part in a subspace
    Fill(number)         a constant (zero ablation; -inf on scores knocks attention edges out)

`new.apply(live, given)`: the new value from the live one and from what was given at the changed places. Nothing here
touches a model; `hooks.py` turns changes into hooks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from jaxtyping import Float
from torch import Tensor

from llmtrace.nodes import Port, Site
from llmtrace.prompts import PromptSet
from llmtrace.shapes import PositionMask


@dataclass(frozen=True)
class FromOther:
    """What the activation is in the other run."""

    def apply(self, live: Tensor, given: Tensor | None) -> Tensor:
        assert given is not None, "the other run was not kept"
        return given


@dataclass(frozen=True)
class Mean:
    """The mean of the activation over the `side` tokens of the reference: these prompts, or others."""

    over: Literal["group", "position", "global"] = "group"
    side: Literal["clean", "corrupted"] = "corrupted"
    reference: PromptSet | None = None

    def reference_for(self, prompts: PromptSet) -> PromptSet:
        return prompts if self.reference is None else self.reference

    def apply(self, live: Tensor, given: Tensor | None) -> Tensor:
        raise AssertionError("a mean is a Value by the time that a model runs")


@dataclass(frozen=True, eq=False)
class Value:
    """A given value, for all positions of the prompts."""

    value: Float[Tensor, "batch pos *rest"]

    def apply(self, live: Tensor, given: Tensor | None) -> Tensor:
        assert given is not None, "hooks hand in the value at the changed places"
        return given


@dataclass(frozen=True, eq=False)
class Add:
    """A vector to be added: one for all, or one per prompt and position."""

    vector: Float[Tensor, " d"] | Float[Tensor, "batch pos d"]

    def apply(self, live: Tensor, given: Tensor | None) -> Tensor:
        return live + (self.vector.to(live) if given is None else given)


@dataclass(frozen=True, eq=False)
class ProjectOut:
    """x - (x . u) u for every row u of an orthonormal basis."""

    basis: Float[Tensor, "direction d"]

    def apply(self, live: Tensor, given: Tensor | None) -> Tensor:
        basis = self.basis.to(live)
        return live - (live @ basis.T) @ basis


@dataclass(frozen=True)
class Fill:
    """A constant."""

    number: float = 0.0

    def apply(self, live: Tensor, given: Tensor | None) -> Tensor:
        return live.new_full(live.shape, self.number)


New = FromOther | Mean | Value | Add | ProjectOut | Fill


@dataclass(frozen=True, eq=False)
class Change:
    """`where`: the positions, of attention the queries (None: all); `keys`: of attention, the keys (None: all)."""

    site: Site
    new: New
    where: PositionMask | None = None
    keys: PositionMask | None = None

    def of(self, rows: slice, width: int) -> Change:
        """The same of some prompts, the first `width` positions."""
        new: Any = self.new
        if isinstance(new, Value):
            new = Value(new.value[rows, :width])
        elif isinstance(new, Add) and new.vector.ndim > 1:
            new = Add(new.vector[rows, :width])
        cut = {name: mask[rows, :width] for name in ("where", "keys") if (mask := getattr(self, name)) is not None}
        return replace(self, new=new, **cut)


@dataclass(frozen=True, eq=False)
class EdgeChange:
    """`port` reads a writer as `writer` changes it; everybody else reads the writer as it is."""

    port: Port
    writer: Change

    def of(self, rows: slice, width: int) -> EdgeChange:
        """The same of some prompts, the first `width` positions."""
        return replace(self, writer=self.writer.of(rows, width))


Variant = Sequence[Change | EdgeChange]
