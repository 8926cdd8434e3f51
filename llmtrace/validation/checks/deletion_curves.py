"""Deletion and insertion: the metric while things are taken away, or put back, in the order of a score.

    deletion(k)    metric without the first k                 a good order falls at once: small area
    insertion(k)   metric with the first k and nothing else   a good order rises at once: large area

n things of a prompt go in min(steps, n) steps of (nearly) equal size; areas are trapezoids over k / n, per prompt.
Source: Petsiuk et al. 2018 (RISE); Samek et al. 2017. Cost: 2 (steps - 1) F per order.
Known failure: curves need not be monotone, and both depend on what stands in for what is gone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from llmtrace.validation.checks.removal import Removal


@dataclass(frozen=True, eq=False)
class Curves:
    """The metric after each step, for some orders. `share` of the things that were moved by then, per prompt."""

    share: Float[Tensor, "step batch"]
    deletion: Float[Tensor, "order step batch"]
    insertion: Float[Tensor, "order step batch"]
    clean: Float[Tensor, " batch"]
    removed: Float[Tensor, " batch"]

    def areas(self, kind: str) -> Float[Tensor, "order batch"]:
        """In units of the metric: its mean over the whole way."""
        values: Tensor = getattr(self, kind)
        return torch.trapezoid(values, self.share.expand_as(values), dim=1)

    def on_grid(self, kind: str) -> Float[Tensor, "order step batch"]:
        """At equal shares 0 .. 1 for all prompts, between the steps by straight lines."""
        values: np.ndarray = getattr(self, kind).numpy()
        grid, shares = np.linspace(0, 1, len(self.share)), self.share.numpy()
        found = np.empty_like(values)
        for order in range(len(values)):
            for prompt in range(values.shape[2]):
                found[order, :, prompt] = np.interp(grid, shares[:, prompt], values[order, :, prompt])
        return torch.from_numpy(found)


def step_counts(n: Int[Tensor, " batch"], steps: int) -> Int[Tensor, "step batch"]:
    """How many things are moved after each step, 0 to n; a prompt with fewer things than steps is done earlier."""
    own = n.clamp(max=steps)
    longest = int(own.max())
    step = torch.minimum(torch.arange(longest + 1)[:, None], own)
    return (step * n + own // 2) // own


def measure(removal: Removal, places: Int[Tensor, "order batch unit"], steps: int) -> Curves:
    """Both curves of every order; their ends, which all orders share, are measured once."""
    there = removal.there
    counts = step_counts(there.sum(1), steps)
    first = places[:, None] < counts[:, :, None]  # order step batch unit
    inner = first[:, 1:-1]
    n_orders, n_inner = inner.shape[:2]
    sets = torch.cat([(inner & there).flatten(0, 1), (~inner & there).flatten(0, 1)])
    ends = torch.stack([torch.zeros_like(there), there])
    clean, removed, *between = removal.without(torch.cat([ends, sets])).double()
    deleted, inserted = torch.stack(between).unflatten(0, (2, n_orders, n_inner))
    start, end = (edge.expand(n_orders, 1, -1) for edge in (clean, removed))
    return Curves(
        share=counts.double() / there.sum(1),
        deletion=torch.cat([start, deleted, end], 1),
        insertion=torch.cat([end, inserted, start], 1),
        clean=clean,
        removed=removed,
    )
