"""Every method of the tables as a function of (model, prompts) that gives one thing per prompt: laws over all of them
need no more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from tiny import WIDTH

from llmtrace import circuits, influence, interventions
from llmtrace.circuits import Circuit, Graph
from llmtrace.methods import Method
from llmtrace.prompts import PromptSet

Scores = Callable[[Any, PromptSet], torch.Tensor]  # [batch ...]
TABLES = (influence.METHODS, interventions.METHODS, circuits.METHODS)

# What a method is asked for, beside (model, prompts): everything else is its row's own default.
ONES = torch.ones(WIDTH, dtype=torch.float64)
ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "patch": (["resid_pre.1@MID", ["resid_pre.0@MID", "attn_out.1"]],),
    "patch_sweep": ("attn_out",), "patch_chains": (["input -> logits"],), "knock_out": (["END"], ["MID"]),
    "zero_values": (["MID"],), "project_out": (ONES,), "steer": (ONES,),
}  # fmt: skip
OPTIONS: dict[str, dict[str, Any]] = {
    "raw_attention": {"layer": 1}, "value_weighted_norms": {"layer": 1}, "flow_routes": {"threshold": 0.0},
    "integrated_gradients": {"steps": 2}, "ablate": {"ablation": "resample"},
    "patch_sweep": {"positions": ["MID", "END"]}, "patch_chains": {"direction": "denoising"},
    "steer": {"places": "resid_pre.1"}, "eap_ig": {"steps": 2},
}  # fmt: skip
BY_PROMPT: dict[str, Callable[[Any], torch.Tensor]] = {
    "nodes": lambda found: found.values.T,
    "stages": lambda found: found.values.T,
    "sources": lambda found: found.values.movedim(1, 0),
    "tokens": lambda found: found.values[:, 0] if found.values.shape[1] == 1 else found.values,
    "edges": lambda found: found.per_prompt,
    "effects": lambda found: found.change.T,
}


def asked(row: Method, **more: Any) -> Scores:
    """The method of a row as a function of (model, prompts), one thing per prompt. `more`: further options."""
    given, options = ARGUMENTS.get(row.name, ()), OPTIONS.get(row.name, {}) | more
    return lambda model, p: BY_PROMPT[row.gives](row(model, p, *given, **options))


def half_circuit(model: Any) -> Circuit:
    """A fixed random half of a model's edges."""
    graph = Graph.of(model)
    return Circuit(graph, graph.real & (torch.rand(graph.real.shape, generator=torch.Generator().manual_seed(2)) < 0.5))
