"""Fit, calibrate, test, prove: what is known about tiny-english must come out, and nothing where there is nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import llmtrace as lt
from llmtrace.audit import BASELINES, SETS, LabelledPrompts, by_output, labelled_jsonl, study
from llmtrace.audit.evidence.lever import Nodes
from llmtrace.audit.evidence.prove import behaviour, behaviour_of, prove
from llmtrace.audit.evidence.roc import auroc
from llmtrace.audit.evidence.without import without
from llmtrace.audit.labelled import read_rows
from llmtrace.errors import InputError, MismatchError, NotFoundError, UnsupportedError
from llmtrace.models import logits
from llmtrace.nodes import Head
from llmtrace.prompts import Spans, from_texts


def test_attention_to_the_instruction_tells_whom_the_model_obeys_and_carries_it(studied):
    table = studied.df().set_index("monitor")
    own = table.loc["span_attention"]
    assert own["auroc"] > 0.95 and own["beats"] and own["verdict"] == "causal"
    assert own["effect_high"] < 0 and abs(own["effect"]) > 2 * own["effect_by_lot"]
    assert table.loc["bag_of_words", "auroc"] < 0.8 and set(BASELINES) <= set(table.index)


def test_the_watched_heads_are_those_that_ablation_names(model, instructions, studied):
    """Of all heads, each ablated alone, the one that the behaviour needs most is among those that are watched."""
    followed = behaviour_of(instructions[instructions.labels].prompts)
    alone = lt.ablate(model, followed, [*lt.models.describe(model).heads], over="global", reference="clean")
    (needed,), _ = min(zip(alone.nodes, alone.mean().tolist(), strict=True), key=lambda row: row[1])
    assert needed in studied.watch("span_attention").heads


def test_the_numbers_of_the_table_are_those_of_the_values(studied):
    table = studied.df()
    for row, name in enumerate(studied.names):
        assert table.loc[row, "auroc"] == auroc(studied.values[row], studied.labels)
        false = studied.values[row][~studied.labels].double()
        assert table.loc[row, "fpr_test"] == float((false > studied.threshold[row]).double().mean())
        assert table.loc[row, "fpr"] <= studied.rate
        low, high = studied.auroc(name)[1:]
        assert low <= studied.auroc(name)[0] <= high


def test_permuted_labels_teach_nothing(model, instructions):
    """A half lies within the interval of each monitor, or it is chance: most of them."""
    order = torch.randperm(len(instructions), generator=torch.Generator().manual_seed(3))
    found = study(model, replace(instructions, labels=instructions.labels[order]), draws=1)
    inside = [low <= 0.5 <= high for _, low, high in map(found.auroc, found.names)]
    assert sum(inside) >= len(inside) - 2


def test_a_study_is_a_file(studied, tmp_path):
    again = lt.load_result(studied.save(tmp_path / "study.safetensors"))
    assert again.df().equals(studied.df()) and repr(again) == repr(studied)


def test_a_head_that_does_nothing_is_no_cause(model, instructions):
    """The one whose ablation changes the behaviour least: others by lot change more."""
    followed = behaviour_of(instructions[instructions.labels].prompts)
    alone = lt.ablate(model, followed, [*lt.models.describe(model).heads], over="global", reference="clean")
    (idle,), _ = min(zip(alone.nodes, alone.mean().abs().tolist(), strict=True), key=lambda row: row[1])
    found = prove(model, Nodes((idle,)), instructions, draws=19)
    assert found.verdict == "correlate" and found.p > 0.5


def test_the_effect_is_that_of_ablate(model, instructions):
    true = instructions[instructions.labels][:8]
    rows = LabelledPrompts(true.prompts, true.spans, true.labels, true.meaning)
    found = prove(model, Nodes((Head(3, 2), Head(2, 1))), rows, draws=1)
    by = {"ablation": "mean", "over": "global", "reference": "clean", "together": True}
    slow = lt.ablate(model, behaviour_of(rows.prompts), ["3.2", "2.1"], **by)
    assert found.effect == pytest.approx(slow.mean().item(), abs=1e-5)


def test_behaviour_grows_with_the_wrong_answer(model, instructions):
    some = instructions[:6]
    final = logits(model, some.prompts.clean)[torch.arange(6), some.prompts.lengths - 1]
    by_hand = [final[i, some.prompts.wrong[i][0]] - final[i, some.prompts.correct[i][0]] for i in range(6)]
    found = behaviour(model, behaviour_of(some.prompts))
    torch.testing.assert_close(found, torch.stack(by_hand).cpu(), rtol=1e-4, atol=1e-4)
    assert torch.equal(found > 0, some.labels)


@pytest.mark.parametrize("name", [name for name in SETS if name != "system_against_user"])
def test_a_set_has_both_classes_and_kinds_and_is_labelled_by_what_the_model_says(model, name):
    found = SETS[name](model, 60, seed=1)
    assert len({*found.kinds}) == 6 and 0 < int(found.labels.sum()) < 60
    assert len({*found.prompts.texts}) == 60
    again = by_output(model, found.prompts, found.spans)
    assert torch.equal(again.labels, found.labels)
    assert SETS[name](model, 60, seed=1).prompts.texts == found.prompts.texts


def test_a_set_for_chats_is_refused_by_a_model_without_them(model):
    with pytest.raises(UnsupportedError, match=r"a chat model such as .* which the set system_against_user"):
        SETS["system_against_user"](model)


def test_tokens_that_are_taken_out_are_gone(model):
    prompts = from_texts(model, ["Mary has the key .", "Fact one : Tom has the ball . Mary"])
    spans = Spans.of_positions(prompts, {"gone": [2, 3]})
    shorter, its = without(prompts, spans, spans.members[:, spans.index("gone")])
    names = [model.tokenizer.decode(row[:n]) for row, n in zip(shorter.clean, shorter.lengths.tolist(), strict=True)]
    whole = [model.tokenizer.decode(row[:n]) for row, n in zip(prompts.clean, prompts.lengths.tolist(), strict=True)]
    assert [len(text) < len(before) for text, before in zip(names, whole, strict=True)] == [True, True]
    for row in range(2):
        kept = [t for at, t in enumerate(prompts.clean[row, : prompts.lengths[row]].tolist()) if at not in (2, 3)]
        assert shorter.clean[row, : shorter.lengths[row]].tolist() == kept
    assert int(its.sizes[:, its.index("gone")].sum()) == 0
    assert without(prompts, spans, torch.zeros_like(prompts.mask)) is None


def test_rows_of_a_file(model, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(
        '{"text": "Mary has the key . Mary has the", "label": true, "kind": "a", "spans": {"document": "key"}}\n\n'
        '{"text": "Tom has the ball . Tom has the", "label": false, "kind": "b"}\n'
    )
    found = labelled_jsonl(model, path)
    assert found.labels.tolist() == [True, False] and found.kinds == ("a", "b")
    assert found.spans.positions("document") == [4]
    path.write_text('{"text": "Mary has the key . Mary has the", "correct": "key", "wrong": ["ball", "ring"]}\n')
    assert labelled_jsonl(model, path).labels.tolist() == [False]


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ('{"text": "Mary has the key"}', 'Line 1 .* Expected a "label"'),
        ('{"text": "Mary has the key", "label": 1}', '"label" to be true or false, got 1'),
        ('{"txt": "Mary", "label": true}', "Expected the keys .* got 'txt'.*Did you mean 'text'"),
        ('{"label": true}', 'either "text" or "messages"'),
        ('{"text": "Mary has the key", "label": true, "spans": ["key"]}', '"spans" as names and words'),
        ("[1]", "Expected a JSON object"),
        ("{", "one JSON object per line"),
        ("", "at least one row"),
    ],
)
def test_a_bad_row_is_a_sentence(model, tmp_path, row, sentence):
    path = tmp_path / "rows.jsonl"
    path.write_text(row + "\n")
    with pytest.raises(lt.LLMTraceError, match=sentence):
        labelled_jsonl(model, path)


def test_half_of_the_labels_is_refused(model, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "Mary has", "label": true}\n{"text": "Tom has", "correct": "the", "wrong": "a"}\n')
    with pytest.raises(InputError, match="a label in every row or in none, got 1 of 2"):
        labelled_jsonl(model, path)
    assert len(list(read_rows(model, path))) == 2


@pytest.mark.parametrize(
    ("options", "error", "sentence"),
    [
        ({"monitors": ["span_atention"]}, NotFoundError, "Did you mean 'span_attention'"),
        ({"monitors": []}, InputError, "at least one monitor"),
        ({"rate": 1.5}, InputError, "between 0 and 1"),
        ({"draws": 0}, InputError, "at least one draw"),
        ({"options": {"mahalanobs": {}}}, InputError, "options of the monitors of this study"),
    ],
)
def test_a_bad_study_is_a_sentence(model, instructions, options, error, sentence):
    with pytest.raises(error, match=sentence):
        study(model, instructions, **options)


def test_labels_of_other_prompts_are_refused(instructions):
    with pytest.raises(InputError, match="a label for each"):
        replace(instructions, labels=instructions.labels[:-1])
    with pytest.raises(MismatchError):
        replace(instructions, spans=instructions.spans[:-1])
