"""`Effects`: the metric before and after each intervention, per prompt."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any

from jaxtyping import Float
from torch import Tensor

from llmtrace.errors import InputError
from llmtrace.methods import with_conventions
from llmtrace.nodes import Head, KvHead, Place, Port, Position, Site, parse_place, place_of
from llmtrace.results import Result
from llmtrace.statistics import bootstrap_interval, bootstrap_ratio

if TYPE_CHECKING:
    import pandas as pd

Rows = Annotated[
    slice | int | list[int], "a whole number, a list of these or a slice (of('3.2') is one place's change)"
]


@dataclass(frozen=True, eq=False)
class Effects(Result):
    """One intervention per entry of `nodes` (each entry: the places changed together).

    before      the metric on the run that is changed
    after       the metric with the intervention
    other       the metric on the run that values are taken from, if any: what changing everything would give
    passes      forward passes of the model that this cost, in full passes over the prompts
    direct      the metric when only what the places wrote to the logits directly is changed, where that was asked
    group       query heads per key-value head of the model
    tokens      position -> token, where all prompts agree on it or there is one: for axes
    """

    nodes: tuple[tuple[Place, ...], ...]
    before: Float[Tensor, " batch"]
    after: Float[Tensor, "node batch"]
    other: Float[Tensor, " batch"] | None
    method: str
    metric: str
    provenance: Mapping[str, Any]
    passes: float
    options: Mapping[str, Any] = field(default_factory=dict)
    direct: Float[Tensor, "node batch"] | None = None
    group: int = 1
    tokens: Mapping[Position, str] = field(default_factory=dict)

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(" + ".join(place.label for place in together) for together in self.nodes)

    @property
    def told(self) -> str:
        """The method with its conventions, by which its numbers differ."""
        return with_conventions(self.method, self.options, ("convention", "direction"))

    @property
    def change(self) -> Float[Tensor, "node batch"]:
        """after - before: negative where what was replaced was carrying the metric."""
        return self.after - self.before

    def mean(self) -> Float[Tensor, " node"]:
        """Mean change over prompts."""
        return self.change.mean(1)

    def of(self, *nodes: Place | str) -> Float[Tensor, " batch"]:
        """The change of one intervention, Head(3, 2) or "3.2". Raises NotFoundError when it was not made."""
        return self.change[place_of(tuple(map(self._named, nodes)), self.nodes, self.method)]

    def _named(self, written: Place | str) -> Any:
        """A place by its name, as tables have it or as it is written anywhere else."""
        if not isinstance(written, str):
            return written
        known = {name: place for together in self.nodes for place in together for name in (place.label, str(place))}
        return known.get(written) or (written if "->" in written else parse_place(written))

    def normalised(self) -> Float[Tensor, " node"]:
        """Mean change as a share of the whole way from this run to the other one: 0 nothing, 1 all of it.

        Raises InputError when there is no other run or both runs give the same mean.
        """
        return self.mean() / self._way.mean()

    def self_repair(self) -> Float[Tensor, "node batch"]:
        """What later parts made up for: change of the metric less the direct effect that was taken away.

        Of opposite sign to the direct effect where they compensate (McGrath et al. 2023; Rushing and Nanda 2024).
        Raises InputError where the direct effects are not known.
        """
        if self.direct is None:
            raise InputError(f"{self.method} did not measure direct effects here; ablate heads or MLPs one at a time.")
        return self.after - self.direct

    def interval(self, *, level: float = 0.95, seed: int = 0) -> tuple[Float[Tensor, " node"], Float[Tensor, " node"]]:
        """Bootstrap interval of the mean change over prompts: (low, high)."""
        return bootstrap_interval(self.change, level=level, seed=seed)

    def normalised_interval(
        self, *, level: float = 0.95, seed: int = 0
    ) -> tuple[Float[Tensor, " node"], Float[Tensor, " node"]]:
        """Bootstrap interval of `normalised`: both means are taken over the same resampled prompts."""
        return bootstrap_ratio(self.change, self._way, level=level, seed=seed)

    def top(self, k: int = 10) -> list[tuple[tuple[Place, ...], float]]:
        """The `k` largest mean changes by magnitude."""
        means = self.mean().tolist()
        ranked = sorted(range(len(means)), key=lambda i: -abs(means[i]))[:k]
        return [(self.nodes[i], means[i]) for i in ranked]

    def ports(self, slot: str, k: int = 3, *, sign: int = 0) -> list[Port]:
        """The q, k or v ports of the `k` heads with the largest mean changes: the receivers of the next step back.

        sign   -1: only heads whose replacement lowered the metric, +1: only those that raised it, 0: either
        With grouped-query attention k and v are those of the key-value head that the query head reads.
        """
        if slot not in ("q", "k", "v"):
            raise InputError(f"Expected the slot 'q', 'k' or 'v', got {slot!r}.")
        heads = [
            nodes[0]
            for nodes, change in self.top(len(self.nodes))
            if len(nodes) == 1 and isinstance(nodes[0], Head) and (not sign or change * sign > 0)
        ]
        if not heads:
            raise InputError(f"Expected effects of single heads to take the {slot} ports of, got none.")

        def port(head: Head) -> Port:
            shared = self.group > 1 and slot != "q"
            return Port(KvHead(head.layer, head.head // self.group) if shared else head, slot)

        return list(dict.fromkeys(port(head) for head in heads[:k]))

    def __getitem__(self, rows: Rows) -> Effects:
        """Some of the interventions, by their places in the list."""
        chosen = list(
            range(len(self.nodes))[rows] if isinstance(rows, slice) else [rows] if isinstance(rows, int) else rows
        )
        if outside := [row for row in chosen if not -len(self.nodes) <= row < len(self.nodes)]:
            raise InputError(f"Expected rows 0 to {len(self.nodes) - 1}, got {outside[0]}; see labels.")
        return replace(
            self, nodes=tuple(self.nodes[i] for i in chosen), after=self.after[chosen],
            direct=None if self.direct is None else self.direct[chosen],
        )  # fmt: skip

    def __iter__(self) -> Iterator[Effects]:
        return (self[row] for row in range(len(self.nodes)))

    def df(self) -> pd.DataFrame:
        """One row per intervention: where, metric before and after, change and its interval, and where they are defined
        the share of the way with its interval, the direct effect and the self-repair."""
        import pandas as pd

        low, high = self.interval()
        table: dict[str, Any] = {
            "node": self.labels,
            "layer": [getattr(together[0], "layer", None) for together in self.nodes],
            "before": self.before.mean().item(),
            "after": self.after.mean(1).tolist(),
            "change": self.mean().tolist(),
            "low": low.tolist(),
            "high": high.tolist(),
        }
        if all(len(together) == 1 and isinstance(together[0], Site) for together in self.nodes):
            sites = [together[0] for together in self.nodes]
            table |= {"kind": [s.kind for s in sites], "head": [s.index for s in sites]}  # type: ignore[union-attr]
            table |= {"position": ["+".join(map(str, s.at)) or "all" for s in sites]}  # type: ignore[union-attr]
        with suppress(InputError):  # no other run, or one that gives the same metric: there is no share to state
            share_low, share_high = self.normalised_interval()
            table["share"] = self.normalised().tolist()
            table |= {"share_low": share_low.tolist(), "share_high": share_high.tolist()}
        if self.direct is not None:
            table["direct"] = (self.direct - self.before).mean(1).tolist()
            table["self_repair"] = self.self_repair().mean(1).tolist()
        return pd.DataFrame(table)

    @property
    def _way(self) -> Float[Tensor, " batch"]:
        """other - before, refused where its mean is nothing."""
        if self.other is None:
            raise InputError(f"{self.method} has no other run to normalise by; read .mean() instead.")
        way = self.other - self.before
        if way.mean().abs() <= 1e-6 * max(1e-12, self.before.abs().mean().item()):
            raise InputError(
                "Clean and corrupted runs give the same metric, so no share of the way can be stated; "
                "read .mean(), or choose another corruption."
            )
        return way

    def __repr__(self) -> str:
        leaders = ", ".join(
            f"{' + '.join(place.label for place in together)} {value:+.3g}" for together, value in self.top(3)
        )
        return (
            f"Effects({self.told} on {self.metric}: {len(self.nodes)} interventions, {len(self.before)} prompts, "
            f"before {self.before.mean().item():.3g}; {leaders})"
        )
