"""A plan says what the run then takes: passes as the result counts them, memory as it is asked for."""

from __future__ import annotations

import re
from typing import Any

import pytest
from tiny import ALL, close, prompts

from llmtrace import circuits
from llmtrace.circuits import METHODS, Graph, discover
from llmtrace.errors import InputError
from llmtrace.plan import plan

TINY = next(tiny for tiny in ALL if tiny.family.name == "llama")
OPTIONS: dict[str, dict[str, Any]] = {
    "acdc": {"tau": 0.05}, "edge_pruning": {"n_edges": 20, "steps": 3}, "eap_ig": {"steps": 3},
    "eap_ig_activations": {"steps": 2},
}  # fmt: skip


def test_every_method_has_a_cost() -> None:
    assert [name for name, row in METHODS.items() if row.passes is None] == []


@pytest.mark.parametrize("method", list(METHODS))
def test_the_passes_are_those_of_the_result(method: str) -> None:
    """As the result says them; ACDC tries no edge twice."""
    p, options = prompts(padded=True), OPTIONS.get(method, {})
    planned = plan(discover, TINY.model, p, method=method, **options)
    scores = METHODS[method](TINY.model, p, **options)
    numbers = [int(number.replace(",", "")) for number in re.findall(r"\d[\d,]*\d|\d", scores.passes)]
    assert scores.seconds is not None and scores.seconds > 0
    assert planned.edges == Graph.of(TINY.model).n_edges
    if method == "acdc":
        assert planned.at_most and numbers[0] <= numbers[1] == planned.edges < planned.forward
    elif method == "edge_pruning":
        assert numbers == [planned.forward - 2, planned.backward]  # of the steps alone
    else:
        assert numbers == [n for n in (planned.forward, planned.backward) if n]


def test_memory_decides_how_many_prompts_ride_together() -> None:
    """Half the memory, about half the prompts, never none; what is planned fits."""
    p = prompts()
    much, little = (plan(discover, TINY.model, p, method="eap", memory=m) for m in ("1GB", "250kB"))
    assert much.prompts_at_once == len(p) > little.prompts_at_once >= 1
    assert little.bytes <= 250_000 and "2 forward and 1 backward passes" in str(much)
    close(circuits.eap(TINY.model, p, memory="250kB").per_prompt, circuits.eap(TINY.model, p).per_prompt, TINY.atol)


def test_what_has_no_cost_is_refused() -> None:
    with pytest.raises(InputError, match="tau"):
        plan(discover, TINY.model, prompts(), method="acdc")
    circuits.register(lambda model, prompts: None, name="of-my-own", summary="mine")
    try:
        with pytest.raises(InputError, match="whose cost is known"):
            plan(discover, TINY.model, prompts(), method="of-my-own")
    finally:
        del METHODS["of-my-own"]
