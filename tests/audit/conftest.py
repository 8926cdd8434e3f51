"""A model, and one set of each kind, labelled once."""

from __future__ import annotations

from typing import Any

import pytest

from llmtrace.audit import LabelledPrompts, MonitorStudy, distraction, embedded_instruction, study
from llmtrace.models import load


@pytest.fixture(scope="session")
def model() -> Any:
    return load("tiny-english")


@pytest.fixture(scope="session")
def instructions(model: Any) -> LabelledPrompts:
    return embedded_instruction(model, 144)


@pytest.fixture(scope="session")
def distracted(model: Any) -> LabelledPrompts:
    return distraction(model, 60)


@pytest.fixture(scope="session")
def studied(model: Any, instructions: LabelledPrompts) -> MonitorStudy:
    return study(model, instructions)
