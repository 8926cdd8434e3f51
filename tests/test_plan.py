"""`lt.plan`: one verb for what a call would cost, and functions that are declared once."""

from __future__ import annotations

import inspect

import pytest
from tiny import ALL, prompts

import llmtrace as lt
from llmtrace import interventions
from llmtrace.errors import InputError
from llmtrace.interventions import METHODS
from llmtrace.plan import Declares, Plan

MODEL = ALL[0].model


@pytest.mark.parametrize("name", METHODS)
def test_every_intervention_says_its_cost(name: str) -> None:
    """By its own signature, as it is written; what it returns is the effects."""
    function = METHODS[name].function
    assert isinstance(function, Declares) and inspect.isfunction(function)
    signature = inspect.signature(function)
    assert list(signature.parameters)[:2] == ["model", "prompts"] and list(signature.parameters)[-1] == "resume"
    assert signature.return_annotation == "Effects"
    assert function.__module__ == METHODS[name].where.partition(":")[0] and function.__doc__


def test_a_plan_is_that_of_the_call() -> None:
    p = prompts()
    plan = lt.plan(lt.ablate, MODEL, p, ["0.0", "0.1"])
    assert isinstance(plan, Plan) and plan.interventions == 2
    assert plan.passes == lt.ablate(MODEL, p, ["0.0", "0.1"]).passes
    assert str(plan).startswith("2 interventions: ") and f"{plan.prompts_at_once} prompts at once" in str(plan)


def test_a_plan_refuses_what_the_call_refuses() -> None:
    with pytest.raises(InputError, match="got none; leave nodes out"):
        lt.plan(lt.ablate, MODEL, prompts(), [])


def test_what_does_not_know_its_cost_is_refused(as_users_run: None) -> None:
    with pytest.raises(InputError, match="got steering_vector; just run it"):
        lt.plan(interventions.steering_vector, MODEL, prompts(), place="resid_pre.0")
