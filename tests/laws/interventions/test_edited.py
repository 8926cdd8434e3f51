"""Law 56. Edits that stay on the model: in the block every number is the one that the function of that name gives,
after it all is as it was, bit for bit."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch
from tiny import ALL, BACKENDS, GPT2, POST_NORM, Tiny, close, one_of_each, over, prompts, scores_are_live

from llmtrace import influence, interventions as lab, models, signals
from llmtrace.errors import InputError, LLMTraceError, UnsupportedError
from llmtrace.interventions import Ablate, KnockOut, PatchIn, Steer, edited
from llmtrace.models.user_hooks import user_hooks

pytestmark = pytest.mark.usefixtures("as_users_run")
TINY = Tiny(GPT2, BACKENDS[0], processed=False)


def metric(model: Any, p: Any) -> torch.Tensor:
    """Read from a whole pass under whatever hooks are on."""
    return p.metric()(models.logits(model, p.clean))


def held(tiny: Tiny, edits: list[Any], after: torch.Tensor, p: Any) -> None:
    """In the block the metric is `after`, also of rows that are stacked; after it the logits are the clean ones."""
    model, clean = tiny.model, models.logits(tiny.model, p.clean)
    with edited(model, p, edits):
        close(metric(model, p), after, tiny.atol)
        stacked = models.logits(model, p.clean.repeat(3, 1)).unflatten(0, (3, len(p)))
        close(stacked, models.logits(model, p.clean).expand(3, -1, -1, -1), tiny.atol)
    assert torch.equal(models.logits(model, p.clean), clean)
    assert not user_hooks(model)


@over(one_of_each, among=[*ALL, *POST_NORM])
@pytest.mark.parametrize("how", ["zero", "mean", "resample"])
def test_an_ablated_model_gives_what_ablate_says(tiny: Tiny, how: str) -> None:
    p = prompts()[0]
    nodes = ["0.1", "1.1"] if tiny.family.attn_only else ["0.1", "m0", "m1.n3", "1.1"]
    for node, after in zip(nodes, lab.ablate(tiny.model, p, nodes, ablation=how).after, strict=True):
        held(tiny, [Ablate(node, how)], after, p)
    together = lab.ablate(tiny.model, p, nodes, ablation=how, together=True).after[0]
    held(tiny, [Ablate(node, how) for node in nodes], together, p)
    at = lab.ablate(tiny.model, p, ["0.1"], ablation=how, positions=["MID", -1]).after[0]
    held(tiny, [Ablate("0.1", how, positions=["MID", -1])], at, p)


@over(one_of_each, among=[*ALL, *POST_NORM])
def test_a_patched_model_gives_what_patch_says(tiny: Tiny) -> None:
    p = prompts()[0]
    places: list[Any] = ["0.1", "1.1", "a1.h0<q>", "resid_pre.1", ("resid_pre.1", ["MID"])]
    for place, after in zip(places, lab.patch(tiny.model, p, places, direction="noising").after, strict=True):
        node, at = place if isinstance(place, tuple) else (place, None)
        held(tiny, [PatchIn(node, at)], after, p)


@over(scores_are_live, one_of_each, among=[*ALL, *POST_NORM])
def test_a_knocked_out_model_gives_what_knock_out_says(tiny: Tiny) -> None:
    """Of one head, of a layer, from one query and from every later one; of several prompts too, being alike for all."""
    p = prompts()
    head = lab.knock_out(tiny.model, p, [4], [1], layers=[1], heads=["1.1"]).after[0]
    held(tiny, [KnockOut(1, 1, query=4, key=1)], head, p)
    layer = lab.knock_out(tiny.model, p, list(range(2, p.clean.shape[1])), [1], layers=[0]).after[0]
    held(tiny, [KnockOut(0, key=1)], layer, p)


@over(one_of_each, among=[*ALL, *POST_NORM])
def test_a_steered_model_gives_what_steer_says(tiny: Tiny) -> None:
    p = prompts()[0]
    vector = lab.steering_vector(tiny.model, p, place="resid_pre.1")
    after = lab.steer(tiny.model, p, vector, places="resid_pre.1", coefficient=-0.5).after[0]
    held(tiny, [Steer(1, -0.5)], after, p)


@over(one_of_each)
def test_a_mean_over_all_positions_serves_several_prompts_and_longer_texts(tiny: Tiny) -> None:
    p = prompts()
    after = lab.ablate(tiny.model, p, ["1.1"], ablation="mean", over="global", reference="clean").after[0]
    edit = Ablate("1.1", "mean", over="global", reference="clean")
    held(tiny, [edit], after, p)
    longer = torch.cat([p.clean, p.clean[:, -2:]], 1)
    with edited(tiny.model, p, [edit]):
        logits = models.logits(tiny.model, longer)
        close(logits[:, : p.clean.shape[1]], models.logits(tiny.model, p.clean), tiny.atol)
    with edited(tiny.model, p[0], [PatchIn("1.1")]), pytest.raises(UnsupportedError, match="texts of at most"):
        models.logits(tiny.model, longer)


@over(one_of_each, among=[*ALL, *POST_NORM])
def test_functions_give_the_edited_model_or_refuse(tiny: Tiny) -> None:
    """What adds up in the block adds up to the edited model's metric; interventions start from it."""
    p = prompts()[0]
    after = lab.ablate(tiny.model, p, ["0.1", "1.1"], ablation="zero", together=True).after[0]
    with edited(tiny.model, p, [Ablate("0.1", "zero")]):
        close(lab.ablate(tiny.model, p, ["1.1"], ablation="zero").after[0], after, tiny.atol)
    with edited(tiny.model, p, [Ablate("0.1", "zero"), Ablate("1.1", "zero")]):
        for function in (influence.direct_logit_attribution, lab.path_patch):
            try:
                found = function(tiny.model, p)
            except LLMTraceError as refused:
                assert "Expected" in str(refused) or "model" in str(refused)
                continue
            close(found.total if hasattr(found, "total") else found.before, after, tiny.atol)
        z = signals.capture(tiny.model, p, what="z", layers=[1]).activations
        assert next(iter(z.values()))[0, :, 1].abs().max() == 0


@over(one_of_each)
def test_edits_come_off_when_the_block_raises_and_leave_the_users_hooks(tiny: Tiny) -> None:
    p, model = prompts()[0], tiny.model
    clean = models.logits(model, p.clean)
    with pytest.raises(ZeroDivisionError), edited(model, p, [Ablate("0.1", "zero")]):
        raise ZeroDivisionError
    assert torch.equal(models.logits(model, p.clean), clean)
    name = signals.capture(model, p, what="z", layers=[0]).activations.keys()
    with model.hooks(fwd_hooks=[(next(iter(name)), lambda value, hook: 0.5 * value)]):
        mine = models.logits(model, p.clean)
        with edited(model, p, [Ablate("1.1", "zero")]):
            assert not torch.equal(models.logits(model, p.clean), mine)
        assert torch.equal(models.logits(model, p.clean), mine)
        with edited(model, p, []):
            assert torch.equal(models.logits(model, p.clean), mine)
    assert torch.equal(models.logits(model, p.clean), clean)


@over(one_of_each)
def test_another_thread_never_sees_the_edits(tiny: Tiny) -> None:
    p, model, found = prompts()[0], tiny.model, list[torch.Tensor]()
    clean = models.logits(model, p.clean)
    with edited(model, p, [Ablate("0.1", "zero")]):
        other = threading.Thread(target=lambda: found.append(models.logits(model, p.clean)))
        other.start()
        other.join(0.05)
        assert not found
    other.join()
    assert torch.equal(found[0], clean)


def test_what_is_no_edit_is_refused_before_anything_is_on() -> None:
    tiny = TINY
    p = prompts()
    for edit, sentence in (
        (PatchIn("1.1"), "edit one prompt"),
        (Ablate("a0.h1->m1", "zero"), "got the edge to m1"),
        (Ablate("9.9", "zero"), "a9.h9 is not in"),
        (Ablate("0.1", "half"), "Expected ablation to be one of"),
        (KnockOut(0, key=-1), "the last one; name a query"),
        (KnockOut(0, query=0, key=0), "Expected every query to keep a key"),
        (Steer(7), "layer"),
    ):
        with pytest.raises((LLMTraceError, InputError), match=sentence), edited(tiny.model, p, [edit]):
            raise AssertionError
        assert not user_hooks(tiny.model)
