"""Mean, variance and kurtosis of a stream of numbers in one pass: sums of powers about the mean, merged batch by batch.

    M_p = sum (x - mean)^p        two sets a, b are merged by Pebay's formulas (2008), which never subtract large sums

Exact up to rounding, whatever the order and the size of the batches. Memory: a few numbers per column.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass
class Moments:
    """Of `n` rows so far, a value for each column."""

    mean: Float[Tensor, " column"]
    m2: Float[Tensor, " column"]
    m3: Float[Tensor, " column"]
    m4: Float[Tensor, " column"]
    n: int = 0

    @classmethod
    def empty(cls, columns: int) -> Moments:
        mean, m2, m3, m4 = torch.zeros(4, columns, dtype=torch.float64)
        return cls(mean, m2, m3, m4)

    def add(self, rows: Float[Tensor, "row column"]) -> None:
        """Take in more rows."""
        if not len(rows):
            return
        mean = rows.mean(0)
        gap = rows - mean
        square = gap.square()
        self._merge(Moments(mean, square.sum(0), (square * gap).sum(0), square.square().sum(0), len(rows)))

    def _merge(self, b: Moments) -> None:
        a, n = self, self.n + b.n
        gap = b.mean - a.mean
        both, rate = a.n * b.n, gap / n
        m4 = a.m4 + b.m4 + gap * rate**3 * both * (a.n**2 - both + b.n**2)
        m4 = m4 + 6 * rate**2 * (a.n**2 * b.m2 + b.n**2 * a.m2) + 4 * rate * (a.n * b.m3 - b.n * a.m3)
        m3 = a.m3 + b.m3 + gap * rate**2 * both * (a.n - b.n) + 3 * rate * (a.n * b.m2 - b.n * a.m2)
        self.m2, self.m3, self.m4 = a.m2 + b.m2 + gap * rate * both, m3, m4
        self.mean, self.n = a.mean + rate * b.n, n

    @property
    def std(self) -> Float[Tensor, " column"]:
        return (self.m2 / self.n).sqrt()

    @property
    def kurtosis(self) -> Float[Tensor, " column"]:
        """n M4 / M2^2: 3 for a normal distribution, large for rare peaks, NaN where nothing varies."""
        return self.n * self.m4 / self.m2.square()
