"""What a model is at this moment: whatever changes it is seen by what is kept between calls, or refused by name."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import BACKENDS, GPT2, GPT2_SHAPE, GPTJ, LLAMA_SHAPE, OPT, Tiny, close, hugging_face, loaded, prompts

from llmtrace import circuits, influence, interventions, models, signals
from llmtrace.errors import InputError, MismatchError, UnsupportedError
from llmtrace.interventions.engine.sweep import Sweep
from llmtrace.models.lock import lock_of
from llmtrace.models.state import FULL, settings, weights_hash, weights_state
from llmtrace.validation import correlate, validate

TINIES = [Tiny(GPT2, backend, processed=False) for backend in BACKENDS]
over = pytest.mark.parametrize("tiny", TINIES, ids=[tiny.name for tiny in TINIES])


def fresh(tiny: Tiny) -> Any:
    """A model of a test's own, to be changed."""
    return tiny.build(tiny.family.source(0))


def half(value: torch.Tensor, hook: Any) -> torch.Tensor:
    return value / 2


# --- weights and settings --------------------------------------------------------------------------------------------


def edit_one(model: Any) -> None:
    parameter = dict(model.named_parameters())[next(name for name, p in model.named_parameters() if p.ndim == 2)]
    parameter.data[3, 2] += 1e-6


def edit_in_place(model: Any) -> None:
    with torch.no_grad():
        next(model.parameters()).mul_(2)


def swap_rows(model: Any) -> None:
    parameter = next(p for p in model.parameters() if p.ndim == 2)
    parameter.data.copy_(parameter.data.flip(0).clone())


@over
@pytest.mark.parametrize("edit", [edit_one, edit_in_place, swap_rows])
def test_an_edit_of_the_weights_is_seen(tiny: Tiny, edit: Callable[[Any], None]) -> None:
    """Also through `.data`, which torch does not count."""
    model = fresh(tiny)
    before = weights_state(model), models.provenance(model).weights
    assert weights_state(model) == before[0]
    edit(model)
    assert weights_state(model) != before[0]
    assert models.provenance(model).weights != before[1] == weights_hash(fresh(tiny))


@over
def test_running_a_model_changes_nothing_of_its_state(tiny: Tiny) -> None:
    """Else verdicts would be asked at every call, and no stopped run be taken up."""
    model, p = fresh(tiny), prompts()
    before = weights_state(model), settings(model)
    interventions.ablate(model, p)
    circuits.eap(model, p)
    influence.decompx(model, p)
    model(p.clean)
    assert (weights_state(model), settings(model)) == before


@over
def test_a_verdict_goes_with_the_weights_and_not_with_hooks(tiny: Tiny) -> None:
    """Additive before a hook, refused under it, additive after: nothing is refused for good, nothing let through."""
    model, p = fresh(tiny), prompts()
    expected = influence.direct_logit_attribution(model, p).values
    model.add_hook("blocks.1.hook_resid_pre", half)
    with pytest.raises(UnsupportedError, match="hook_resid_pre"):
        influence.direct_logit_attribution(model, p)
    model.reset_hooks()
    close(influence.direct_logit_attribution(model, p).values, expected, 0.0)
    model.add_hook("blocks.1.hook_resid_pre", half)
    again = fresh(tiny)
    again.add_hook("blocks.1.hook_resid_pre", half)  # asked for the first time under a hook
    with pytest.raises(UnsupportedError, match="hook_resid_pre"):
        influence.direct_logit_attribution(again, p)
    again.reset_hooks()
    close(influence.direct_logit_attribution(again, p).values, expected, 0.0)


def test_a_larger_model_is_looked_at_in_places(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond `FULL` bytes verdicts see every edit that torch counts, and the hash sees all."""
    assert FULL == 2**26
    monkeypatch.setattr("llmtrace.models.state.FULL", 0)
    model = fresh(TINIES[0])
    cheap, thorough = weights_state(model), weights_state(model, thorough=True)
    edit_in_place(model)
    assert weights_state(model) != cheap
    after = weights_state(model, thorough=True)
    edit_one(model)
    assert thorough != after != weights_state(model, thorough=True)


# --- arithmetic ------------------------------------------------------------------------------------------------------


@over
def test_under_autocast_nothing_is_computed(tiny: Tiny) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for ask in (influence.direct_logit_attribution, circuits.eap, interventions.path_patch, influence.decompx):
            with pytest.raises(UnsupportedError, match="autocast"):
                ask(tiny.model, prompts())
        with pytest.raises(UnsupportedError, match="autocast"):
            influence.head_composition(tiny.model)


@over
def test_a_model_that_was_cast_gives_its_numbers_or_says_how(tiny: Tiny) -> None:
    model = tiny.build(tiny.family.source(0), dtype="float32")
    model.double()
    expected = models.logits(tiny.model, prompts().clean)
    try:
        close(models.logits(model, prompts().clean), expected, 1e-3)
    except UnsupportedError as refusal:
        assert "model.to(torch.float64)" in str(refusal)
        model.to(torch.float64)
        close(models.logits(model, prompts().clean), expected, 1e-3)


@over
def test_a_model_that_is_loaded_under_inference_mode_is_like_any_other(tiny: Tiny) -> None:
    source, expected = tiny.family.source(0), models.logits(tiny.model, prompts().clean)
    with torch.inference_mode():
        model = tiny.build(source)
        close(models.logits(model, prompts().clean), expected, 0.0)
        close(models.logits(fresh(tiny), prompts().clean), expected, 0.0)  # its source made there too
        for ask in (circuits.eap, influence.input_x_gradient, influence.gradient_rollout):
            with pytest.raises(InputError, match="inference_mode"):
                ask(model, prompts())
    close(circuits.eap(model, prompts()).per_prompt, circuits.eap(tiny.model, prompts()).per_prompt, 0.0)


def test_a_model_that_was_made_under_inference_mode_says_so() -> None:
    model = fresh(TINIES[0])
    with torch.inference_mode():
        for module in model.modules():
            for name, parameter in module._parameters.items():
                if parameter is not None:
                    module._parameters[name] = torch.nn.Parameter(parameter.clone(), requires_grad=False)
    assert weights_state(model) == weights_state(model)
    with pytest.raises(InputError, match="inference_mode"):
        circuits.eap(model, prompts())


def test_dynamic_rotary_scaling_forgets_longer_texts() -> None:
    """At the trained length and beyond, whatever was read before."""
    shape = LLAMA_SHAPE | {"max_position_embeddings": 8}
    scaling = {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 10_000.0}
    source = hugging_face("Llama", **shape, rope_parameters=scaling)
    model, other = (models.load(source(0), backend="bridge", dtype="float64", device="cpu") for _ in range(2))
    tokens = prompts().clean[:, :7].repeat(1, 2)[:, :8]
    expected = models.logits(other, tokens)
    with torch.no_grad():
        model(prompts().clean.repeat(1, 4)[:, :24])
    close(models.logits(model, tokens), expected, 1e-9)


# --- hooks -----------------------------------------------------------------------------------------------------------


@over
def test_hooks_are_named_as_transformer_lens_names_them(tiny: Tiny) -> None:
    model = fresh(tiny)
    assert models.user_hooks(model) == ()
    model.add_hook("blocks.0.attn.hook_z", half)
    model.add_hook("blocks.1.hook_mlp_out", half, is_permanent=True)
    handle = model.blocks[1].mlp.register_forward_hook(lambda module, given, out: None)
    found = models.user_hooks(model)
    assert sorted((hook.name, hook.part) for hook in found) == [
        ("blocks.0.attn.hook_z", "z"), ("blocks.1.hook_mlp_out", "mlp writes"), ("blocks.1.mlp", "elsewhere")
    ]  # fmt: skip
    assert [hook.function for hook in found if hook.part != "elsewhere"] == [half, half]
    assert sorted(models.provenance(model).hooks) == ["blocks.0.attn.hook_z", "blocks.1.hook_mlp_out", "blocks.1.mlp"]
    handle.remove()
    model.reset_hooks(including_permanent=True)
    assert models.provenance(model).hooks == []


@pytest.mark.parametrize("family", [GPT2, OPT], ids=["gpt2", "opt"])
def test_hooks_of_transformer_lens_are_none_of_the_user_s(family: Any) -> None:
    """By which a bridge shows its activations."""
    assert models.user_hooks(loaded(Tiny(family, "bridge", processed=True))) == ()


@over
def test_hooks_of_ours_are_none_of_the_user_s(tiny: Tiny) -> None:
    seen: list[tuple[models.UserHook, ...]] = []
    hook = ("blocks.0.attn.hook_z", lambda value: seen.append(models.user_hooks(tiny.model)))
    models.final_residual(tiny.model, prompts().clean, [hook])
    assert seen == [()]


@over
def test_a_hook_on_the_model_itself_is_refused(tiny: Tiny) -> None:
    model = fresh(tiny)
    model.register_forward_hook(lambda module, given, out: None)
    with pytest.raises(UnsupportedError, match="the model itself"):
        signals.capture(model, prompts())


@over
def test_a_restarted_pass_applies_a_hook_once(tiny: Tiny) -> None:
    model, p = fresh(tiny), prompts()
    with model.hooks(fwd_hooks=[("blocks.1.hook_resid_pre", lambda value, hook: value + 1)]):
        entering = signals.capture(model, p, what="resid_pre", layers=[1]).activations["blocks.1.hook_resid_pre"]
        close(models.resume(model, entering, 1, tokens=p.clean), models.final_residual(model, p.clean), tiny.atol)


@over
def test_a_hook_may_look_at_positions(tiny: Tiny) -> None:
    """Nothing is skipped or cut then: restarted variants give what whole passes of the hooked model give."""
    model, p = fresh(tiny), prompts()

    def at_positions(value: torch.Tensor, hook: Any) -> torch.Tensor:
        value = value.clone()
        value[:, -1] += value[:, 0]
        value[:, 3] *= 0.5
        return value

    def without_a_head(value: torch.Tensor, hook: Any) -> torch.Tensor:
        value = value.clone()
        value.view(*value.shape[:2], GPT2.n_heads, -1)[:, 3, 1] = 0
        return value

    read = p.metric("logit_diff")
    with torch.no_grad(), model.hooks(fwd_hooks=[("blocks.1.hook_mlp_out", at_positions)]):
        found = interventions.ablate(model, p, ["a1.h1"], ablation="zero", positions=[3])
        close(found.before, read(model(p.clean)), 10 * tiny.atol)
        with model.hooks(fwd_hooks=[("blocks.1.attn.hook_z", without_a_head)]):
            close(found.after[0], read(model(p.clean)), 10 * tiny.atol)


def first_row_alone(value: torch.Tensor, hook: Any) -> torch.Tensor:
    value = value.clone()
    value[0] = 0
    return value


@over
def test_a_hook_that_treats_rows_apart_is_refused(tiny: Tiny) -> None:
    model, p = fresh(tiny), prompts()
    kept = torch.zeros(len(p), p.clean.shape[1], GPT2_SHAPE["n_embd"], dtype=torch.float64)
    for hook, says in (
        (first_row_alone, "rows apart"),
        (lambda value, hook: value + torch.rand_like(value), "by lot"),
        (lambda value, hook: kept + value, "blocks.0.hook_mlp_out fails"),
    ):
        with (
            model.hooks(fwd_hooks=[("blocks.0.hook_mlp_out", hook)]),
            pytest.raises(UnsupportedError, match=says),
        ):
            interventions.ablate(model, p)


def test_a_hook_that_a_bridge_discards_is_refused_where_it_would_be_read() -> None:
    tiny = Tiny(GPTJ, "bridge", processed=False)
    with tiny.model.hooks(fwd_hooks=[("blocks.0.attn.hook_pattern", half)]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # transformer-lens 4 warns
        for ask in (influence.rollout, influence.decompx, partial(signals.capture, what="pattern")):
            with pytest.raises(UnsupportedError, match="hook_pattern"):
                ask(tiny.model, prompts())
        models.final_residual(tiny.model, prompts().clean)


@over
def test_scores_under_hooks_are_not_held_against_the_model_without(tiny: Tiny) -> None:
    model, p = fresh(tiny), prompts()
    with hook_z(model):
        scores = influence.direct_logit_attribution(model, p)
        correlate(scores, interventions.ablate(model, p))
    with pytest.raises(MismatchError, match="hook_z"):
        correlate(scores, interventions.ablate(model, p))
    with pytest.raises(MismatchError, match="hook_z"):
        validate(model, p, scores)


# --- runs that are taken up ------------------------------------------------------------------------------------------


def hook_z(model: Any) -> AbstractContextManager[object]:
    context: AbstractContextManager[object] = model.hooks(fwd_hooks=[("blocks.0.attn.hook_z", half)])
    return context


def torch_hook(model: Any) -> AbstractContextManager[object]:
    handle: AbstractContextManager[object] = model.blocks[0].mlp.register_forward_hook(lambda module, given, out: None)
    return handle


def other_scale(model: Any) -> AbstractContextManager[object]:
    module = model.blocks[0].attn
    if hasattr(module, "attn_scale"):
        module.attn_scale *= 2
    model.cfg.attn_scale = 3.0
    return nullcontext()


def edited(model: Any) -> AbstractContextManager[object]:
    edit_one(model)
    return nullcontext()


class Stopped(Exception):
    pass


def stopped(model: Any, path: Path) -> None:
    """A run that ends badly after its first results, which it leaves behind."""
    calls, values = 0, Sweep.values

    def counted(self: Any, *given: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > 1:
            raise Stopped
        return values(self, *given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Sweep, "values", counted)
        with pytest.raises(Stopped):
            interventions.ablate(model, prompts(), memory=200_000, resume=path)
    assert path.exists()


@over
@pytest.mark.parametrize("change", [hook_z, torch_hook, other_scale, edited])
def test_a_run_is_not_taken_up_on_another_model(
    tiny: Tiny, change: Callable[[Any], AbstractContextManager[object]], tmp_path: Path
) -> None:
    model, path = fresh(tiny), tmp_path / "part"
    stopped(model, path)
    with change(model), pytest.raises(MismatchError):
        interventions.ablate(model, prompts(), memory=200_000, resume=path)


@over
def test_a_run_is_taken_up_under_the_same_hooks(tiny: Tiny, tmp_path: Path) -> None:
    """The same code with the same values closed over, made anew as another process makes it."""

    def times(share: float) -> Any:
        return lambda value, hook: share * value

    model, path = fresh(tiny), tmp_path / "part"
    model.add_hook("blocks.0.attn.hook_z", times(0.5))
    expected = interventions.ablate(model, prompts()).after
    stopped(model, path)
    model.reset_hooks()
    model.add_hook("blocks.0.attn.hook_z", times(0.25))
    with pytest.raises(MismatchError):
        interventions.ablate(model, prompts(), memory=200_000, resume=path)
    model.reset_hooks()
    model.add_hook("blocks.0.attn.hook_z", times(0.5))
    close(interventions.ablate(model, prompts(), memory=200_000, resume=path).after, expected, tiny.atol)


# --- threads ---------------------------------------------------------------------------------------------------------


@over
def test_threads_share_a_model(tiny: Tiny) -> None:
    """Each call gives what it gives alone, whatever hooks the other threads' passes have on."""
    model, p = fresh(tiny), prompts()
    calls: list[Callable[[], torch.Tensor]] = [
        lambda: interventions.ablate(model, p).after,
        lambda: interventions.path_patch(model, p).after,
        lambda: circuits.eap(model, p).per_prompt,
        lambda: signals.capture(model, p, what="resid_post").activations["blocks.1.hook_resid_post"],
    ]
    expected, wrong = [call() for call in calls], list[object]()

    def work(first: int) -> None:
        for turn in range(len(calls)):
            which = (first + turn) % len(calls)
            try:
                if not torch.equal(calls[which](), expected[which]):
                    wrong.append(which)
            except Exception as error:
                wrong.append(error)

    threads = [threading.Thread(target=partial(work, first)) for first in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    with lock_of(model), lock_of(model):  # re-entrant: a hook may run the model again
        assert models.user_hooks(model) == ()


def test_a_tokenizer_that_was_given_a_token_is_another() -> None:
    model: Any = models.load("tiny-english")
    before = models.provenance(model).tokenizer
    assert models.provenance(model).tokenizer == before is not None
    model.tokenizer.add_tokens(["entirely-new"])
    assert models.provenance(model).tokenizer != before
