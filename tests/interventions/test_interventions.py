"""What surrounds the numbers: plans, memory, partial results, cancelling, and effects worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from llmtrace.errors import Cancelled, FileFormatError, InputError, LimitError, MismatchError, NotFoundError
from llmtrace.interventions import Effects, ablate, patch, patch_sweep, path_patch
from llmtrace.interventions.engine.checkpoint import fingerprint
from llmtrace.interventions.engine.shared_passes import Chunk, chunks_of
from llmtrace.models import final_residual, load
from llmtrace.models.memory import budget, size
from llmtrace.nodes import Head, KvHead, Mlp, Neuron, Port, Site, parse_place
from llmtrace.progress import listen
from llmtrace.prompts import ioi

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def model():
    return load("tiny-english", dtype="float64")


@pytest.fixture(scope="module")
def prompts(model):
    return ioi(model, 6, seed=0, corruption="s2_random")


# --- plans and memory ------------------------------------------------------------------------------------------------


def test_a_plan_counts_layers_and_positions(model, prompts):
    """resid_pre of layer l at position p runs (4 - l) / 4 layers of (15 - p) / 15 positions; S2, the first difference,
    is position 10, so ten positions of each layer are not run."""
    plan = patch_sweep.declare(model, prompts, "resid_pre", memory="800kB").plan
    least = sum((4 - layer) / 4 * (15 - p) / 15 for layer in range(4) for p in range(10, 15))
    assert plan.interventions == 60 and plan.without_effect == 40
    whole = patch_sweep.declare(model, prompts, "resid_pre").plan  # a few positions share a pass
    assert plan.prompts_at_once == 1 and whole.prompts_at_once == 6
    together = sum((4 - layer) / 4 * 5 * 5 / 15 for layer in range(4))
    assert 2 + least <= whole.passes <= 2 + together
    assert str(whole).startswith("60 interventions (40 cannot have an effect and are not run): ")


def test_nothing_runs_while_planning(model, prompts, monkeypatch):
    monkeypatch.setattr(
        "llmtrace.interventions.engine.intervention.keep_base", lambda *_, **__: pytest.fail("a plan ran the model")
    )
    assert patch_sweep.declare(model, prompts, ("z", "q")).plan.interventions == 64
    assert path_patch.declare(model, prompts, receivers=["a3.h2<k>"]).plan.passes > 2


def test_memory_is_bytes_or_words():
    assert budget(1000, CPU) == 1000 and budget("512MB", CPU) == 512 * 10**6 and budget("1.5 GiB", CPU) == 3 * 2**29
    assert budget("auto", CPU) > 10**6
    assert (size(1_500_000_000), size(2_000), size(12)) == ("1.5 GB", "2 kB", "12 bytes")
    for nothing in ("much", "-5", "0", 0):
        with pytest.raises(InputError, match="Expected memory as bytes, 'auto' or a size such as '512MB', got"):
            budget(nothing, CPU)
    with pytest.raises(InputError, match="Expected memory as a whole number or text, got True"):
        budget(True, CPU)


def test_memory_for_no_prompt_is_refused(model, prompts):
    with pytest.raises(LimitError, match=r"Expected room for one prompt, which takes .* got memory=5000; allow more"):
        patch_sweep(model, prompts, "z", memory=5000)


def test_variants_of_a_layer_share_passes():
    """Those of one start together up to the stack; those of an earlier start only while the pass is small."""
    starts = [(0, 1, 5), (1, 1, 5), (2, 1, 5), (3, 0, 5), (4, 1, 2)]
    assert chunks_of(starts, [2] * 9, [0] * 9) == (
        Chunk((3,), 0, 5), Chunk((2, 1), 1, 5), Chunk((0,), 1, 5), Chunk((4,), 1, 2),
    )  # fmt: skip
    assert chunks_of(starts, [9] * 9, [9] * 9) == (Chunk((3,), 0, 5), Chunk((2, 1, 0, 4), 1, 2))


# --- stopping and going on -------------------------------------------------------------------------------------------


def stopped_after(steps: int, seen: list[int]):
    def callback(done: int, total: int | None, label: str) -> None:
        seen.append(done)
        if done == steps:
            raise Cancelled("Stopped from outside; nothing was written.")

    return callback


@pytest.mark.parametrize("method", ["patch_sweep", "path_patch", "ablate"])
def test_a_sweep_goes_on_where_it_was_stopped(model, prompts, tmp_path: Path, method: str):
    """Bit for bit the numbers of a run that was never stopped; what was done is not done again."""
    run = {
        "patch_sweep": lambda **how: patch_sweep(model, prompts, "z", memory="800kB", **how),
        "path_patch": lambda **how: path_patch(model, prompts, receivers=["a3.h2<k>"], memory="900kB", **how),
        "ablate": lambda **how: ablate(model, prompts, ablation="zero", memory="800kB", **how),
    }[method]
    whole, file, seen = run(), tmp_path / "partial.safetensors", []
    with pytest.raises(Cancelled), listen(stopped_after(3, seen)):
        run(resume=file)
    assert file.is_file() and seen == [0, 1, 2, 3]
    metric = prompts.metric()
    before = metric.of_residual(model, metric.here(final_residual(model, prompts.clean)))
    again = run(resume=file)
    assert torch.equal(again.after, whole.after) and torch.equal(again.before, whole.before)
    assert not file.exists()
    assert torch.equal(metric.of_residual(model, metric.here(final_residual(model, prompts.clean))), before)


def test_what_was_done_is_not_done_again(model, prompts, tmp_path, monkeypatch):
    from llmtrace.interventions.engine import sweep as engine

    file, ran, plain = tmp_path / "partial", [], engine.Sweep.values
    monkeypatch.setattr(
        engine.Sweep, "values", lambda self, chunk, *rest: ran.append(chunk) or plain(self, chunk, *rest)
    )
    with pytest.raises(Cancelled), listen(stopped_after(2, [])):
        patch_sweep(model, prompts, "z", memory="800kB", resume=file)
    first, planned = len(ran), patch_sweep.declare(model, prompts, "z", memory="800kB")
    patch_sweep(model, prompts, "z", memory="800kB", resume=file)
    assert first == 2 and len(ran) == len(planned.shares.chunks) * len(prompts.batches(planned.plan.prompts_at_once))


def test_without_a_file_nothing_is_written_and_no_hook_stays(model, prompts, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Cancelled), listen(stopped_after(1, [])):
        patch_sweep(model, prompts, "z", memory="800kB")
    assert list(tmp_path.iterdir()) == []
    assert not any(point.fwd_hooks for point in model.hook_dict.values())


def test_partial_results_of_another_sweep_are_refused(model, prompts, tmp_path):
    file = tmp_path / "partial"
    with pytest.raises(Cancelled), listen(stopped_after(1, [])):
        patch_sweep(model, prompts, "z", memory="800kB", resume=file)
    for other in (
        lambda: patch_sweep(model, prompts, "q", resume=file),
        lambda: patch_sweep(model, prompts, "z", direction="noising", resume=file),
        lambda: patch_sweep(model, prompts, "z", metric="probability", resume=file),
        lambda: patch_sweep(model, ioi(model, 6, seed=1, corruption="s2_random"), "z", resume=file),
    ):
        with pytest.raises(MismatchError, match="'partial' holds partial results of another sweep"):
            other()
    file.write_bytes(b"no tensors")
    with pytest.raises(FileFormatError, match="'partial' holds no partial results"):
        patch_sweep(model, prompts, "z", resume=file)


def test_fingerprints_tell_values_apart():
    t = torch.arange(4.0)
    same = fingerprint(t, [Head(1, 2)], {"a": 1}), fingerprint(t.clone(), [Head(1, 2)], {"a": 1})
    assert same[0] == same[1]
    others = {fingerprint(t.double()), fingerprint(t + 1), fingerprint(t.view(2, 2)), fingerprint(t), fingerprint("t")}
    assert len(others) == 5


# --- effects by hand -------------------------------------------------------------------------------------------------


def effects(**changes) -> Effects:
    found = Effects(
        nodes=((Head(0, 0),), (Head(1, 3),), (Mlp(0),), (Head(1, 2),)),
        before=torch.tensor([4.0, 2.0]),
        after=torch.tensor([[4.0, 2.0], [1.0, 1.0], [5.0, 2.0], [3.0, 1.0]]),
        other=torch.tensor([0.0, -2.0]), method="test", metric="logit_diff", provenance={}, passes=1.0, group=2,
    )  # fmt: skip
    return replace(found, **changes)


def test_shares_and_self_repair_by_hand():
    """Ways of -4 and -4: shares of mean changes 0, -2, .5, -1."""
    found = effects(direct=torch.tensor([[4.0, 2.0], [0.0, 0.0], [5.0, 2.0], [3.0, 1.0]]))
    assert found.normalised().tolist() == [0.0, 0.5, -0.125, 0.25]
    assert found.self_repair()[1].tolist() == [1.0, 1.0], "the direct effect was -4 and -2, the whole one -3 and -1"
    table = found.df()
    assert table["self_repair"].tolist() == [0.0, 1.0, 0.0, 0.0] and table["direct"].tolist() == [0.0, -3.0, 0.5, -1.0]
    low, high = found.normalised_interval()
    assert low[0] == high[0] == 0 and low[1] == pytest.approx(0.25) and high[1] == pytest.approx(0.75)
    assert list(found[[1, 2]].labels) == ["1.3", "MLP 0"] and found[1:3].after.shape == (2, 2)
    with pytest.raises(InputError, match="did not measure direct effects"):
        effects().self_repair()


def test_the_next_step_back_is_named():
    """Queries are a head's own; keys and values are those of the key-value head that the group shares."""
    assert effects().ports("q", 2) == [Port(Head(1, 3), "q"), Port(Head(1, 2), "q")]
    assert effects().ports("v", 2) == [Port(KvHead(1, 1), "v")]
    assert effects(group=1).ports("k", 1) == [Port(Head(1, 3), "k")]
    with pytest.raises(InputError, match="Expected effects of single heads to take the q ports of, got none"):
        effects().ports("q", sign=1)
    with pytest.raises(InputError, match="Expected the slot 'q', 'k' or 'v', got 'z'"):
        effects().ports("z")
    with pytest.raises(NotFoundError):
        effects().of(Head(7, 7))


def test_places_are_read_and_printed():
    for text, place, label in (
        ("a9.h6", Head(9, 6), "9.6"),
        ("a9.h6<q>@END", Site("q", Head(9, 6), ("END",)), "9.6<q>@END"),
        ("a9.h6@S1+-1", Site("z", Head(9, 6), ("S1", -1)), "9.6@S1+-1"),
        ("a0.kv1<k>", Site("k", KvHead(0, 1)), "0.kv1<k>"),
        ("resid_pre.5@S2", Site("resid_pre", 5, ("S2",)), "resid_pre 5@S2"),
        ("m3.n12@4", Site("mlp_post", Neuron(3, 12), (4,)), "m3.n12@4"),
    ):
        assert parse_place(text) == place and str(place) == text and place.label == label
    assert parse_place("9.6@END") == Site("z", Head(9, 6), ("END",)) and parse_place("m3@END") == Site(
        "mlp_out", 3, ("END",)
    )
    with pytest.raises(InputError, match=r"Expected a head before <q>, such as 'a9\.h6<q>', got 'm3<q>'"):
        parse_place("m3<q>")


def test_means_are_taken_over_what_was_asked(model, prompts):
    """The replaced vector, read off by ablating a head to it: per group, per position, over everything, held out."""
    name, head = "blocks.2.attn.hook_z", Head(2, 2)
    found: dict[str, torch.Tensor] = {}
    final_residual(model, prompts.corrupted, [(name, lambda v: found.__setitem__("z", v[:, :, 2]))])
    z = found["z"]
    by_group = torch.stack([z[prompts.groups == prompts.groups[i]].mean(0) for i in range(len(prompts))])
    for over, expected in (
        ("group", by_group),
        ("position", z.mean(0).expand_as(z)),
        ("global", z.mean((0, 1)).expand_as(z)),
    ):

        def put(value, expected=expected):
            value = value.clone()
            value[:, :, 2] = expected
            return value

        metric = prompts.metric()
        slow = metric.of_residual(model, metric.here(final_residual(model, prompts.clean, [(name, put)])))
        fast = ablate(model, prompts, [head], over=over)
        assert torch.allclose(fast.after[0], slow, atol=1e-10), over
    held_out = ablate(model, prompts, [head], reference=ioi(model, 12, seed=5))
    own = ablate(model, prompts, [head], reference="clean")
    assert held_out.options["reference"] == "ioi" and (held_out.after - own.after).abs().max() > 1e-3
    # a group is its name, not its number: the same reference with its groups counted the other way round
    last = len(prompts.group_names) - 1
    assert last > 0 and len(set(prompts.groups.tolist())) > 1
    renamed = replace(prompts, groups=last - prompts.groups, group_names=prompts.group_names[::-1])
    for some in (prompts, renamed):
        turned = ablate(model, some, [head], reference=renamed)
        assert torch.allclose(turned.after, own.after, atol=1e-10)
    others = ioi(model, 32, seed=0)
    others = others[others.groups > 1]  # other templates: the names of the groups are still those of the whole set
    with pytest.raises(InputError, match=r"Expected reference prompts of the group .* tokens long, got none"):
        ablate(model, prompts, [head], reference=others)
    assert ablate(model, prompts, [head], reference=others, over="global").change.abs().max() > 1e-3


def test_neurons_and_values_and_positions(model, prompts):
    """A neuron, a head and a site by name; to a given vector; at END alone."""
    whole = ablate(model, prompts, ["m2.n5", "2.2", "a2.h2<v>"], ablation="zero", positions=["S2"])
    assert whole.labels == ("m2.n5@S2", "2.2@S2", "2.2<v>@S2")
    given = ablate(model, prompts, ["2.2"], ablation="value", value=torch.zeros(model.cfg.d_head, dtype=torch.float64))
    zero = ablate(model, prompts, ["2.2"], ablation="zero")
    assert torch.equal(given.after, zero.after)
    everywhere = patch(model, prompts, [("2.2", ["S2"])], direction="noising")
    same = ablate(model, prompts, ["2.2@S2"], ablation="resample")
    assert torch.allclose(everywhere.after, same.after, atol=1e-12)


def test_the_direct_effect_is_what_the_logits_read_directly(model, prompts):
    """Ablation by resampling takes away directly what path patching with everything frozen sends."""
    nodes = [Head(3, 2), Head(2, 2), Mlp(3)]
    removed = ablate(model, prompts, nodes, ablation="resample")
    sent = path_patch(model, prompts, senders=nodes, convention="all_frozen")
    assert removed.direct is not None
    assert torch.allclose(removed.direct, sent.after, atol=1e-10)
    repair = removed.self_repair().mean(1)
    assert repair[2].abs() < 1e-10, "nothing comes after the last MLP"
