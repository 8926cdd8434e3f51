"""Laws 14-19: replacing activations of one run by those of another, and taking nodes away."""

from __future__ import annotations

from functools import partial

import pytest
import slow_twins as slow
import torch
from slow_twins import metric_of_run, replace
from tiny import (
    ALL,
    FIRST_DIFFERENCE,
    POST_NORM,
    Tiny,
    close,
    has_mlp,
    one_of_each,
    over,
    patterns_are_live,
    prompts,
    sequential,
    some_nodes,
    ungrouped,
)

from llmtrace import interventions, models, signals
from llmtrace.metrics import logit_diff
from llmtrace.nodes import Head, Mlp

# Slow twins at every site: annotations, two thirds of the time, are checked where test_activation_patching sweeps.
pytestmark = pytest.mark.usefixtures("as_users_run")
NODE_ABLATIONS = ("zero", "mean", "resample")


def sites(tiny: Tiny, layer: int) -> list[str]:
    names = [f"attn.hook_{site}" for site in ("q", "k", "v", "pattern", "z")] + ["hook_resid_pre", "hook_attn_out"]
    names += ["hook_mlp_out", "mlp.hook_post"] if has_mlp(tiny) else []
    names += ["hook_resid_mid"] if has_mlp(tiny) and sequential(tiny) else []
    return [f"blocks.{layer}.{name}" for name in names]


def activations(tiny: Tiny, side: str) -> dict[str, torch.Tensor]:
    names = [name for layer in range(tiny.family.n_layers) for name in sites(tiny, layer)]
    return dict(signals.capture(tiny.model, prompts(), what=names, side=side).activations)


@over(among=[*ALL, *POST_NORM])
def test_patching_an_activation_with_itself_changes_nothing(tiny: Tiny) -> None:
    """Law 14, one site at a time, every site of every layer."""
    clean = models.final_residual(tiny.model, prompts().clean)
    for name, value in activations(tiny, "clean").items():
        close(models.final_residual(tiny.model, prompts().clean, [replace(name, value)]), clean, tiny.atol)


@over(among=[*ALL, *POST_NORM])
def test_patching_the_stream_everywhere_gives_the_other_run(tiny: Tiny) -> None:
    """Law 15: resid_pre of any layer at all positions; and `resume` from that layer is the same thing."""
    other = models.final_residual(tiny.model, prompts().corrupted)
    values = activations(tiny, "corrupted")
    for layer in range(tiny.family.n_layers):
        name = f"blocks.{layer}.hook_resid_pre"
        close(models.final_residual(tiny.model, prompts().clean, [replace(name, values[name])]), other, tiny.atol)
        close(models.resume(tiny.model, values[name], layer, tokens=prompts().corrupted), other, tiny.atol)


@over(among=[*ALL, *POST_NORM])
def test_a_resumed_run_takes_hooks_as_a_whole_one_does(tiny: Tiny) -> None:
    """`resume(resid, layer, hooks)` = the whole pass with those hooks."""
    layer, values = tiny.family.n_layers - 1, activations(tiny, "corrupted")
    start = signals.capture(tiny.model, prompts(), what="resid_pre", layers=[layer])[f"blocks.{layer}.hook_resid_pre"]
    hook = replace(f"blocks.{layer}.attn.hook_z", values[f"blocks.{layer}.attn.hook_z"])
    whole = models.final_residual(tiny.model, prompts().clean, [hook])
    assert (whole - models.final_residual(tiny.model, prompts().clean)).abs().max() > 1e-3
    close(models.resume(tiny.model, start, layer, [hook], tokens=prompts().clean), whole, tiny.atol)


def patched(tiny: Tiny, layer: int, which: str, head: int | None = None) -> torch.Tensor:
    """The final residual when these activations of attention (of one head) come from the corrupted run."""
    hooks = []
    for site in which.split():
        name = f"blocks.{layer}.attn.hook_{site}"
        axis = 1 if site == "pattern" else 2

        def change(value: torch.Tensor, new: torch.Tensor, axis: int) -> torch.Tensor:
            changed = value.clone()
            changed.select(axis, head).copy_(new.select(axis, head))
            return changed

        new = slow.read(tiny.model, prompts().corrupted, [name])[name]
        hooks.append(replace(name, new) if head is None else (name, partial(change, new=new, axis=axis)))
    return models.final_residual(tiny.model, prompts().clean, hooks)


@over(among=[*ALL, *POST_NORM])
def test_patching_z_is_patching_what_makes_it(tiny: Tiny) -> None:
    """Law 16, all heads of a layer: z = (q, k, v) = attn_out."""
    for layer in range(tiny.family.n_layers):
        z = patched(tiny, layer, "z")
        close(patched(tiny, layer, "q k v"), z, tiny.atol)
        name = f"blocks.{layer}.hook_attn_out"
        written = slow.read(tiny.model, prompts().corrupted, [name])[name]
        close(models.final_residual(tiny.model, prompts().clean, [replace(name, written)]), z, tiny.atol)


@over(patterns_are_live, among=[*ALL, *POST_NORM])
def test_patching_the_pattern_is_patching_queries_and_keys(tiny: Tiny) -> None:
    """Law 16: (q, k) = pattern, (pattern, v) = z; and these two are different things."""
    for layer in range(tiny.family.n_layers):
        close(patched(tiny, layer, "q k"), patched(tiny, layer, "pattern"), tiny.atol)
        close(patched(tiny, layer, "pattern v"), patched(tiny, layer, "z"), tiny.atol)
    assert (patched(tiny, 1, "pattern") - patched(tiny, 1, "z")).abs().max() > 1e-3


@over(ungrouped)
def test_patching_one_head_is_patching_what_makes_it(tiny: Tiny) -> None:
    """Law 16 for a single head (with grouped queries, keys and values belong to the group)."""
    close(patched(tiny, 1, "q k v", head=1), patched(tiny, 1, "z", head=1), tiny.atol)
    if patterns_are_live(tiny):
        close(patched(tiny, 1, "pattern v", head=1), patched(tiny, 1, "z", head=1), tiny.atol)
        close(patched(tiny, 1, "q k", head=1), patched(tiny, 1, "pattern", head=1), tiny.atol)


@over(among=[*ALL, *POST_NORM])
def test_patches_before_the_first_difference_do_nothing(tiny: Tiny) -> None:
    """Law 17: both runs are the same there, so the effect is exactly 0 - not merely small."""
    clean, corrupted = (slow.read(tiny.model, prompts().side(side), sites(tiny, 1)) for side in ("clean", "corrupted"))
    plain = metric_of_run(tiny.model, prompts())
    for name in (name for name in clean if "attn.hook_pattern" not in name):
        mixed = clean[name].clone()
        mixed[:, :FIRST_DIFFERENCE] = corrupted[name][:, :FIRST_DIFFERENCE]
        close(metric_of_run(tiny.model, prompts(), [replace(name, mixed)]), plain, 1e-12)


@over(one_of_each)
def test_metrics_before_the_first_difference_do_not_move(tiny: Tiny) -> None:
    """Law 17 the other way round: nothing that is sent from the corrupted run reaches an earlier position."""
    p = prompts()
    early = logit_diff(torch.full((len(p),), FIRST_DIFFERENCE - 1), p.correct, p.wrong)
    sent = interventions.path_patch(tiny.model, p, senders=slow.writers(tiny.model), metric=early)
    close(sent.change, torch.zeros_like(sent.change), 1e-12)
    resampled = interventions.ablate(tiny.model, p, some_nodes(tiny), ablation="resample", metric=early)
    close(resampled.change, torch.zeros_like(resampled.change), 1e-12)


@over(among=[*ALL, *POST_NORM])
def test_zero_ablating_a_head_subtracts_its_result(tiny: Tiny) -> None:
    """Law 18: in pre-norm models; in post-norm ones for what attention sends into the post-norm."""
    heads = [Head(layer, tiny.family.n_heads - 1) for layer in range(tiny.family.n_layers)]
    effects = interventions.ablate(tiny.model, prompts(), heads, ablation="zero")
    for i, node in enumerate(heads):
        if tiny.family.post_norm:
            expected = metric_of_run(tiny.model, prompts(), [_silenced(node)])
        else:
            result = slow.write_of(tiny.model, prompts().clean, node)
            name = f"blocks.{node.layer}.hook_attn_out"
            expected = metric_of_run(tiny.model, prompts(), [(name, lambda out, result=result: out - result)])
        close(effects.after[i], expected, tiny.atol)


def _silenced(node: Head) -> slow.Hook:
    def silence(z: torch.Tensor) -> torch.Tensor:
        changed = z.clone()
        changed[:, :, node.head] = 0
        return changed

    return f"blocks.{node.layer}.attn.hook_z", silence


@over(among=[*ALL, *POST_NORM])
def test_the_mean_over_one_prompt_is_a_no_op(tiny: Tiny) -> None:
    """Law 19, first half: with one clean prompt as reference nothing changes."""
    one = prompts()[3]
    effects = interventions.ablate(tiny.model, one, ablation="mean", reference="clean")
    close(effects.change, torch.zeros_like(effects.change), tiny.atol)


@over(one_of_each)
def test_the_mean_does_not_depend_on_order(tiny: Tiny) -> None:
    """Law 19, second half: shuffled prompts give the same effects, shuffled."""
    order = [4, 2, 0, 3, 1]
    p, nodes = prompts(padded=True), some_nodes(tiny)
    straight = interventions.ablate(tiny.model, p, nodes, ablation="mean")
    shuffled = interventions.ablate(tiny.model, p[order], nodes, ablation="mean")
    close(shuffled.after, straight.after[:, order], tiny.atol)


@over(among=[*ALL, *POST_NORM])
@pytest.mark.parametrize("mode", NODE_ABLATIONS)
def test_ablation_equals_its_slow_twin(tiny: Tiny, mode: str) -> None:
    """One node at a time, each in a full forward pass of its own; several at once; two lengths in two groups."""
    p = prompts(padded=True)
    effects = interventions.ablate(tiny.model, p, ablation=mode)
    arch = models.describe(tiny.model)
    assert [node for (node,) in effects.nodes] == [*arch.heads, *arch.mlps]
    close(effects.before, metric_of_run(tiny.model, p), tiny.atol)
    for node in some_nodes(tiny):
        expected = slow.ablated(tiny.model, p, [node], ablation=mode)
        close(effects.change[effects.nodes.index((node,))], expected - effects.before, tiny.atol)
    if mode == "mean":  # of which prompts
        found = interventions.ablate(tiny.model, p, [Head(1, 0)], ablation=mode, reference="clean")
        close(found.after[0], slow.ablated(tiny.model, p, [Head(1, 0)], ablation=mode, reference="clean"), tiny.atol)
    several = [Head(0, 0), Head(1, 1), Head(0, 1), *([Mlp(0)] if has_mlp(tiny) else [])]
    together = interventions.ablate(tiny.model, p, several, ablation=mode, together=True)
    close(together.after[0], slow.ablated(tiny.model, p, several, ablation=mode), tiny.atol)
    assert set(together.nodes[0]) == set(several) and len(together.nodes) == 1


@over(one_of_each)
def test_how_ablations_are_stacked_does_not_matter(tiny: Tiny) -> None:
    """`memory` changes time and memory, never a number."""
    p, nodes = prompts(padded=True), some_nodes(tiny)
    at_once, one_by_one = (interventions.ablate(tiny.model, p, nodes, memory=size).after for size in ("auto", "60KB"))
    close(one_by_one, at_once, tiny.atol)


@over()
@pytest.mark.parametrize("convention", ["heads_frozen", "all_frozen"])
def test_path_patching_equals_its_slow_twin(tiny: Tiny, convention: str) -> None:
    """One hooked forward pass per sender - heads, MLPs, the input - with all other heads (and MLPs) held."""
    p = prompts(padded=True)
    senders = slow.writers(tiny.model)
    effects = interventions.path_patch(tiny.model, p, senders=senders, convention=convention)
    assert effects.nodes == tuple((node,) for node in senders)
    close(effects.before, metric_of_run(tiny.model, p), tiny.atol)
    assert effects.other is not None
    close(effects.other, metric_of_run(tiny.model, p, tokens=p.corrupted), tiny.atol)
    for i, sender in enumerate(senders):
        close(effects.after[i], slow.path_patched(tiny.model, p, sender, convention=convention), tiny.atol)
    assert effects.change.abs().amax(1).min() > 1e-6  # every sender sends something here: no comparison of zeros


@over(has_mlp)
def test_the_two_path_patchings_differ(tiny: Tiny) -> None:
    """Recomputing MLPs matters, except for senders that no MLP follows: the last MLP, and in parallel blocks the last
    layer's heads too."""
    p, last = prompts(padded=True), tiny.family.n_layers - 1
    senders = slow.writers(tiny.model)
    recomputed, frozen = (
        interventions.path_patch(tiny.model, p, senders=senders, convention=convention).after
        for convention in ("heads_frozen", "all_frozen")
    )
    for sender, difference in zip(senders, (recomputed - frozen).abs().amax(1), strict=True):
        last_head = isinstance(sender, Head) and sender.layer == last
        nothing_after = sender == Mlp(last) or (tiny.family.parallel and last_head)
        assert (difference < 10 * tiny.atol) if nothing_after else (difference > 1e-3), str(sender)


@over(one_of_each)
def test_senders_are_heads_unless_named(tiny: Tiny) -> None:
    """Default senders; a subset in another order gives the same numbers."""
    every = interventions.path_patch(tiny.model, prompts())
    assert [node for (node,) in every.nodes] == list(models.describe(tiny.model).heads)
    some = [Head(1, 1), Head(0, 0)]
    subset = interventions.path_patch(tiny.model, prompts(), senders=some)
    assert [node for (node,) in subset.nodes] == some
    for node in some:
        close(subset.of(node), every.of(node), tiny.atol)
