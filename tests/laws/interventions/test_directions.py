"""Directions taken out of the residual stream, and vectors added to it, against whole passes with plain hooks."""

from __future__ import annotations

import pytest
import torch
from slow_twins import metric_of_run
from tiny import ALL, POST_NORM, WIDTH, Tiny, close, one_of_each, over, prompts
from torch import Tensor

from llmtrace import interventions, models
from llmtrace.errors import InputError, LimitError
from llmtrace.interventions import Effects
from llmtrace.interventions.directions import orthonormal
from llmtrace.models import load
from llmtrace.nodes import Site
from llmtrace.prompts import ioi


def directions(n: int = 2) -> torch.Tensor:
    return torch.randn(n, WIDTH, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def without(basis: torch.Tensor, where: torch.Tensor | None = None):
    """x - (x . u) u, one vector at a time."""

    def change(x):
        new = x.clone()
        for i in range(x.shape[0]):
            for pos in range(x.shape[1]):
                if where is None or where[i, pos]:
                    for u in basis:
                        new[i, pos] -= (new[i, pos] @ u.to(new)) * u.to(new)
        return new

    return change


@over(one_of_each, among=[*ALL, *POST_NORM])
@pytest.mark.parametrize("what", ["resid_pre", "attn_out"])
def test_projection_equals_its_slow_twin(tiny: Tiny, what: str) -> None:
    """Each layer in turn and all together, everywhere and at a named position."""
    p, basis = prompts(padded=True), orthonormal(directions(), WIDTH)
    names = [f"blocks.{layer}.hook_{what}" for layer in range(tiny.family.n_layers)]
    each = interventions.project_out(tiny.model, p, directions(), what=what)
    for layer, name in enumerate(names):
        close(each.after[layer], metric_of_run(tiny.model, p, [(name, without(basis))]), 10 * tiny.atol)
    together = interventions.project_out(tiny.model, p, directions(), what=what, together=True)
    close(together.after[0], metric_of_run(tiny.model, p, [(n, without(basis)) for n in names]), 10 * tiny.atol)
    where = torch.zeros_like(p.mask)
    where[torch.arange(len(p)), p.positions["MID"]] = True
    there = interventions.project_out(tiny.model, p, directions(), what=what, layers=[0], positions=["MID"])
    close(there.after[0], metric_of_run(tiny.model, p, [(names[0], without(basis, where))]), 10 * tiny.atol)


def test_a_projected_stream_has_nothing_left_along_the_direction() -> None:
    """And projecting twice is projecting once; the scale and the order of directions do not matter."""
    basis = orthonormal(directions(3), WIDTH)
    close(basis @ basis.T, torch.eye(3, dtype=torch.float64), 1e-12)
    p, d = prompts(), directions()
    one = interventions.project_out(ALL[0].model, p, d).after
    same = interventions.project_out(ALL[0].model, p, torch.stack([d[1] * 7, d[0] + d[1]])).after
    close(same, one, 1e-9)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (torch.zeros(WIDTH), "Expected directions of a length above 0, got one of length 0 or with NaN"),
        (torch.ones(2, WIDTH), "Expected directions that do not depend on each other, got 2 that span fewer"),
        (torch.ones(3), f"Expected directions of shape [{WIDTH}] or [n, {WIDTH}], got [3]."),
    ],
)
def test_what_spans_nothing_is_refused(given, sentence) -> None:
    with pytest.raises(InputError) as error:
        interventions.project_out(ALL[0].model, prompts(), given.double())
    assert sentence in str(error.value)


@over(one_of_each, among=[*ALL, *POST_NORM])
def test_steering_equals_its_slow_twin(tiny: Tiny) -> None:
    """A residual stream, one head, an MLP's output where there is one; everywhere and at END."""
    p, vector = prompts(padded=True), directions(1)[0]
    d_head = models.describe(tiny.model).d_head
    at_end = torch.zeros_like(p.mask)
    at_end[torch.arange(len(p)), p.positions["END"]] = True

    def added(v, where=None, head=None):
        def change(x):
            new = x.clone()
            part = new if head is None else new[:, :, head]
            part += 1.5 * v.to(new) * (1 if where is None else where[..., None].to(new))
            return new

        return change

    everywhere = interventions.steer(tiny.model, p, vector, places=["resid_pre.0", "attn_out.1"], coefficient=1.5)
    for row, name in enumerate(("blocks.0.hook_resid_pre", "blocks.1.hook_attn_out")):
        close(everywhere.after[row], metric_of_run(tiny.model, p, [(name, added(vector))]), tiny.atol)
    head = interventions.steer(tiny.model, p, vector[:d_head], places="a1.h1", coefficient=1.5, positions=["END"])
    hook = ("blocks.1.attn.hook_z", added(vector[:d_head], at_end, head=1))
    close(head.after[0], metric_of_run(tiny.model, p, [hook]), tiny.atol)


def test_nothing_added_is_nothing_changed() -> None:
    """And what is added after the position that the metric reads is exactly nothing."""
    p, vector = prompts(padded=True), directions(1)[0]
    none = interventions.steer(ALL[0].model, p, vector, places="resid_pre.1", coefficient=0.0)
    close(none.after[0], none.before, 1e-12)
    late = interventions.steer(ALL[0].model, p[[1, 3, 4]], vector, places="resid_pre.0", positions=["END"])
    assert late.change.abs().min() > 0
    both = interventions.steer(ALL[0].model, p[[0, 1]], vector, places="resid_post.0", positions=[4])
    assert both.change.abs().min() > 0, "position 4 is END of the short prompt and before END of the long one"


def test_a_steering_vector_is_the_difference_of_means() -> None:
    p, model = prompts(), ALL[0].model
    site = Site("resid_pre", 1)
    vector = interventions.steering_vector(model, p, place=site, position="MID")
    streams = [torch.zeros(WIDTH, dtype=torch.float64) for _ in range(2)]
    for side, mean in zip(("clean", "corrupted"), streams, strict=True):
        found = {}
        models.final_residual(
            model, p.side(side), [("blocks.1.hook_resid_pre", lambda v, f=found: f.setdefault("x", v))]
        )
        for i, pos in enumerate(p.positions["MID"].tolist()):
            mean += found["x"][i, pos] / len(p)
    close(vector, streams[0] - streams[1], 1e-12)


@pytest.fixture(scope="module")
def english():
    return load("tiny-english")


def test_generation_without_a_vector_is_the_models_own(english) -> None:
    prompt = ioi(english, 2, seed=0).texts[0]
    said = interventions.generate(english, prompt, max_new_tokens=6)
    tokens = said.tokens[: said.start]
    for _ in range(len(said.tokens) - said.start):
        tokens = torch.cat([tokens, english(tokens[None])[0, -1].argmax(-1, keepdim=True)])
    assert torch.equal(said.tokens, tokens) and said.continuation.startswith(("Eric", " Eric"))
    vector = torch.randn(english.cfg.d_model, generator=torch.Generator().manual_seed(0))
    silent = interventions.generate(
        english, prompt, vector=vector, place="resid_post.1", coefficient=0.0, max_new_tokens=6
    )
    assert torch.equal(silent.tokens, said.tokens)


def test_several_prompts_are_each_gone_on_with_as_alone(english) -> None:
    texts = ioi(english, 3, seed=0).texts
    together = interventions.generate(english, texts, max_new_tokens=4, temperature=1.0, seed=1)
    alone = [interventions.generate(english, text, max_new_tokens=4, temperature=1.0, seed=1) for text in texts]
    assert [said.text for said in together] == [said.text for said in alone] and len({*texts}) == 3


def test_a_steered_generation_says_something_else(english) -> None:
    """Towards the corrupted sentences' answers, at every step."""
    p = ioi(english, 16, seed=0)
    towards = -interventions.steering_vector(english, p, place="resid_post.3", position="END")
    plain, steered = (
        interventions.generate(english, p.texts[0], max_new_tokens=4, **how)
        for how in ({}, {"vector": towards, "place": "resid_post.3", "coefficient": 4.0})
    )
    assert not torch.equal(plain.tokens, steered.tokens)
    sampled = [
        interventions.generate(english, p.texts[0], temperature=1.0, seed=s, max_new_tokens=8).text for s in (1, 1, 2)
    ]
    assert sampled[0] == sampled[1], "the same seed says the same"


def test_what_cannot_be_steered_is_refused(english) -> None:
    p, vector = ioi(english, 2, seed=0), torch.zeros(english.cfg.d_model)

    def steered(by: Tensor, place: str) -> Effects:
        return interventions.steer(english, p, by, places=place)

    for call, error, sentence in (
        (lambda: steered(vector[:3], "resid_pre.0"), InputError, "resid_pre.0, got [3]."),
        (lambda: steered(vector, "a0.h0<pattern>"), InputError, "or one head to steer, got"),
        (lambda: interventions.generate(english, p.texts[0], vector=vector), InputError, "say both or neither."),
        (lambda: interventions.generate(english, p.texts[0], max_new_tokens=9999), LimitError, "ask for fewer."),
        (lambda: interventions.generate(english, p.texts[0], max_new_tokens=0), InputError, "at least one new token"),
    ):  # fmt: skip
        with pytest.raises(error) as raised:
            call()
        assert sentence in str(raised.value)
