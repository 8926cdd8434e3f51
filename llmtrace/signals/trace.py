"""`Trace`: what `capture` returns. Activations by TransformerLens name, the tokens, and where the numbers come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxtyping import Int
from torch import Tensor

from llmtrace.errors import NotFoundError, did_you_mean


@dataclass(frozen=True, eq=False)
class Trace:
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

    def __getitem__(self, name: str) -> Tensor:
        """The activation of that TransformerLens name. Raises NotFoundError when it was not captured."""
        if name not in self.activations:
            raise NotFoundError(
                f"{name!r} was not captured; this trace holds {len(self.activations)} activations. "
                f"Capture it with what=({name!r},).{did_you_mean(name, list(self.activations))}"
            )
        return self.activations[name]

    def __contains__(self, name: str) -> bool:
        return name in self.activations

    @property
    def layers(self) -> tuple[int, ...]:
        """Layers of which something was captured."""
        found = {int(name.split(".")[1]) for name in self.activations if name.startswith("blocks.")}
        return tuple(sorted(found))

    def save(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Write `trace.json` and `tensors.safetensors` into the folder `path`, atomically."""
        from llmtrace.signals.files import save_trace

        return save_trace(self, path, overwrite=overwrite)

    def __repr__(self) -> str:
        return (
            f"Trace({self.prompts}, {self.side}: {len(self.tokens)} prompts x {self.tokens.shape[1]} tokens, "
            f"{len(self.activations)} activations of {self.provenance['model']})"
        )

    def _repr_html_(self) -> str:
        rows = "".join(f"<tr><td><code>{n}</code></td><td>{_shape(self.activations, n)}</td></tr>" for n in self.activations)
        return f"<p>{self!r}</p><details><summary>activations</summary><table>{rows}</table></details>"


def _shape(activations: Mapping[str, Tensor], name: str) -> str:
    return " x ".join(map(str, activations[name].shape))
