"""Values become hooks here and nowhere else; `models.final_residual` and `resume` install and remove them.

Several interventions ride in one batch: variant i occupies rows i * batch to (i + 1) * batch of the stacked prompts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from llmtrace.interventions.values import Replace
from llmtrace.models import Hook
from llmtrace.nodes import Head
from llmtrace.signals.sites import site_name


def hooks_of(variants: Sequence[Sequence[Replace]], batch: int) -> list[Hook]:
    """One hook per activation that any variant changes."""
    by_site: dict[str, list[tuple[slice, Replace]]] = {}
    for index, variant in enumerate(variants):
        rows = slice(index * batch, (index + 1) * batch)
        for replace in variant:
            kind = "z" if isinstance(replace.node, Head) else "mlp_out"
            by_site.setdefault(site_name(kind, replace.node.layer), []).append((rows, replace))
    return [(name, _replacer(changes)) for name, changes in by_site.items()]


def _replacer(changes: list[tuple[slice, Replace]]) -> Callable[[Tensor], Tensor]:
    def replaced(value: Tensor) -> Tensor:
        value = value.clone()
        for rows, replace in changes:
            if isinstance(replace.node, Head):
                value[rows, :, replace.node.head] = replace.value.to(value)
            else:
                value[rows] = replace.value.to(value)
        return value

    return replaced
