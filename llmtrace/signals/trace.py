"""`Trace`: what `capture` returns. Activations by TransformerLens name, the tokens, and where the numbers come from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from jaxtyping import Int
from torch import Tensor

from llmtrace.errors import NotFoundError, did_you_mean
from llmtrace.models.hook_names import kind_of, layer_of, named_site, site_name
from llmtrace.results import Result
from llmtrace.signals.trace_files import read_trace, write_trace

if TYPE_CHECKING:
    import pandas as pd

ActivationName = Annotated[
    str | tuple[str, int], "a TransformerLens name, or a kind and a layer such as ('pattern', 0)"
]


@dataclass(frozen=True, eq=False)
class Trace(Result):
    """One run of a model on a batch of prompts.

    activations  hook name -> tensor; position axes hold `kept` when it is set, else all positions
    tokens       [batch pos], right-padded; `lengths` says how many are real
    labels       the tokens as text, per prompt
    kept         [batch n] the position of each stored slot per prompt, or None for all
    kept_names   what those positions are called ("END", "S2", or a number)
    side         "clean" or "corrupted"
    provenance   model, weights, flags, dtype, versions (see `models.Provenance`)
    """

    activations: Mapping[str, Tensor]
    tokens: Int[Tensor, "batch pos"]
    lengths: Int[Tensor, " batch"]
    labels: tuple[tuple[str, ...], ...]
    kept: Int[Tensor, "batch n"] | None
    kept_names: tuple[str, ...]
    side: str
    prompts: str
    seed: int | None
    provenance: Mapping[str, Any]

    def __getitem__(self, name: ActivationName) -> Tensor:
        """The activation of that TransformerLens name, or of ("pattern", 0). Raises NotFoundError when it was not
        captured."""
        if isinstance(name, tuple):
            name = site_name(kind_of(name[0]), name[1])
        if name not in self.activations:
            if captured := [own for own in self.activations if named_site(own)[0] == kind_of(name)]:
                raise NotFoundError(
                    f"{name!r} was captured at {len(captured)} layers; read "
                    f"trace[{name!r}, {layer_of(captured[0])}] or trace[{captured[0]!r}]."
                )
            raise NotFoundError(
                f"{name!r} was not captured; this trace holds {len(self.activations)} activations. "
                f"Capture it with what=({name!r},).{did_you_mean(name, list(self.activations))}"
            )
        return self.activations[name]

    def __contains__(self, name: str) -> bool:
        return name in self.activations

    def __iter__(self) -> Iterator[str]:
        """The names, as of a dictionary."""
        return iter(self.activations)

    def __len__(self) -> int:
        return len(self.activations)

    def df(self) -> pd.DataFrame:
        """What was captured, a row per activation; the numbers themselves have too many shapes for one table."""
        import pandas as pd

        rows = [(name, layer_of(name), tuple(self[name].shape)) for name in self]
        return pd.DataFrame(rows, columns=["activation", "layer", "shape"])

    @property
    def layers(self) -> tuple[int, ...]:
        """Layers of which something was captured."""
        found = {layer for name in self.activations if (layer := layer_of(name)) is not None}
        return tuple(sorted(found))

    def save(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Write `trace.json` and `tensors.safetensors` into the folder `path`, atomically."""
        others = {"tokens": self.tokens, "lengths": self.lengths}
        header = {
            "prompts": self.prompts, "side": self.side, "seed": self.seed,
            "labels": [list(row) for row in self.labels], "kept_names": list(self.kept_names),
            "provenance": dict(self.provenance),
        }  # fmt: skip
        others |= {} if self.kept is None else {"kept": self.kept}
        return write_trace(path, self.activations, others, header, overwrite=overwrite)

    def __repr__(self) -> str:
        return (
            f"Trace({self.prompts}, {self.side}: {len(self.tokens)} prompts x {self.tokens.shape[1]} tokens, "
            f"{len(self.activations)} activations of {self.provenance['model']})"
        )

    def _repr_html_(self) -> str:
        names = "".join(f"<li><code>{name}</code></li>" for name in self.activations)  # reads nothing from disk
        return f"<p>{self!r}</p><details><summary>activations</summary><ul>{names}</ul></details>"


def load_trace(path: str | Path) -> Trace:
    """Read a trace folder; activations stay on disk until they are asked for.

    Raises NotFoundError when there is none, FileFormatError when it is truncated, tampered with, or of a newer schema.
    """
    manifest, stored = read_trace(path)
    return Trace(
        activations=stored,
        tokens=stored.read("tokens"),
        lengths=stored.read("lengths"),
        labels=tuple(tuple(row) for row in manifest.labels),
        kept=stored.read("kept") if manifest.kept_names else None,
        kept_names=tuple(manifest.kept_names),
        side=manifest.side,
        prompts=manifest.prompts,
        seed=manifest.seed,
        provenance=manifest.provenance,
    )
