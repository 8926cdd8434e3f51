"""Which discovery method tells the truth: known circuits, tiny-english's tasks, SmolLM2's indirect objects.

    python benchmarks/truth_discovery.py [--only known|tiny-english|smollm2] [--prompts 16]

Known circuits (hand-built): ROC AUC of |score| against the edges of the circuit. Real tasks: edges are chosen on one
sample of prompts and judged on another: CMD and CPR with 95 % bootstrap intervals, seconds, passes; the rank
correlation of |score| with the exact effect over a seeded sample of edges. The last row is random scores.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from cases import smollm2, smollm2_is_here, timed
from scipy.stats import spearmanr

import llmtrace as lt
from llmtrace import circuits, prompts
from llmtrace.circuits import Circuit, EdgeScores, Graph
from llmtrace.errors import LLMTraceError
from llmtrace.models.hand_built.designs import CIRCUITS, known_circuit
from llmtrace.prompts import PromptSet

OPTIONS: dict[str, dict[str, Any]] = {"edge_pruning": {"n_edges": 150, "steps": 150}, "acdc": {"tau": 0.01}}
HEAVY = {"smollm2": ("exact", "acdc", "edge_pruning", "eap_ig_activations", "atp_star")}
SAMPLE = 60


def methods(skip: tuple[str, ...]) -> Iterator[tuple[str, Callable[[Any, PromptSet], EdgeScores]]]:
    for name, row in circuits.METHODS.items():
        if name not in skip:
            yield name, lambda model, p, row=row, name=name: row(model, p, **OPTIONS.get(name, {}))
    yield "random", random_scores


def random_scores(model: Any, p: PromptSet) -> EdgeScores:
    graph = Graph.of(model)
    values = torch.rand(graph.real.shape, generator=torch.Generator().manual_seed(0)) * graph.real
    return EdgeScores(graph, values.to(model.W_E)[None], "random", "none", {}, "none")


def known(name: str) -> None:
    model, truth = lt.load(name, dtype="float64", device="cpu"), known_circuit(name)
    p = prompts.from_pairs(model, [(truth.clean, truth.corrupted, truth.correct, truth.wrong)])
    circuit = Circuit.of(Graph.of(model), truth.edges)
    print(f"\n### {name}: {circuit}\n\n| method | ROC AUC | of {len(truth.alone)} edges with an effect alone, found |")
    print("|---|---|---|")
    for method, run in methods(("edge_pruning",)):
        try:
            scores = run(model, p)
        except LLMTraceError as error:
            print(f"| {method} | refused: {error} | |")
            continue
        magnitude = scores.values.abs()
        auc = circuits.roc_auc(magnitude[circuit.graph.real], circuit.mask[circuit.graph.real])
        found = sum(bool(magnitude[circuit.graph.index(lt.nodes.parse_edge(edge))] > 1e-9) for edge in truth.alone)
        print(f"| {method} | {auc:.2f} | {found} |", flush=True)


def exact_sample(model: Any, p: PromptSet, graph: Graph) -> tuple[torch.Tensor, torch.Tensor]:
    """(which edges, their exact mean effects): the loudest by EAP-IG and as many others."""
    loud = circuits.eap_ig(model, p).values.abs().cpu()[graph.real].argsort(descending=True)
    rest = loud[torch.randperm(len(loud), generator=torch.Generator().manual_seed(0))[: SAMPLE // 2]]
    edges = graph.real.nonzero()[torch.cat([loud[: SAMPLE // 2], rest])]
    runs = [Circuit.full(graph)]
    for row, column in edges.tolist():
        mask = graph.real.clone()
        mask[row, column] = False
        runs.append(Circuit(graph, mask))
    values = circuits.run_circuits(model, p, runs).mean(1).cpu()
    return edges, values[1:] - values[0]


def task(name: str, model: Any, chosen: PromptSet, held_out: PromptSet, skip: tuple[str, ...]) -> None:
    graph = Graph.of(model)
    edges, effects = exact_sample(model, chosen, graph)
    print(f"\n### {name}: {graph}, {len(chosen)} prompts, judged on {len(held_out)} others\n")
    print("| method | CMD | CPR | rank correlation with exact effects | seconds | passes |\n|---|---|---|---|---|---|")
    for method, run in methods(skip):
        try:
            seconds, scores = timed(lambda run=run: run(model, chosen))
            curve = circuits.faithfulness_curve(model, held_out, scores)
        except LLMTraceError as error:
            print(f"| {method} | refused: {error} | | | | |", flush=True)
            continue
        own = scores.values.abs().cpu()[edges[:, 0], edges[:, 1]]
        rank = spearmanr(own.numpy(), effects.abs().numpy()).statistic
        areas = " | ".join(
            "{:.3f} [{:.3f}, {:.3f}]".format(getattr(curve, a), *curve.interval(a)) for a in ("cmd", "cpr")
        )
        print(f"| {method} | {areas} | {rank:.2f} | {seconds:.1f} | {scores.passes} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["known", "tiny-english", "smollm2"])
    parser.add_argument("--prompts", type=int, default=16)
    parser.add_argument("--skip", nargs="*", default=[])
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    if asked.only in (None, "known"):
        for name in CIRCUITS:
            known(name)
    if asked.only in (None, "tiny-english"):
        model = lt.load("tiny-english")
        for make in (prompts.ioi, prompts.greater_than):
            samples = (make(model, asked.prompts, seed=seed) for seed in (0, 1))
            task(f"tiny-english, {make.__name__}", model, *samples, tuple(asked.skip))
    if asked.only == "smollm2" or (asked.only is None and smollm2_is_here()):
        model = smollm2().ours
        samples = (prompts.ioi(model, asked.prompts, seed=seed, corruption="abc") for seed in (0, 1))
        task("SmolLM2-135M, ioi", model, *samples, (*HEAVY["smollm2"], *asked.skip))


if __name__ == "__main__":
    main()
