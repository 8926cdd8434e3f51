"""What is decided on the way to a circuit: where runs begin to differ, when the mask is as sparse as asked, which node
is needed least."""

from __future__ import annotations

import importlib
import math

import pytest
import torch
from tiny import ALL, prompts

from llmtrace import circuits
from llmtrace.circuits import Graph
from llmtrace.circuits.evaluation.completeness import Completeness, Minimality
from llmtrace.circuits.evaluation.thorough import Details
from llmtrace.models.hook_names import site_name
from llmtrace.nodes import Mlp

pruning = importlib.import_module("llmtrace.circuits.discovery.edge_pruning")


def test_runs_are_shared_up_to_the_first_token_that_differs_but_not_where_a_hook_may_change_them() -> None:
    """A model that looks back only writes the same on both sides until then; with hooks nobody knows."""
    model, p = ALL[0].model, prompts()
    expected = next(at for at in range(p.clean.shape[1]) if bool((p.clean[:, at] != p.corrupted[:, at]).any()))
    hook = (site_name("resid_pre", 0), lambda stream: stream)
    assert circuits.background(model, p, "resample").first == expected > 0
    assert circuits.background(model, p, "resample", hooks=[hook]).first == 0


@pytest.mark.parametrize(("done", "share"), [(4, 1.0), (8, 1.0), (9, 1.0), (2, 0.6)])
@pytest.mark.parametrize("off", [0.0, 0.1])
def test_the_mask_is_to_be_as_sparse_as_asked_from_half_the_steps_on(done: int, share: float, off: float) -> None:
    """The goal grows with the steps and stays where it is from half of them on. A mask at its goal is pushed neither
    way; one that is off by d has the slopes -d and d squared."""
    graph = Graph(2, 2, 2, parallel=False, attn_only=False)
    open_ones = torch.tensor(1 - share * (1 - 12 / graph.n_edges) - off, dtype=torch.float64)
    logit = float(torch.logit(open_ones)) + pruning.BETA * math.log(-pruning.GAMMA / pruning.ZETA)
    gates = pruning._Gates(graph, torch.full(graph.real.shape, logit), 12, 10, 0.1, 0)
    gates.step = done
    gates.descend(0 * gates.logits.sum())
    assert gates.multipliers.grad.tolist() == pytest.approx([-off, off**2], abs=1e-6)


def test_the_least_needed_node_is_the_one_that_changes_least_either_way() -> None:
    loss = torch.tensor([[-3.0, -1.0], [0.4, 0.6]], dtype=torch.float64)
    one = torch.ones(1, 2, dtype=torch.float64)
    details = Details(one[0], one[0], Completeness(((),), one, one, "m"), Minimality((Mlp(0), Mlp(1)), loss, "m"), None)
    assert details.rows()["least needed node"] == pytest.approx(0.5)
