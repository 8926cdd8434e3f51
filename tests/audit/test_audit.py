"""A policy over prompts: what it finds, what it rests on, and what it refuses."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import yaml

import llmtrace as lt
from llmtrace.audit import Policy, audit, embedded_instruction, measured
from llmtrace.audit.evidence.without import without
from llmtrace.errors import FileFormatError, InputError, MismatchError, NotFoundError
from llmtrace.models import load


@pytest.fixture(scope="module")
def policy(studied):
    return Policy.of(studied, ["span_attention", "logistic_probe"], severity="high")


@pytest.fixture(scope="module")
def fresh(model):
    """Prompts that nothing was fitted on."""
    return embedded_instruction(model, 60, seed=7)


@pytest.fixture(scope="module")
def report(model, fresh, policy):
    return audit(model, fresh, policy)


def test_it_finds_where_the_model_obeyed_the_document(report, fresh):
    found = {one.prompt for one in report.findings if one.monitor == "span_attention"}
    true = set(fresh.labels.nonzero()[:, 0].tolist())
    assert len(found & true) >= 0.9 * len(true) and len(found - true) <= 0.1 * len(fresh)


def test_a_finding_is_what_lies_above_the_threshold(report, policy):
    above = {
        (rule.watch.monitor, at)
        for row, rule in enumerate(policy.rules)
        for at in range(report.values.shape[1])
        if report.values[row, at].item() > rule.threshold
    }
    assert {(one.monitor, one.prompt) for one in report.findings} == above
    for one in report.findings:
        assert one.value > one.threshold and one.false_positives[0] <= 0.05 and one.evidence


def test_the_remedy_is_a_run_without_the_span(model, report, policy, fresh):
    told = [one for one in report.findings if one.remedy]
    assert told
    for one in told[:4]:
        row, rule = fresh[one.prompt], next(rule for rule in policy.rules if rule.watch.monitor == one.monitor)
        shorter = without(row.prompts, row.spans, row.spans.members[:, row.spans.index(one.remedy)])
        value = measured(model, *shorter, [rule.watch])[0, 0].item()
        assert value == pytest.approx(one.without, abs=1e-4) and value <= one.threshold


def test_the_room_is_called_as_the_verb(model, report, policy, fresh):
    again = lt.audit(model, fresh, policy)
    assert again.df().equals(report.df()) and repr(again) == repr(report)
    assert report.reaches("high") and not report.reaches("critical")


def test_texts_without_spans_are_audited_by_what_needs_none(model, studied):
    quiet = Policy.of(studied, ["stream_norm"])
    assert audit(model, ["Mary has the key .", "Tom has the ball ."], quiet).values.shape == (1, 2)


def test_a_policy_and_a_report_are_files(model, policy, report, fresh, tmp_path):
    again = Policy.load(policy.save(tmp_path / "policy"))
    assert again.df().equals(policy.df()) and again.meaning == policy.meaning
    assert torch.equal(audit(model, fresh, again).values, report.values)
    assert lt.load_result(report.save(tmp_path / "report.safetensors")).df().equals(report.df())


def test_people_change_a_policy(policy, tmp_path):
    path = policy.save(tmp_path / "policy") / "policy.yaml"
    told = yaml.safe_load(path.read_text())
    told["rules"] = told["rules"][:1]
    told["rules"][0] |= {"threshold": 0.9, "severity": "low"}
    path.write_text(yaml.safe_dump(told))
    (rule,) = Policy.load(path).rules
    assert (rule.threshold, rule.severity) == (0.9, "low")


@pytest.mark.parametrize(
    ("change", "error", "sentence"),
    [
        ({"severity": "awful"}, InputError, "Expected severity to be one of info"),
        ({"monitor": "../watch.safetensors"}, FileFormatError, "a file beside the policy"),
        ({"monitor": "none.safetensors"}, NotFoundError, "Expected the file of a result"),
        ({"sha256": "0" * 64}, MismatchError, "another file of that name"),
        ({"threshold": "high"}, FileFormatError, "is damaged"),
        ({"threshold": float("nan")}, InputError, "a threshold for span_attention that is a number"),
    ],
)
def test_a_bad_policy_is_a_sentence(policy, tmp_path, change, error, sentence):
    path = policy.save(tmp_path / "policy") / "policy.yaml"
    told = yaml.safe_load(path.read_text())
    told["rules"][0] |= change
    path.write_text(yaml.safe_dump(told))
    with pytest.raises(error, match=sentence):
        Policy.load(path)


@pytest.mark.parametrize("text", ["[1]", "{", "kind: other", "kind: llmtrace.policy\nschema_version: 9"])
def test_what_is_no_policy_is_a_sentence(tmp_path, text):
    (tmp_path / "policy.yaml").write_text(text)
    with pytest.raises(FileFormatError):
        Policy.load(tmp_path)
    with pytest.raises(NotFoundError, match="the folder that Policy"):
        Policy.load(tmp_path / "none")


def test_a_policy_is_not_replaced(policy, tmp_path):
    policy.save(tmp_path / "policy")
    with pytest.raises(InputError, match="a new folder"):
        policy.save(tmp_path / "policy")


def test_another_model_and_other_spans_are_refused(policy, fresh, model):
    with pytest.raises(MismatchError, match="the model that this policy was fitted on"):
        audit(load("tiny-english", fold_ln=False), fresh, policy)
    with pytest.raises(MismatchError):
        audit(model, fresh.prompts[:3], policy, spans=fresh.spans[3:6])
    with pytest.raises(InputError, match="has its own; leave it out"):
        audit(model, fresh, policy, spans=fresh.spans)


def test_no_rule_is_no_policy(studied, policy):
    with pytest.raises(InputError, match="at least one rule"):
        replace(policy, rules=())
    with pytest.raises(NotFoundError, match="Did you mean 'span_attention'"):
        Policy.of(studied, ["span_atention"])
    beating = Policy.of(studied)
    assert "span_attention" in {rule.watch.monitor for rule in beating.rules}
