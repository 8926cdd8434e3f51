"""Laws of every monitor and every baseline, and what each one computes, in small steps."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from llmtrace.audit import BASELINES, MONITORS, measured
from llmtrace.errors import InputError, MismatchError, NotFoundError
from llmtrace.models import load, logits
from llmtrace.results import load_result
from llmtrace.signals import attention_pattern, capture

ROWS = {**MONITORS, **BASELINES}
EVERY = pytest.mark.parametrize("name", ROWS)
CLOSE = {"rtol": 1e-3, "atol": 2e-3}  # float32, other sizes of batches


@pytest.fixture(scope="module")
def fitted(model, distracted):
    return {name: row(model, distracted) for name, row in ROWS.items()}


@EVERY
def test_a_value_is_that_of_the_prompt_alone(model, distracted, fitted, name):
    """Whatever else is in the batch, and however wide its padding is."""
    some = distracted[:6]
    assert len({*some.prompts.lengths.tolist()}) > 1
    (together,) = measured(model, some.prompts, some.spans, [fitted[name]])
    alone = [measured(model, one.prompts, one.spans, [fitted[name]])[0, 0] for one in (some[i] for i in range(6))]
    torch.testing.assert_close(together, torch.stack(alone), **CLOSE)


@EVERY
def test_a_value_is_the_same_whatever_else_is_measured(model, distracted, fitted, name):
    some = distracted[:6]
    every = measured(model, some.prompts, some.spans, [*fitted.values()])
    (own,) = measured(model, some.prompts, some.spans, [fitted[name]])
    torch.testing.assert_close(every[list(fitted).index(name)], own, **CLOSE)


@EVERY
def test_weight_processing_changes_no_value(distracted, fitted, model, name):
    """Fitted on the same prompts, read from the same model without any folding."""
    if name == "random_direction":
        pytest.skip("drawn in the coordinates of the stream: another draw")
    plain = load(
        "tiny-english", fold_ln=False, center_writing_weights=False, center_unembed=False, fold_value_biases=False
    )
    some = distracted[:6]
    (ours,) = measured(model, some.prompts, some.spans, [fitted[name]])
    (theirs,) = measured(plain, some.prompts, some.spans, [ROWS[name](plain, distracted)])
    torch.testing.assert_close(ours, theirs, rtol=2e-2, atol=2e-2)


@EVERY
def test_what_was_fitted_is_a_file(model, distracted, fitted, tmp_path, name):
    again = load_result(fitted[name].save(tmp_path / "watch.safetensors"))
    some = distracted[:3]
    values = measured(model, some.prompts, some.spans, [fitted[name], again])
    assert torch.equal(values[0], values[1])
    assert repr(again) == repr(fitted[name]) and again.df().equals(fitted[name].df())


@EVERY
def test_another_model_is_refused(fitted, name):
    other = load("tiny-english", fold_ln=False)
    with pytest.raises(MismatchError, match=f"the model that {name} was fitted on"):
        fitted[name].require_model(other)


@EVERY
def test_a_row_says_what_it_computes_and_what_it_cannot_see(name):
    facts = ROWS[name].facts()
    assert facts["formula"] and ROWS[name].blind and facts["sign"] and facts["failure"]


@pytest.mark.parametrize("name", [name for name, row in MONITORS.items() if "layer" in row.option_names()])
def test_a_layer_that_is_asked_for_is_read(model, distracted, name):
    assert MONITORS[name](model, distracted, layer=1).layer == 1


def test_attention_to_the_instruction_by_hand(model, distracted, fitted):
    watch, i = fitted["span_attention"], 4
    one = distracted[i]
    trace, shares = capture(model, one.prompts, what="pattern"), []
    inside = one.spans.positions("instruction")
    words = [at for name in ("instruction", "document", "distraction") for at in one.spans.positions(name)]
    for head in watch.heads:
        row = attention_pattern(trace, head.layer)[0, head.head, -1]
        shares.append((row[inside].sum() / row[words].sum()).item())
    (value,) = measured(model, one.prompts, one.spans, [watch])
    assert value.item() == pytest.approx(1 - np.mean(shares), abs=1e-5)


def test_the_heads_are_those_that_lose_sight_of_the_instruction(model, distracted, fitted):
    """The separation of every head, head by head; the largest are watched."""
    trace, found = capture(model, distracted.prompts, what="pattern"), {}
    for layer in range(4):
        for head in range(8):
            rows = attention_pattern(trace, layer)[torch.arange(len(distracted)), head, distracted.prompts.lengths - 1]
            own = distracted.spans.members[:, distracted.spans.index("instruction")]
            named = own | (distracted.spans.of > 0)
            share = (rows * own).sum(1) / (rows * named).sum(1)
            no, yes = share[~distracted.labels].double(), share[distracted.labels].double()
            found[layer, head] = float((no.mean() - yes.mean()) / (no.std(correction=0) + yes.std(correction=0) + 1e-9))
    best = sorted(found, key=lambda at: -found[at])[:6]
    assert [(head.layer, head.head) for head in fitted["span_attention"].heads] == best


def test_a_direction_is_a_difference_of_means(model, distracted, fitted):
    watch = fitted["mean_difference"]
    x = capture(model, distracted.prompts, what="resid_post", layers=[watch.layer], positions="END")
    x = x["resid_post", watch.layer][:, 0].double()
    x = x - x.mean(-1, keepdim=True)
    way = x[distracted.labels].mean(0) - x[~distracted.labels].mean(0)
    torch.testing.assert_close(watch.way.double(), way, rtol=1e-4, atol=1e-5)
    (values,) = measured(model, distracted.prompts, distracted.spans, [watch])
    torch.testing.assert_close(values.double(), x @ way / way.norm(), rtol=1e-4, atol=1e-4)


def test_a_distance_is_mahalanobis_s(model, distracted, fitted):
    watch = fitted["mahalanobis"]
    (values,) = measured(model, distracted.prompts[:4], distracted.spans[:4], [watch])
    x = capture(model, distracted.prompts[:4], what="resid_post", layers=[watch.layer], positions="END")
    x = x["resid_post", watch.layer][:, 0].double()
    away = (x - x.mean(-1, keepdim=True) - watch.mean.double()).numpy()
    slow = [np.sqrt(one @ watch.precision.double().numpy() @ one) for one in away]
    np.testing.assert_allclose(values.numpy(), slow, rtol=1e-3)


def test_early_decision_asks_the_whole_vocabulary_at_each_layer(model, distracted, fitted):
    from llmtrace.models import unembed

    watch, some = fitted["lens_decision"], distracted[:4]
    final = logits(model, some.prompts.clean)[torch.arange(4), some.prompts.lengths - 1]
    first, second = final.topk(2).indices.T
    trace, ahead = capture(model, some.prompts, what="resid_post", positions="END"), torch.zeros(4)
    for layer in range(4):
        lens = unembed(model, trace["resid_post", layer][:, 0])
        ahead += (lens[torch.arange(4), first] > lens[torch.arange(4), second]).float() / 4
    (values,) = measured(model, some.prompts, some.spans, [watch])
    torch.testing.assert_close(values, watch.sign * ahead)


def test_nodes_may_be_named(model, distracted):
    watch = MONITORS["node_activity"](model, distracted, nodes=["3.2", "m1", "m1.n7"])
    assert [str(node) for node in watch.nodes] == ["a3.h2", "m1", "m1.n7"]
    assert measured(model, distracted.prompts[:2], distracted.spans[:2], [watch]).isfinite().all()


@pytest.mark.parametrize(
    ("name", "options", "error", "sentence"),
    [
        ("span_attention", {"span": "nobody"}, NotFoundError, "Expected a span"),
        ("span_attention", {"count": 0}, InputError, "at least one head"),
        ("mean_difference", {"layer": 9}, InputError, "layers between 0 and 3"),
        ("logistic_probe", {"strength": 0.0}, InputError, "strength above 0"),
        ("node_activity", {"nodes": ["9.9"]}, InputError, "not in this model"),
        ("span_decompx", {"span": "nobody"}, NotFoundError, "Expected a span"),
    ],
)
def test_what_cannot_be_fitted_is_a_sentence(model, distracted, name, options, error, sentence):
    with pytest.raises(error, match=sentence):
        MONITORS[name](model, distracted, **options)


@pytest.mark.parametrize("name", ["mean_difference", "logistic_probe", "mahalanobis", "stream_norm", "lens_decision"])
def test_one_class_is_refused(model, distracted, name):
    with pytest.raises(InputError, match="both classes"):
        MONITORS[name](model, distracted[~distracted.labels])
