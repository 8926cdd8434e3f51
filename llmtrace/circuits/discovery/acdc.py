"""ACDC: go from the logits down, try to remove each edge, and keep it where the metric moves by tau or more.

The decisions are those of the sequential algorithm, edge for edge: at each port the edges from the latest writer on are
removed *cumulatively*, all states run as one batch, the prefix before the first one that moves the metric by tau falls,
that edge is kept, and the rest is tried again. Since nearly all edges fall, nearly all speculation is accepted; and a
state costs only what the removal can still move (`shrinking_circuit.py`). Edges into nodes that no longer reach the
logits fall without a run: their effect is exactly 0.

The score of an edge is the change of the metric when it was tried, so `select(scores, threshold=tau)` is the circuit.

Source: Conmy et al. 2023. Law 38: the metric never moved by tau or more at an accepted step; tau -> 0 keeps every edge
with an effect, tau = inf keeps none. Size is not monotone in tau (law 39), and the result depends on the
order. Sign: negative = the metric fell when the edge was removed.
Cost: edges tried, each a part of a forward pass. Known failure: of an OR gate it keeps one half, whichever comes last.

    >>> small = lt.load("induction")
    >>> scores = lt.circuits.acdc(small, lt.prompts.induction(small, n=2, length=5), tau=0.1)
    >>> lt.circuits.select(scores, threshold=0.1)
    Circuit(4 of 12 edges, 3 nodes)
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from llmtrace.circuits.edge_scores import EdgeScores
from llmtrace.circuits.graph import Graph
from llmtrace.circuits.running.background import Ablation, Background, ablation_name
from llmtrace.circuits.running.empty_circuit import background
from llmtrace.circuits.running.needed_memory import bytes_to_run
from llmtrace.circuits.running.run_circuit import run_masks
from llmtrace.circuits.running.shrinking_circuit import Incremental
from llmtrace.errors import InputError
from llmtrace.interventions import Checkpoint, Memory, budget
from llmtrace.metrics import Metric, MetricLike
from llmtrace.metrics.metric import widened
from llmtrace.models import ModelState, TraceModel, is_bridge, provenance
from llmtrace.models.memory import at_once
from llmtrace.progress import track
from llmtrace.prompts import PromptSet, metric_of
from llmtrace.signals import node_writes

FIRST_TRY, MOST = 16, 256  # states at once: to begin with on each port, and at most


@torch.no_grad()
def acdc(
    model: TraceModel,
    prompts: PromptSet,
    *,
    tau: float,
    metric: MetricLike | None = None,
    graph: Graph | None = None,
    ablation: Ablation | Background = "resample",
    memory: Memory = "auto",
    resume: str | Path | None = None,
) -> EdgeScores:
    """The change of the metric, per prompt, when each edge was tried in its turn.

    resume   a file for the state of a run that is stopped: it goes on from the last port that was settled before the
             file was written, with the same result

    Raises InputError for a tau that is not above 0.
    """
    if not isinstance(tau, int | float) or not tau > 0:
        raise InputError(f"Expected a threshold tau above 0, in units of the metric, got {tau!r}; try 0.01.")
    started = perf_counter()
    graph, metric = Graph.of(model) if graph is None else graph, metric_of(model, prompts, metric)
    ground = ablation if isinstance(ablation, Background) else background(model, prompts, ablation, graph=graph)
    ground.require_fits(graph, prompts)
    most = _states_at_once(model, graph, prompts, memory)
    engine = _engine(model, graph, prompts, metric, ground)
    about = ModelState.of(model), graph, metric, prompts.clean, ground.name, ground.writes, float(tau)
    checkpoint = Checkpoint(resume, "discovery", *about)
    walk = _Walk(
        column=len(graph.ports) - 1,
        scores=widened(ground.writes.new_zeros(len(prompts), *graph.real.shape)),  # as exact as the metric
        current=run_masks(model, graph, graph.real[None], prompts, metric, ground)[0],
    )
    if (state := checkpoint.read()) is not None:
        walk.load(state)
        if walk.column >= 0:
            engine.load(state, walk.column)
    for column in track(range(walk.column, -1, -1), "trying edges"):
        walk.settle(engine, column, tau, most)
        if checkpoint.due:
            checkpoint.write(walk.state() | engine.state())
    checkpoint.done(walk.state() | engine.state())
    return EdgeScores(
        graph=graph, per_prompt=walk.scores, method="acdc", metric=metric.name,
        higher_is_better=metric.higher_is_better, provenance=provenance(model).as_dict(),
        passes=f"{walk.tried:,} of {graph.n_edges:,} edges tried",
        options={"tau": tau, "ablation": ablation_name(ablation), "seed": prompts.seed},
        seconds=perf_counter() - started, fingerprints=prompts.fingerprints,
    )  # fmt: skip


@dataclass(eq=False)
class _Walk:
    """How far ACDC has come: the next port, the changes so far, and the metric of what is left."""

    column: int
    scores: Float[Tensor, "batch node port"]
    current: Float[Tensor, " batch"]
    tried: int = 0

    def settle(self, engine: Incremental | _WholeRuns, column: int, tau: float, most: int) -> None:
        """Try every edge into one port."""
        self.column = column - 1
        if not engine.begin(column):
            engine.mask[:, column] = False
            return
        rows = engine.graph.real[:, column].nonzero().flatten().flip(0).tolist()
        size, self.tried = min(FIRST_TRY, most), self.tried + len(rows)
        while rows:
            batch = rows[:size]
            values = engine.removed(batch)
            steps = values - torch.cat([self.current[None], values[:-1]])
            falls = _prefix(steps.mean(1).abs() < tau)
            seen = min(falls + 1, len(batch))
            self.scores[:, batch[:seen], column] = steps[:seen].T.to(self.scores)
            if falls:
                engine.accept(falls)
                self.current = values[falls - 1]
            rows = rows[seen:]
            size = min(most, 2 * size) if falls == len(batch) else max(1, size // 2)

    def state(self) -> dict[str, Tensor]:
        return {"scores": self.scores, "current": self.current, "at": torch.tensor([self.column, self.tried])}

    def load(self, state: dict[str, Tensor]) -> None:
        self.scores, self.current = state["scores"].to(self.scores), state["current"].to(self.current)
        self.column, self.tried = state["at"].tolist()


def _prefix(accepted: Bool[Tensor, " state"]) -> int:
    """How many are True before the first False."""
    return int(accepted.int().cumprod(0).sum())


def _states_at_once(model: TraceModel, graph: Graph, prompts: PromptSet, memory: Memory) -> int:
    """A state holds, at the worst, the writes of a layer and their inputs; on a CPU more than `MOST` are not faster.
    Beside the states stand the background, the live writes and the scores."""
    each = 8 * graph.n_heads * prompts.clean.numel() * model.cfg.d_model * model.W_E.element_size()
    ground, live = bytes_to_run(model, graph, prompts, buffers=2)
    scores = graph.real.numel() * model.W_E.element_size()
    room = budget(memory, model.W_E.device) - len(prompts) * (ground + live + scores)
    return at_once(room, each, MOST, "the runs of all prompts and one state of them", asked=memory)


class _WholeRuns:
    """What `Incremental` does, for models whose parts cannot be run apart: a whole circuit run for every state."""

    def __init__(self, model: TraceModel, graph: Graph, prompts: PromptSet, metric: Metric, ground: Background):
        self.graph, self.mask = graph, graph.real.clone()

        def run(masks: Tensor) -> Tensor:
            return run_masks(model, graph, masks, prompts, metric, ground)

        self._run = run

    def begin(self, column: int) -> bool:
        self._column = column
        if column == len(self.graph.ports) - 1:
            return True
        return bool(self.graph.reaching(self.mask)[self.graph.writer_of(self.graph.ports[column])].any())

    def removed(self, rows: list[int]) -> Float[Tensor, "state batch"]:
        self._rows = rows
        masks = self.mask.expand(len(rows), -1, -1).clone()
        for state in range(len(rows)):
            masks[state, rows[: state + 1], self._column] = False
        return self._run(masks)

    def accept(self, n: int) -> None:
        self.mask[self._rows[:n], self._column] = False

    def state(self) -> dict[str, Tensor]:
        return {"mask": self.mask}

    def load(self, state: dict[str, Tensor], column: int) -> None:
        self.mask = state["mask"]


def _engine(
    model: TraceModel, graph: Graph, prompts: PromptSet, metric: Metric, ground: Background
) -> Incremental | _WholeRuns:
    if is_bridge(model) or graph.post_norm or graph.spans or graph.neurons:
        return _WholeRuns(model, graph, prompts, metric, ground)
    live = node_writes(model, prompts.clean, split_embed=graph.split_embed).values
    return Incremental(model, ground, live, metric)
