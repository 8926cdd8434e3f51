"""Activation patching against its definition: full passes on whole prompts in which one activation is replaced."""

from __future__ import annotations

from dataclasses import replace as changed

import pytest
import slow_twins as slow
import torch
from slow_twins import metric_of_run
from tiny import (
    ALL,
    FIRST_DIFFERENCE,
    HOOKED_EXISTS,
    LAYERS,
    MISTRAL,
    POST_NORM,
    REST,
    VOCAB,
    WIDE,
    Tiny,
    close,
    has_mlp,
    hooked,
    one_of_each,
    over,
    patterns_are_live,
    prompts,
    scores_are_live,
    sequential,
)

from llmtrace import interventions, models
from llmtrace.errors import InputError, NotFoundError, UnsupportedError
from llmtrace.interventions.rows import KINDS, OF_HEAD, OF_KV_HEAD, OF_LAYER, OF_NEURON
from llmtrace.models.loading.families import FAMILIES
from llmtrace.nodes import Head, KvHead, Mlp, Neuron, Site

WHOLE = ("layer", "position")  # sweeps that take all heads of a layer together
KINDS_OF_ATTENTION = [*ALL, *POST_NORM, *WIDE]
EVERYWHERE = [*KINDS_OF_ATTENTION, *REST]


def kinds_of(tiny: Tiny) -> list[str]:
    """What can be patched; what a bridge shows beside its way is refused."""
    missing = set[str]()
    if not has_mlp(tiny):
        missing |= {"resid_mid", "mlp_out", *OF_NEURON}
    if not (sequential(tiny) and hooked(tiny)):
        missing.add("resid_mid")
    if not patterns_are_live(tiny):
        missing.add("pattern")
    if not scores_are_live(tiny):
        missing.add("scores")
    return [kind for kind in KINDS if kind not in missing]


def place(tiny: Tiny, kind: str, layer: int) -> int | Head | KvHead | Neuron:
    if kind in OF_LAYER:
        return layer
    if kind in OF_NEURON:
        return Neuron(layer, 3)
    grouped = kind in OF_KV_HEAD and tiny.family.kv_heads < tiny.family.n_heads
    return KvHead(layer, 1) if grouped else Head(layer, 1)


@pytest.mark.skipif(not HOOKED_EXISTS, reason="transformer-lens 4 has no HookedTransformer")
def test_every_family_that_loads_is_stood_on() -> None:
    """A new row in the table of families must come under these laws."""
    stood_on = {tiny.model.cfg.original_architecture for tiny in EVERYWHERE if hooked(tiny)}
    assert set(FAMILIES) <= stood_on, f"no tiny model of {sorted(set(FAMILIES) - stood_on)}"


@over(one_of_each, among=EVERYWHERE)
@pytest.mark.parametrize("direction", ["denoising", "noising"])
def test_every_kind_equals_its_slow_twin(tiny: Tiny, direction: str) -> None:
    """Everywhere, at a named position, at several; first and last layer; two lengths of prompts."""
    p, rows = prompts(padded=True), []
    for kind in kinds_of(tiny):
        for layer, at in ((0, ()), (tiny.family.n_layers - 1, ("MID",)), (0, ("MID", "END", 2))):
            rows.append([Site(kind, place(tiny, kind, layer), at)])
    effects = interventions.patch(tiny.model, p, rows, direction=direction)
    for i, sites in enumerate(rows):
        close(effects.after[i], slow.activation_patched(tiny.model, p, sites, direction), 10 * tiny.atol)
    assert effects.other is not None
    close(effects.other, metric_of_run(tiny.model, p, tokens=slow.sides(p, direction)[1]), tiny.atol)
    close(effects.before, metric_of_run(tiny.model, p, tokens=slow.sides(p, direction)[0]), tiny.atol)


@over(one_of_each, among=KINDS_OF_ATTENTION)
def test_every_sweep_equals_its_slow_twin(tiny: Tiny) -> None:
    """By layer, position, head, head and position, query and key: every place is there once, the last of each kind is
    what a whole pass gives. Prompts of two lengths, named positions."""
    p, layer, at, kinds = prompts(padded=True), tiny.family.n_layers - 1, ("MID", "END"), kinds_of(tiny)
    of_heads = [kind for kind in kinds if kind in (*OF_HEAD, *OF_KV_HEAD)]
    sweeps = {
        "layer": (kinds, 1),
        "position": (kinds, len(at)),
        "head": (of_heads, 1),
        "head and position": (of_heads, len(at)),
        "query and key": ([kind for kind in kinds if kind in ("pattern", "scores")], len(at) ** 2),
    }
    directions = ("denoising", "noising") if hooked(tiny) else ("denoising",)  # the slow twins of a bridge are slow
    for by, (what, places) in sweeps.items():
        for direction in directions if what else ():
            effects = interventions.patch_sweep(
                tiny.model, p, what, by=by, layers=[layer], positions=at, direction=direction
            )
            found = [nodes[0] for nodes in effects.nodes]
            for kind in what:
                rows = [i for i, site in enumerate(found) if isinstance(site, Site) and site.kind == kind]
                heads = tiny.family.kv_heads if kind in OF_KV_HEAD else tiny.family.n_heads
                assert len({found[i] for i in rows}) == len(rows) == places * (1 if by in WHOLE else heads), (by, kind)
                expected = slow.activation_patched(tiny.model, p, list(effects.nodes[rows[-1]]), direction)
                close(effects.after[rows[-1]], expected, 10 * tiny.atol)


@over(one_of_each, among=KINDS_OF_ATTENTION)
def test_places_patched_together_are_one_run(tiny: Tiny) -> None:
    """Law 16: (q, k) = pattern, (q, k, v) = z, and (pattern, v) = z where patterns are live: of a whole layer, and of
    the query heads that share a key-value head."""
    p, layer = prompts(), tiny.family.n_layers - 1
    together = {
        "z": [Site("z", layer)],
        "qkv": [Site(kind, layer) for kind in "qkv"],
        "qk": [Site(kind, layer) for kind in "qk"],
    }
    group = tiny.family.n_heads // tiny.family.kv_heads
    heads = [Head(layer, head) for head in range(group, 2 * group)]
    shared = heads[0] if group == 1 else KvHead(layer, 1)
    together |= {
        "z of some": [Site("z", head) for head in heads],
        "qkv of some": [*(Site("q", head) for head in heads), Site("k", shared), Site("v", shared)],
    }
    if patterns_are_live(tiny):
        together |= {"pattern": [Site("pattern", layer)], "pattern v": [Site("pattern", layer), Site("v", layer)]}
    effects = interventions.patch(tiny.model, p, list(together.values()))
    after = dict(zip(together, effects.after, strict=True))
    for name, sites in together.items():
        close(after[name], slow.activation_patched(tiny.model, p, sites, "denoising"), 10 * tiny.atol)
    close(after["qkv"], after["z"], tiny.atol)
    close(after["qkv of some"], after["z of some"], tiny.atol)
    if patterns_are_live(tiny):
        close(after["qk"], after["pattern"], tiny.atol)
        close(after["pattern v"], after["z"], tiny.atol)
    assert (after["qk"] - after["z"]).abs().max() > 1e-4


@over(one_of_each, among=KINDS_OF_ATTENTION)
def test_the_whole_stream_is_the_other_run(tiny: Tiny) -> None:
    """Law 15 and 20: all positions of resid_pre of any layer, or of what leaves the last: normalised 1."""
    effects = interventions.patch_sweep(tiny.model, prompts(), ("resid_pre", "resid_post"), by="layer")
    assert effects.other is not None
    close(effects.after, effects.other.expand_as(effects.after), 10 * tiny.atol)
    close(effects.normalised(), torch.ones(len(effects.nodes)), 1e-3)


@over(one_of_each)
def test_sweeps_name_every_place_once(tiny: Tiny) -> None:
    """layer x position, layer x head, layer x head x position, and attention by query and key."""
    p, arch = prompts(), models.describe(tiny.model)
    n, width = arch.n_layers, p.clean.shape[1]
    stream = interventions.patch_sweep(tiny.model, p, "attn_out")
    assert [nodes[0] for nodes in stream.nodes] == [
        Site("attn_out", la, (at,)) for la in range(n) for at in range(width)
    ]
    values = interventions.patch_sweep(tiny.model, p, "v")
    assert len(values.nodes) == n * arch.n_kv_heads
    z = interventions.patch_sweep(tiny.model, p, "z", by="head and position", layers=[1], positions=["MID", "END"])
    assert [str(nodes[0]) for nodes in z.nodes[:3]] == ["a1.h0@MID", "a1.h0@END", "a1.h1@MID"]
    for i in (0, 3):
        close(z.after[i], slow.activation_patched(tiny.model, p, list(z.nodes[i]), "denoising"), tiny.atol)
    if patterns_are_live(tiny):
        entries = interventions.patch_sweep(
            tiny.model, p, "pattern", by="query and key", layers=[1], positions=["MID", "END"]
        )  # fmt: skip
        assert len(entries.nodes) == arch.n_heads * 4
        assert str(entries.nodes[2][0]) == "a1.h0<pattern>@END<-MID"
        for i in (2, 3):
            close(
                entries.after[i], slow.activation_patched(tiny.model, p, list(entries.nodes[i]), "denoising"), tiny.atol
            )


@over(one_of_each)
def test_patching_a_run_with_itself_changes_nothing(tiny: Tiny) -> None:
    """Law 14, where the two runs are the same on some prompts."""
    p = prompts()
    same = changed(p, corrupted=torch.cat([p.clean[:4], p.corrupted[4:]]))
    effects = interventions.patch_sweep(tiny.model, same, ("resid_pre", "z"))
    assert torch.equal(effects.change[:, :4], torch.zeros_like(effects.change[:, :4])), "not nearly: exactly nothing"
    assert effects.change[:, 4].abs().max() > 1e-3


@over(one_of_each)
def test_what_comes_before_the_first_difference_is_not_run(tiny: Tiny) -> None:
    """Law 17: the effect is 0, not nearly 0, and the plan knows it. The same after the position that is read."""
    p = prompts(padded=True)
    positions = list(range(5))
    planned = interventions.patch_sweep.declare(tiny.model, p, "resid_pre", positions=positions)
    assert planned.plan.without_effect == FIRST_DIFFERENCE * tiny.family.n_layers
    effects = planned.run()
    by_position = effects.change.view(tiny.family.n_layers, len(positions), -1)
    assert torch.equal(by_position[:, :FIRST_DIFFERENCE], torch.zeros_like(by_position[:, :FIRST_DIFFERENCE]))
    assert by_position[:, FIRST_DIFFERENCE].abs().min() > 1e-6
    early = p.metric()
    early = changed(early, positions=torch.full_like(early.positions, 3))
    late = interventions.patch.declare(tiny.model, p, ["resid_pre.0@4", "resid_pre.0@3"], metric=early)
    assert late.plan.without_effect == 1
    assert torch.equal(late.run().change[0], torch.zeros(len(p), dtype=late.run().change.dtype))


@over(one_of_each)
def test_noising_is_denoising_of_the_prompts_exchanged(tiny: Tiny) -> None:
    p, what = prompts(padded=True), ("attn_out", "z", "k")
    other = changed(p, clean=p.corrupted, corrupted=p.clean)
    for ours_is, theirs_is in (("noising", "denoising"), ("denoising", "noising")):
        ours = interventions.patch_sweep(tiny.model, p, what, direction=ours_is)
        theirs = interventions.patch_sweep(tiny.model, other, what, direction=theirs_is)
        assert torch.equal(ours.after, theirs.after) and torch.equal(ours.before, theirs.before)
        assert ours.other is not None and theirs.other is not None and torch.equal(ours.other, theirs.other)


@over(one_of_each)
def test_prompts_do_not_see_each_other(tiny: Tiny) -> None:
    """Laws 21 and 46: a permuted batch gives permuted effects, one prompt at a time the same ones."""
    p, order = prompts(padded=True), [4, 2, 0, 3, 1]
    places = ["a1.h1", "resid_pre.1@MID", "a0.h0<q>@END"]
    whole = interventions.patch(tiny.model, p, places).after
    close(interventions.patch(tiny.model, p[order], places).after, whole[:, order], 10 * tiny.atol)
    close(interventions.patch(tiny.model, p[3], places).after[:, 0], whole[:, 3], 10 * tiny.atol)


@over(one_of_each)
def test_memory_changes_no_number(tiny: Tiny) -> None:
    """Little memory splits variants, and then prompts."""
    p = prompts(padded=True)
    what = ("resid_pre", "z", "v")
    large, small = (
        interventions.patch_sweep.declare(tiny.model, p, what, positions=["MID", "END"], memory=memory)
        for memory in ("auto", "70kB")
    )
    assert small.plan.prompts_at_once < large.plan.prompts_at_once == len(p)
    assert small.plan.bytes < large.plan.bytes
    close(small.run().after, large.run().after, 10 * tiny.atol)


@over(one_of_each)
def test_padding_changes_no_number(tiny: Tiny) -> None:
    """Law 47: prompts that are padded further, and with other tokens, have the same effects."""
    p, more = prompts(padded=True), 3
    junk = torch.randint(VOCAB, (len(p), more + p.clean.shape[1]), generator=torch.Generator().manual_seed(9))
    real = torch.nn.functional.pad(p.mask, (0, more))
    wide = {
        side: torch.nn.functional.pad(p.side(side), (0, more)).where(real, junk if side == "clean" else junk.flip(0))
        for side in ("clean", "corrupted")
    }
    padded = changed(p, clean=wide["clean"], corrupted=wide["corrupted"])
    what = [kind for kind in kinds_of(tiny) if kind in ("resid_pre", "z", "k", "pattern")]
    for direction in ("denoising", "noising"):
        ours, theirs = (
            interventions.patch_sweep(tiny.model, q, what, by="layer", direction=direction) for q in (p, padded)
        )
        close(theirs.after, ours.after, 10 * tiny.atol)


@over(lambda tiny: tiny.family is MISTRAL, among=WIDE)
def test_what_a_window_leaves_out_has_no_effect(tiny: Tiny) -> None:
    """The windows of these models are shorter than the prompts: END, position 6, attends to 4, 5 and 6."""
    last = LAYERS - 1
    effects = interventions.patch(tiny.model, prompts(), [f"resid_pre.{last}@{at}" for at in (2, 3, 4, 5)])
    by_position = effects.change.abs().amax(1)
    assert bool((by_position[:2] <= tiny.atol).all()) and bool((by_position[2:] > 1e-4).all())


@over(lambda tiny: not scores_are_live(tiny), among=EVERYWHERE)
def test_dead_activations_are_refused(tiny: Tiny) -> None:
    """On a bridge whose module goes on with its own pattern a patch would have no effect, silently."""
    dead = {"scores": "hook_attn_scores"} | ({} if patterns_are_live(tiny) else {"pattern": "hook_pattern"})
    for kind, name in dead.items():
        with pytest.raises(UnsupportedError, match=f"{name} changes nothing in this TransformerBridge"):
            interventions.patch_sweep(tiny.model, prompts(), kind)


@over(lambda tiny: tiny.backend == "bridge", has_mlp, sequential)
def test_a_stream_beside_the_model_is_refused(tiny: Tiny) -> None:
    """What a bridge shows between attention and MLP is either what its model goes on with, or it is refused."""
    try:
        effects = interventions.patch(tiny.model, prompts(), ["resid_mid.0"])
    except UnsupportedError as error:
        assert "hook_resid_mid changes nothing" in str(error)
    else:
        close(
            effects.after[0],
            slow.activation_patched(tiny.model, prompts(), [Site("resid_mid", 0)], "denoising"),
            tiny.atol,
        )
        assert effects.change.abs().max() > 1e-4


REFUSED = {
    "no place": (["9"], InputError, "Expected a node such as 'a9.h6'"),
    "no such head": (["9.6"], InputError, "is not in this model, which has layers 0-1, heads 0-3"),
    "no such layer": (["resid_pre.7"], InputError, "resid_pre.7 is not in this model, which has layers 0-1"),
    "no such kind": (["nonsense.1"], NotFoundError, "Expected a kind of activation, one of resid_pre,"),
    "no such position": (
        ["0.1@S2"],
        NotFoundError,
        "Expected a named position, one of END, MID, or an index; got 'S2'.",
    ),
    "beyond": (["0.1@9"], InputError, "Expected a position inside every prompt"),
    "positions twice": ([("0.1@END", "MID")], InputError, "Expected positions once, got a0.h1@END and 'MID'"),
    "no list": ("0.1", InputError, "got '0.1'; put it in a list: ['0.1']."),
    "nothing together": ([[]], InputError, "Expected at least one place in every intervention"),
    "a neuron's kind": ([Site("z", Neuron(0, 1))], InputError, "z is an activation of a Head, got m0.n1"),
    "logits": (["logits"], InputError, "Expected a head, an MLP, a neuron, 'input' or a site"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_place_is_refused(name: str, as_users_run: None) -> None:
    places, error, sentence = REFUSED[name]
    with pytest.raises(error) as raised:
        interventions.patch.declare(ALL[0].model, prompts(), places)
    assert sentence in str(raised.value), str(raised.value)


def test_sweeps_that_mean_nothing_are_refused(as_users_run: None) -> None:
    p, model = prompts(padded=True), ALL[0].model
    for options, error, sentence in (
        (
            {"what": "resid_pre", "by": "head"},
            InputError,
            "Expected resid_pre by one of position, layer, got by='head'",
        ),
        ({"what": []}, InputError, "Expected a kind of activation, one of"),
        ({"what": "z", "positions": []}, InputError, "Expected a list of positions, got []; write a list, such as"),
        ({"what": "z", "direction": "up"}, InputError, "Expected direction to be one of denoising, noising, got 'up'"),
    ):
        with pytest.raises(error) as raised:
            interventions.patch_sweep.declare(model, p, **options)  # type: ignore[arg-type]
        assert sentence in str(raised.value), str(raised.value)
    named = interventions.patch_sweep.declare(model, p, "resid_pre")
    assert [str(nodes[0]) for nodes in named.nodes[:2]] == ["resid_pre.0@MID", "resid_pre.0@END"], "lengths differ"
    unnamed = changed(p, positions={"END": p.positions["END"]})
    with pytest.raises(UnsupportedError, match="share no token positions, and none but END is named"):
        interventions.patch_sweep.declare(model, unnamed, "resid_pre")


def test_mlps_and_input_are_places_too() -> None:
    p = prompts()
    effects = interventions.patch(ALL[0].model, p, [Mlp(0), "input", "m0.n3"])
    assert effects.labels == ("MLP 0", "input", "m0.n3")
    assert effects.other is not None
    close(effects.after[1], effects.other, 1e-9)


def test_a_kind_is_known_by_the_end_of_its_transformerlens_name() -> None:
    p, model = prompts(), ALL[0].model
    for ours, theirs in (("z", "hook_z"), ("resid_pre", "hook_resid_pre"), ("mlp_out", "hook_mlp_out")):
        assert torch.equal(
            interventions.patch_sweep(model, p, theirs).after, interventions.patch_sweep(model, p, ours).after
        )
    assert str(interventions.patch.declare(model, p, ["a1.h0<hook_q>"]).nodes[0][0]) == "a1.h0<q>"
