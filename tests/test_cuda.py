"""A CUDA device gives the numbers of the CPU: float32 without TF32 to 1e-3, bfloat16 in sign and rank."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from llmtrace import interventions
from llmtrace.models import load
from llmtrace.prompts import PromptSet, ioi

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")

CALLS = {
    "patch_sweep": lambda m, p: interventions.patch_sweep(m, p, ("resid_pre", "z", "v", "pattern")),
    "ablate": lambda m, p: interventions.ablate(m, p),
    "to logits": lambda m, p: interventions.path_patch(m, p),
    "to keys": lambda m, p: interventions.path_patch(m, p, receivers=["a3.h2<k>", "a3.h7<q>"]),
    "edges": lambda m, p: interventions.path_patch(m, p, receivers=["a3.h2<k>", "m3"], convention="edges"),
    "chain": lambda m, p: interventions.patch_chains(m, p, ["input -> a2.h2<v> -> a3.h2<k> -> logits"]),
    "knock_out": lambda m, p: interventions.knock_out(m, p, ["END"], ["S2"]),
    "causal_trace": lambda m, p: interventions.causal_trace(m, p, ["S2"], draws=2, metric="logit_diff"),
}


@pytest.fixture(scope="module")
def prompts() -> PromptSet:
    return ioi(load("tiny-english", device="cpu"), 16, seed=0)


def changes(call: str, prompts: PromptSet, **where: Any) -> torch.Tensor:
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    return CALLS[call](load("tiny-english", **where), prompts).mean().double()


@pytest.mark.parametrize("call", CALLS)
def test_float32_gives_the_same_numbers(call: str, prompts: PromptSet) -> None:
    there, here = (changes(call, prompts, device=device, dtype="float32") for device in ("cuda", "cpu"))
    torch.testing.assert_close(there, here, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("call", CALLS)
def test_bfloat16_gives_sign_and_rank_of_what_matters(call: str, prompts: PromptSet) -> None:
    there = changes(call, prompts, device="cuda", dtype="bfloat16")
    here = changes(call, prompts, device="cpu", dtype="float32")
    large = here.abs() > 0.25
    assert torch.equal(there[large].sign(), here[large].sign())
    far_apart = (here[large][:, None] - here[large][None]).abs() > 0.25
    order = (there[large][:, None] - there[large][None]).sign() == (here[large][:, None] - here[large][None]).sign()
    assert bool(order[far_apart].all())
