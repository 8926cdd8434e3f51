"""Curves of prompts with unlike numbers of things, on one grid."""

from __future__ import annotations

import torch

from llmtrace.validation.checks.deletion_curves import Curves


def test_curves_on_the_grid_keep_their_ends_and_lie_on_straight_lines() -> None:
    """One prompt has its steps at 0, 1/2, 1; the other is done at once, and stays where it is."""
    share = torch.tensor([[0.0, 0.0], [0.5, 1.0], [1.0, 1.0]], dtype=torch.float64)
    values = torch.tensor([[[4.0, 8.0], [1.0, 2.0], [0.0, 2.0]]], dtype=torch.float64)
    curves = Curves(share, values, values.flip(1), values[0, 0], values[0, -1])
    assert curves.on_grid("deletion").tolist() == [[[4.0, 8.0], [1.0, 5.0], [0.0, 2.0]]]
