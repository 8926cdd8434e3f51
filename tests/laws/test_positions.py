"""Law 55: positions are read in one place, so every public function takes all that people write for them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from odd_arguments import functions
from tiny import ALL, prompts as made
from torch import Tensor

from llmtrace import influence, interventions, prompts, signals, validation
from llmtrace.errors import InputError

Call = Callable[[Any, prompts.PromptSet, Any], Any]
AT, LENGTH = 2, 7
STREAM, TOKENS = "resid_pre.1", [[1]] * 2

# By function and argument: what it gives with these positions.
TAKING: dict[tuple[str, str], Call] = {
    ("path_patch", "positions"): lambda m, p, at: (
        interventions.path_patch(m, p, receivers=["a1.h1<v>"], positions=at).after
    ),
    ("patch_chains", "positions"): lambda m, p, at: (
        interventions.patch_chains(m, p, ["a0.h0 -> a1.h1<v> -> logits"], positions=at).after
    ),
    ("ablate", "positions"): lambda m, p, at: interventions.ablate(m, p, positions=at).after,
    ("patch_sweep", "positions"): lambda m, p, at: interventions.patch_sweep(m, p, "z", positions=at).after,
    ("project_out", "positions"): lambda m, p, at: interventions.project_out(m, p, torch.ones(16), positions=at).after,
    ("steer", "positions"): lambda m, p, at: (
        interventions.steer(m, p, torch.ones(16), places=STREAM, positions=at).after
    ),
    ("steering_vector", "position"): lambda m, p, at: interventions.steering_vector(m, p, place=STREAM, position=at),
    ("causal_trace", "positions"): lambda m, p, at: traced(m, p, subject=[AT], positions=at),
    ("causal_trace", "subject"): lambda m, p, at: traced(m, p, subject=at, positions=["END"]),
    ("knock_out", "queries"): lambda m, p, at: interventions.knock_out(m, p, at, [1]).after,
    ("knock_out", "keys"): lambda m, p, at: interventions.knock_out(m, p, ["END"], at).after,
    ("zero_values", "keys"): lambda m, p, at: interventions.zero_values(m, p, at).after,
    ("attention_flow", "positions"): lambda m, p, at: influence.attention_flow(m, p, positions=at).values,
    ("flow_routes", "positions"): lambda m, p, at: influence.flow_routes(m, p, threshold=0.3, positions=at).values,
    ("flow_graph", "position"): lambda m, p, at: influence.flow_graph(m, p[:1], position=at).flow,
    ("residual_stream", "position"): lambda m, p, at: influence.residual_stream(m, p, position=at).norm,
    ("token_lens", "positions"): lambda m, p, at: influence.token_lens(m, p, positions=at, tokens=TOKENS).probability,
    ("capture", "positions"): lambda m, p, at: signals.capture(m, p, what="z", layers=[1], positions=at).activations,
    ("validate", "keep"): lambda m, p, at: checked(m, p, keep=at),
    # Of places, and of spans
    ("patch", "places"): lambda m, p, at: interventions.patch(m, p, [("0.1", at)]).after,
    ("ablate", "nodes"): lambda m, p, at: interventions.ablate(m, p, [("0.1", at)]).after,
    ("Spans.between", "positions"): lambda m, p, at: prompts.Spans.between(p, at).of,
    ("Spans.of_positions", "spans"): lambda m, p, at: prompts.Spans.of_positions(p, {"here": at}).of,
    ("PromptSet.position", "place"): lambda m, p, at: p.position(at),
}
# One position of each prompt, or an array of them: another thing by the same name.
OF_EACH_PROMPT = {"custom", "kl", "log_probability", "logit_diff", "probability", "probability_diff", "node_writes"}

FORMS: dict[str, Callable[[int], Any]] = {
    "a list": lambda at: [at],
    "a tuple": lambda at: (at,),
    "a range": lambda at: range(at, at + 1),
    "an integer of NumPy": np.int64,
    "an array": lambda at: np.array([at]),
    "a tensor": lambda at: torch.tensor([at]),
    "a number in a tensor": torch.tensor,
    "a slice": lambda at: slice(at, at + 1),
    "counted from the end": lambda at: at - LENGTH,
    "a name": lambda at: "HERE",
    "a mask": lambda at: np.arange(LENGTH) == at,
    "a mask in a tensor": lambda at: torch.arange(LENGTH) == at,
    "a mask of each prompt": lambda at: (torch.arange(LENGTH) == at).expand(2, -1),
    "truth values": lambda at: [i == at for i in range(LENGTH)],
}
EMPTY = ([], np.array([]), slice(LENGTH, None), torch.zeros(LENGTH, dtype=torch.bool))


def traced(model: Any, p: prompts.PromptSet, **where: Any) -> Tensor:
    return interventions.causal_trace(model, p, draws=1, metric="logit_diff", **where).after


def checked(model: Any, p: prompts.PromptSet, **where: Any) -> Tensor:
    return validation.validate(model, p, "raw_attention", k=1, steps=2, draws=1, **where).loss


def given(at: int) -> prompts.PromptSet:
    p = made()[[0, 2]]
    return replace(p, positions={**p.positions, "HERE": torch.full((len(p),), at)})


def tensors(found: Any) -> list[Tensor]:
    return list(found.values()) if isinstance(found, dict) else [found]


@pytest.mark.parametrize("what", TAKING, ids=" ".join)
def test_a_position_is_that_position_however_it_is_written(what: tuple[str, str]) -> None:
    at = 1 if what in {("knock_out", "queries"), ("knock_out", "keys")} else 0  # the first token must see itself
    call, model, p = TAKING[what], ALL[0].model, given(at)
    wanted = tensors(call(model, p, at))
    for form, write in FORMS.items():
        if what == ("flow_graph", "position") and form == "a mask of each prompt":
            continue  # of one prompt
        found = tensors(call(model, p, write(at)))
        assert len(found) == len(wanted) and all(map(torch.equal, found, wanted)), form


@pytest.mark.parametrize("what", [what for what in TAKING if what[0] != "Spans.of_positions"], ids=" ".join)
@pytest.mark.parametrize("nothing", EMPTY, ids=repr)
def test_no_position_at_all_is_refused(what: tuple[str, str], nothing: Any) -> None:
    with pytest.raises(InputError):
        TAKING[what](ALL[0].model, given(AT), nothing)


@pytest.mark.parametrize("what", [what for what in TAKING if what[1] in ("positions", "position")], ids=" ".join)
def test_where_matters(what: tuple[str, str]) -> None:
    """Without which the law would hold of functions that do not look."""
    call, model = TAKING[what], ALL[0].model
    here, there = (tensors(call(model, given(AT), at)) for at in (AT, AT + 1))
    assert not all(map(torch.equal, here, there))


def test_every_function_that_takes_positions_is_in_the_table() -> None:
    words = {"positions", "position", "queries", "keys", "subject", "keep"}
    taking = {
        (path.partition(".")[2], word)
        for path, function in functions()
        for word in words & set(inspect.signature(function).parameters)
    }
    assert {what for what in taking if what[0] not in OF_EACH_PROMPT} <= set(TAKING)


def test_a_slice_and_a_mask_are_counted_in_the_tokens_of_each_prompt() -> None:
    p = made(padded=True)
    assert p.chosen(slice(0, 2)) == (0, 1) and p.chosen(slice(-2, None)) == (-2, -1)
    every = torch.arange(LENGTH)
    assert p.chosen(every == p.positions["END"][:, None]) == (-1,)
    for written, sentence in (
        (slice(None), "Expected positions that are the same in every prompt"),
        (every == torch.arange(len(p))[:, None], "which takes others in some"),
        (torch.ones(len(p), LENGTH, dtype=torch.bool), "one that takes padding of prompt 1"),
        (torch.ones(3, dtype=torch.bool), "Expected a mask of positions of shape [7] or [5, 7], got [3]"),
        (True, "got True"),
        ([True, 1], "got True"),
        (slice("a"), "Expected a slice of whole numbers"),
    ):
        with pytest.raises(InputError) as error:
            p.chosen(written)
        assert sentence in str(error.value), str(error.value)


def test_a_place_that_says_where_is_heard(as_users_run: None) -> None:
    """`steer` took "resid_pre.1@END" for everywhere; what cannot mean it refuses."""
    model, p, vector = ALL[0].model, given(AT), torch.ones(16)
    here = interventions.steer(model, p, vector, places=STREAM, positions=["END"]).after
    for place in (f"{STREAM}@END", (STREAM, "END"), (STREAM, [-1])):
        assert torch.equal(interventions.steer(model, p, vector, places=place).after, here)
    with pytest.raises(InputError, match=r"Expected a place without positions, got resid_pre.1@END; write resid_pre.1"):
        interventions.steering_vector(model, p, place=f"{STREAM}@END")
    with pytest.raises(InputError, match="Expected a place to steer at, got none"):
        interventions.steer(model, p, vector, places=[])
