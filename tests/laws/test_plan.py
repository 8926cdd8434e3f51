"""A plan says what the run then takes: passes as the result counts them, memory as it is asked for."""

from __future__ import annotations

import re
from typing import Any

import pytest
from tiny import ALL, close, prompts

from llmtrace import circuits
from llmtrace.circuits import METHODS, Graph, plan_discover
from llmtrace.circuits.plan import COSTS
from llmtrace.errors import InputError
from llmtrace.methods import Method

TINY = next(tiny for tiny in ALL if tiny.family.name == "llama")
OPTIONS: dict[str, dict[str, Any]] = {
    "acdc": {"tau": 0.05}, "edge-pruning": {"n_edges": 20, "steps": 3}, "eap-ig": {"steps": 3},
    "eap-ig-activations": {"steps": 2},
}  # fmt: skip


def test_every_method_has_a_cost() -> None:
    assert set(COSTS) == set(METHODS)


@pytest.mark.parametrize("method", list(COSTS))
def test_the_passes_are_those_of_the_result(method: str) -> None:
    """As the result says them; ACDC tries no edge twice."""
    p, options = prompts(padded=True), OPTIONS.get(method, {})
    plan = plan_discover(TINY.model, p, method=method, **options)
    scores = METHODS[method](TINY.model, p, **options)
    numbers = [int(number.replace(",", "")) for number in re.findall(r"\d[\d,]*\d|\d", scores.passes)]
    assert scores.seconds is not None and scores.seconds > 0
    assert plan.edges == Graph.of(TINY.model).n_edges
    if method == "acdc":
        assert plan.at_most and numbers[0] <= numbers[1] == plan.edges < plan.forward
    elif method == "edge-pruning":
        assert numbers == [plan.forward - 2, plan.backward]  # of the steps alone
    else:
        assert numbers == [n for n in (plan.forward, plan.backward) if n]


def test_memory_decides_how_many_prompts_ride_together() -> None:
    """Half the memory, about half the prompts, never none; what is planned fits."""
    p = prompts()
    much, little = (plan_discover(TINY.model, p, method="eap", memory=m) for m in ("1GB", "60kB"))
    assert much.prompts_at_once == len(p) > little.prompts_at_once >= 1
    assert little.bytes <= 60_000 and "2 forward and 1 backward passes" in str(much)
    close(circuits.eap(TINY.model, p, memory="60kB").per_prompt, circuits.eap(TINY.model, p).per_prompt, TINY.atol)


def test_what_has_no_cost_is_refused() -> None:
    with pytest.raises(InputError, match="tau"):
        plan_discover(TINY.model, prompts(), method="acdc")
    METHODS.register(Method("of-my-own", lambda model, prompts: None, "mine"))
    try:
        with pytest.raises(InputError, match="whose cost is known"):
            plan_discover(TINY.model, prompts(), method="of-my-own")
    finally:
        del METHODS["of-my-own"]
