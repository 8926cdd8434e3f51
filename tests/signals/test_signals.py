"""Capturing keeps what was asked for and nothing else; traces on disk are exact, lazy and refuse damage."""

from __future__ import annotations

import json

import pytest
import torch
from room import for_passes

from llmtrace.errors import FileFormatError, InputError, NotFoundError, UnsupportedError
from llmtrace.models import as_cache, load
from llmtrace.prompts import ioi
from llmtrace.signals import (
    attention_pattern,
    attention_scores,
    capture,
    head_result,
    keys,
    load_trace,
    mlp_post,
    mlp_pre,
    queries,
    resid_post,
    trace_json_schema,
    z,
)


@pytest.fixture(scope="module")
def model():
    return load("tiny-english", dtype="float64")


@pytest.fixture(scope="module")
def prompts(model):
    return ioi(model, 6, seed=0)


def test_only_what_was_asked_is_kept(model, prompts):
    trace = capture(model, prompts, what=("z", "pattern"), layers=[1, 3])
    assert set(trace.activations) == {f"blocks.{n}.attn.hook_{k}" for n in (1, 3) for k in ("z", "pattern")}
    assert trace.layers == (1, 3)


def test_values_are_transformer_lens_own(model, prompts):
    names = [
        "blocks.2.attn.hook_q",
        "blocks.0.hook_resid_pre",
        "blocks.3.mlp.hook_post",
        "blocks.1.attn.hook_attn_scores",
    ]
    _, cache = model.run_with_cache(prompts.clean, names_filter=lambda n: n in names)
    trace = capture(model, prompts, what=names)
    for name in names:
        assert torch.equal(trace[name], cache[name])


def test_positions_keep_only_those_positions_and_free_the_rest(model, prompts):
    whole = capture(model, prompts, what=("z", "pattern"), layers=[2])
    some = capture(model, prompts, what=("z", "pattern"), layers=[2], positions=["S2", "END"])
    batch = torch.arange(len(prompts))
    for slot, name in enumerate(("S2", "END")):
        at = prompts.positions[name]
        assert torch.equal(z(some, 2)[:, slot], z(whole, 2)[batch, at])
        assert torch.equal(attention_pattern(some, 2)[:, :, slot], attention_pattern(whole, 2)[batch, :, at])
    stored = z(some, 2)
    assert stored.untyped_storage().nbytes() == stored.numel() * stored.element_size(), (
        "a view would keep the whole pass"
    )


def test_batches_give_the_same_trace(model, prompts):
    room = for_passes(model, 4, prompts.clean.shape[1])
    whole, split = capture(model, prompts, what="resid_mid"), capture(model, prompts, what="resid_mid", memory=room)
    for name in whole.activations:
        assert torch.allclose(whole[name], split[name], atol=1e-12)


def test_texts_and_the_corrupted_side(model, prompts):
    text = capture(model, "Mary and John went to the store", what="z", layers=[0])
    assert text.labels[0][:3] == ("<bos>", "Mary", "and")
    assert torch.equal(capture(model, prompts, what="z", side="corrupted").tokens, prompts.corrupted)


def test_readers_name_the_axes(model, prompts):
    what = ("q", "k", "z", "scores", "pattern", "mlp_pre", "mlp_post", "attn_out", "resid_post")
    trace = capture(model, prompts, what=what)
    n, pos = prompts.clean.shape
    assert torch.equal(attention_scores(trace, 1).softmax(-1), attention_pattern(trace, 1))
    assert torch.equal(model.blocks[1].mlp.act_fn(mlp_pre(trace, 1)), mlp_post(trace, 1))
    assert queries(trace, 1).shape == keys(trace, 1).shape == (n, pos, 8, 16)
    assert mlp_post(trace, 1).shape == (n, pos, 512)
    assert resid_post(trace, 3).shape == (n, pos, 128)
    total = head_result(trace, model, 1).sum(2) + model.blocks[1].attn.b_O
    assert torch.allclose(total, trace["blocks.1.hook_attn_out"], atol=1e-10)


def test_a_saved_trace_reads_back_exactly_and_lazily(model, prompts, tmp_path):
    trace = capture(model, prompts, what=("z", "resid_post"), positions="END")
    read = load_trace(trace.save(tmp_path / "run"))
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == ["tensors.safetensors", "trace.json"]
    assert list(read.activations) == list(trace.activations)
    for name in trace.activations:
        assert torch.equal(read[name], trace[name])
    assert torch.equal(read.tokens, trace.tokens) and torch.equal(read.kept, trace.kept)
    assert read.labels == trace.labels and read.kept_names == ("END",)
    assert read.provenance == trace.provenance and read.provenance["flags"]["fold_ln"] is True
    assert read.activations["blocks.0.attn.hook_z"] is not read.activations["blocks.0.attn.hook_z"], (
        "not kept in memory"
    )


def test_the_manifest_follows_the_published_schema(model, prompts, tmp_path):
    content = json.loads((capture(model, prompts, what="z").save(tmp_path / "run") / "trace.json").read_text())
    schema = trace_json_schema()
    assert set(schema["required"]) == set(content) == set(schema["properties"])


def test_saving_over_a_folder_needs_saying_so(model, prompts, tmp_path):
    trace = capture(model, prompts, what="z", layers=[0])
    trace.save(tmp_path / "run")
    with pytest.raises(InputError, match="exists"):
        trace.save(tmp_path / "run")
    capture(model, prompts, what="v", layers=[0]).save(tmp_path / "run", overwrite=True)
    assert "blocks.0.attn.hook_v" in load_trace(tmp_path / "run")
    assert [p.name for p in tmp_path.iterdir()] == ["run"], "nothing else is left behind"


def test_damaged_traces_are_refused(model, prompts, tmp_path):
    def damaged(change):
        path = tmp_path / "run"
        capture(model, prompts, what="z", layers=[0]).save(path, overwrite=True)
        change(path)
        return path

    def truncate(path):
        data = (path / "tensors.safetensors").read_bytes()
        (path / "tensors.safetensors").write_bytes(data[: len(data) // 2])

    def tamper(path):
        data = bytearray((path / "tensors.safetensors").read_bytes())
        data[-1] ^= 1
        (path / "tensors.safetensors").write_bytes(data)

    def newer(path):
        content = json.loads((path / "trace.json").read_text()) | {"schema_version": 99}
        (path / "trace.json").write_text(json.dumps(content))

    for change, sentence in (
        (truncate, "truncated"),
        (tamper, "not what was saved"),
        (newer, "upgrade llmtrace-interp"),
        (lambda p: (p / "trace.json").write_text("{"), "not readable JSON"),
        (lambda p: (p / "trace.json").write_text('{"kind": "x"}'), "Expected a llmtrace.trace file"),
        (lambda p: (p / "tensors.safetensors").unlink(), "incomplete"),
    ):
        with pytest.raises(FileFormatError, match=sentence):
            load_trace(damaged(change))
    with pytest.raises(NotFoundError, match="folder of a trace at 'nowhere'"):
        load_trace(tmp_path / "nowhere")


def test_a_failed_save_leaves_nothing(model, prompts, tmp_path, monkeypatch):
    trace = capture(model, prompts, what="z", layers=[0])

    def full_disk(*_):
        raise OSError("no space left")

    monkeypatch.setattr("llmtrace.signals.trace_files.write_json", full_disk)
    with pytest.raises(OSError, match="no space"):
        trace.save(tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_requests_that_mean_nothing_are_refused(model, prompts):
    with pytest.raises(NotFoundError, match="resid_post"):
        capture(model, prompts, what="resid_pst")
    with pytest.raises(NotFoundError, match="S2"):
        capture(model, prompts, what="z", positions="S3")
    with pytest.raises(InputError, match="layers between 0 and 3"):
        capture(model, prompts, what="z", layers=[4])
    with pytest.raises(NotFoundError, match="was not captured"):
        attention_pattern(capture(model, prompts, what="z"), 0)
    induction = load("induction")
    with pytest.raises(UnsupportedError, match="attention-only"):
        capture(induction, "w1 w2", what="mlp_post")


def test_transformer_lens_cache_over_a_trace(model, prompts):
    cache = as_cache(capture(model, prompts, what="z"), model)
    assert cache["z", 2].shape == (6, prompts.clean.shape[1], 8, 16)
