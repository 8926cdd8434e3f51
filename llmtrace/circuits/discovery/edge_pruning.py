"""Edge pruning: a gate between 0 and 1 on every edge, learned on frozen weights, until n edges are left.

    z_e = clamp(sigmoid((log u - log(1 - u) + a_e) / beta) (zeta - gamma) + gamma, 0, 1),      u uniform in (0, 1)
    loss = distance(model, circuit of gates z) + l_1 (s - s*) + l_2 (s - s*)^2,    s: expected share of closed gates

The multipliers l go up while the share misses its target s*, which grows over the first half of the steps. The score of
an edge is the probability that its gate is open at all. Distance: KL to the model's output at the answer position, or
the squared change of a metric that is given.

Source: Bhaskar et al. 2024; hard concrete: Louizos et al. 2018. Cost: steps x (F + W) of `prompts_per_step`.
Memory: what a differentiable circuit run keeps, about layers / 2 x nodes x batch x pos x d_model.
Sign: none, scores are probabilities.
Known failure: what it finds depends on seed and schedule; edges of one backup are traded for another.

    >>> gates = lt.circuits.edge_pruning(model, prompts, n_edges=50, steps=4)
    >>> bool(((gates.values >= 0) & (gates.values <= 1)).all())
    True
"""

from __future__ import annotations

import math
from pathlib import Path
from time import perf_counter

import torch
from jaxtyping import Float
from torch import Tensor

from llmtrace.circuits.edge_scores import EdgeScores
from llmtrace.circuits.graph import Graph
from llmtrace.circuits.running.background import Ablation, Background, ablation_name
from llmtrace.circuits.running.circuit_pass import soft_residual
from llmtrace.circuits.running.empty_circuit import background
from llmtrace.circuits.selection.select import require_size
from llmtrace.errors import InputError, MismatchError
from llmtrace.interventions import Checkpoint
from llmtrace.metrics import Metric, MetricLike
from llmtrace.models import ModelState, TraceModel, embedding, final_residual, provenance
from llmtrace.progress import track
from llmtrace.prompts import PromptSet, metric_of

BETA, GAMMA, ZETA = 2 / 3, -0.1, 1.1  # of the hard concrete distribution
START = 2.0  # gates begin open: P(open) = .97


def edge_pruning(
    model: TraceModel,
    prompts: PromptSet,
    *,
    n_edges: int,
    metric: MetricLike | None = None,
    graph: Graph | None = None,
    ablation: Ablation | Background = "resample",
    steps: int = 200,
    learning_rate: float = 0.2,
    prompts_per_step: int = 8,
    warm_start: EdgeScores | None = None,
    seed: int = 0,
    resume: str | Path | None = None,
) -> EdgeScores:
    """Scores of every edge (the same for all prompts), from gates that were pushed to leave `n_edges` open.

    warm_start   other scores: the gates of their best edges begin open, the others half closed
    resume       a file for the state of a run that is stopped

    Raises InputError for a size or a number of steps that makes no sense.
    """
    graph, started = Graph.of(model) if graph is None else graph, perf_counter()
    require_size(graph, n_edges)
    if not isinstance(steps, int) or steps < 1 or not learning_rate > 0:
        raise InputError(f"Expected one step or more and a learning rate above 0, got {steps!r} and {learning_rate!r}.")
    reference = _reference(model, prompts, metric)
    ground = ablation if isinstance(ablation, Background) else background(model, prompts, ablation, graph=graph)
    ground.require_fits(graph, prompts)
    start = _start(graph, n_edges, warm_start)
    gates = _Gates(graph, start, n_edges, steps, learning_rate, seed)
    about = ModelState.of(model), graph, reference, prompts.clean, ground.name, ground.writes, start
    checkpoint = Checkpoint(resume, "discovery", *about, n_edges, steps, learning_rate, prompts_per_step, seed)
    if (state := checkpoint.read()) is not None:
        gates.load(state)
    inputs = embedding(model, prompts.clean, split=graph.split_embed)
    try:
        for _ in track(range(gates.step, steps), "pruning edges"):
            rows = gates.some_of(len(prompts), prompts_per_step)
            ground_of_rows, read = ground.some(rows), reference[rows]
            final = soft_residual(model, gates.sample().to(ground.writes), inputs[:, rows], ground_of_rows)
            gates.descend(read.of_residual(model, read.here(final)).mean())
            if checkpoint.due:
                checkpoint.write(gates.state())
    except BaseException:
        checkpoint.write(gates.state())
        raise
    checkpoint.done(gates.state())
    return EdgeScores(
        graph=graph, per_prompt=gates.open().expand(len(prompts), -1, -1).to(model.W_E.dtype), method="edge_pruning",
        metric=reference.name, higher_is_better=reference.higher_is_better, provenance=provenance(model).as_dict(),
        passes=f"{steps} forward, {steps} backward",
        options={"n_edges": n_edges, "steps": steps, "learning_rate": learning_rate,
                 "prompts_per_step": prompts_per_step, "ablation": ablation_name(ablation), "seed": seed},
        seconds=perf_counter() - started, fingerprints=prompts.fingerprints,
    )  # fmt: skip


@torch.no_grad()
def _reference(model: TraceModel, prompts: PromptSet, metric: MetricLike | None) -> Metric:
    """The distance to the model's own run: KL, or the squared change of a metric."""
    if metric is None:
        return metric_of(model, prompts, "kl")
    bound = metric_of(model, prompts, metric)
    before = bound.of_residual(model, bound.here(final_residual(model, prompts.clean)))

    def squared(rows: Tensor, before: Tensor, *context: Tensor) -> Tensor:
        return (bound.reduce(rows, *context) - before) ** 2

    return Metric(
        f"squared change of {bound.name}", bound.positions, bound.tokens, None, squared, (before, *bound.context)
    )


def _start(graph: Graph, n_edges: int, warm_start: EdgeScores | None) -> Float[Tensor, "node port"]:
    if warm_start is None:
        return torch.full(graph.real.shape, START)
    if warm_start.graph != graph:
        raise MismatchError(f"Expected scores of {graph} to start from, got those of {warm_start.graph}.")
    order = warm_start.values.abs().cpu().masked_fill(~graph.real, -1).flatten().argsort(descending=True)
    start = torch.zeros(graph.real.numel())
    start[order[: 2 * n_edges]] = START
    return start.view_as(graph.real)


class _Gates:
    """The parameters, their optimiser and the multipliers; all that a run needs to go on."""

    def __init__(self, graph: Graph, start: Tensor, n_edges: int, steps: int, learning_rate: float, seed: int):
        self.real, self.n_edges, self.steps, self.step = graph.real, n_edges, steps, 0
        self.logits = start[graph.real].double().requires_grad_(True)
        self.multipliers = torch.zeros(2, dtype=torch.float64, requires_grad=True)
        self.generator = torch.Generator().manual_seed(seed)
        self._at_step = self.generator.get_state()
        self.optimiser = torch.optim.Adam([self.logits], lr=learning_rate)
        self.ascent = torch.optim.Adam([self.multipliers], lr=learning_rate, maximize=True)

    def some_of(self, n: int, size: int) -> Tensor:
        """The prompts of a step; a run that is stopped inside a step goes on from its beginning."""
        self._at_step = self.generator.get_state()
        return torch.randperm(n, generator=self.generator)[:size]

    def sample(self) -> Float[Tensor, "node port"]:
        u = torch.rand(self.logits.shape, generator=self.generator, dtype=torch.float64).clamp(1e-6, 1 - 1e-6)
        stretched = torch.sigmoid((u.log() - (1 - u).log() + self.logits) / BETA) * (ZETA - GAMMA) + GAMMA
        gates = torch.zeros(self.real.shape, dtype=torch.float64)
        return gates.masked_scatter(self.real, stretched.clamp(0, 1))

    def _p_open(self) -> Tensor:
        return torch.sigmoid(self.logits - BETA * math.log(-GAMMA / ZETA))

    @torch.no_grad()
    def open(self) -> Float[Tensor, "node port"]:
        return torch.zeros(self.real.shape, dtype=torch.float64).masked_scatter(self.real, self._p_open())

    def descend(self, distance: Tensor) -> None:
        goal = 1 - self.n_edges / len(self.logits)
        goal *= min(1.0, 2 * (self.step + 1) / self.steps)
        missing = (1 - self._p_open()).mean() - goal
        loss = distance.double().cpu() - self.multipliers[0] * missing + self.multipliers[1] * missing**2
        for optimiser in (self.optimiser, self.ascent):
            optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        self.ascent.step()
        self.step += 1
        self._at_step = self.generator.get_state()

    def state(self) -> dict[str, Tensor]:
        found = {"logits": self.logits, "multipliers": self.multipliers, "generator": self._at_step}
        found["step"] = torch.tensor(self.step)
        for name, optimiser in (("descent", self.optimiser), ("ascent", self.ascent)):
            for _, values in optimiser.state_dict()["state"].items():
                found |= {f"{name}.{key}": value for key, value in values.items()}
        return found

    def load(self, state: dict[str, Tensor]) -> None:
        with torch.no_grad():
            self.logits.copy_(state["logits"])
            self.multipliers.copy_(state["multipliers"])
        self.generator.set_state(state["generator"])
        self.step = int(state["step"])
        for name, optimiser in (("descent", self.optimiser), ("ascent", self.ascent)):
            kept = {key.split(".", 1)[1]: value for key, value in state.items() if key.startswith(f"{name}.")}
            whole = optimiser.state_dict()
            optimiser.load_state_dict(whole | {"state": {0: kept} if kept else {}})
