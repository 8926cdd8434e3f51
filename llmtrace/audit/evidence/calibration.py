"""Whether a value can be read as a probability: a logistic fit of it on one set, its error on another.

p = 1 / (1 + exp(-(a value + b)))                                              Platt 1999
ECE = sum over bins of  share of prompts in the bin  x  |mean p - share of True|      Naeini et al. 2015
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

BINS = 10


@dataclass(frozen=True)
class Platt:
    """A line through the log odds."""

    slope: float
    intercept: float

    def probability(self, values: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        return torch.sigmoid(self.slope * values.double() + self.intercept)


def platt(values: Float[Tensor, " n"], labels: Bool[Tensor, " n"]) -> Platt:
    """The line of largest likelihood, by Newton's method on standardised values, a little held back (ridge 1e-3) so
    that it stands where the classes are apart."""
    x, y = values.double(), labels.double()
    mean, spread = x.mean(), x.std().clamp(min=1e-12)
    design = torch.stack([(x - mean) / spread, torch.ones_like(x)], 1)
    held, w = torch.diag(torch.tensor([1e-3, 1e-3], dtype=torch.float64)), torch.zeros(2, dtype=torch.float64)
    for _ in range(50):
        p = torch.sigmoid(design @ w)
        slope = design.T @ (p - y) / len(y) + held @ w
        curve = (design * (p * (1 - p))[:, None]).T @ design / len(y) + held
        step = torch.linalg.solve(curve, slope)
        w = w - step
        if float(step.abs().max()) < 1e-10:
            break
    return Platt(float(w[0] / spread), float(w[1] - w[0] * mean / spread))


def reliability(
    probability: Float[Tensor, " n"], labels: Bool[Tensor, " n"], *, bins: int = BINS
) -> list[tuple[float, float, int]]:
    """(mean probability, share of True, prompts) of each bin that has any."""
    which = (probability * bins).long().clamp(max=bins - 1)
    found = []
    for one in range(bins):
        here = which == one
        if bool(here.any()):
            found.append((float(probability[here].mean()), float(labels[here].double().mean()), int(here.sum())))
    return found


def ece(probability: Float[Tensor, " n"], labels: Bool[Tensor, " n"], *, bins: int = BINS) -> float:
    """Expected calibration error: 0 where what is called 70 % happens in 70 % of the cases."""
    return sum(n * abs(p - y) for p, y, n in reliability(probability, labels, bins=bins)) / len(labels)
