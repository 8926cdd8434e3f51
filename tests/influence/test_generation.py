"""Following generated tokens back: the text is the model's own, each row is what the method says of that prefix."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from chat_words import tokenizer
from tiny import ALL, POST_NORM, REST, WIDE, Tiny, close, has_mlp, one_of_each, over, over_hooked, prompts

from llmtrace import influence, metrics, models
from llmtrace.errors import InputError, LimitError, MismatchError, NotFoundError, UnsupportedError
from llmtrace.influence import GenerationInfluence, attribute_generation
from llmtrace.models import greedy
from llmtrace.prompts import Spans, from_messages, ioi
from llmtrace.validation import validate

NEW = 4

OPTIONS: dict[str, dict[str, Any]] = {
    "token_attribution": {}, "decompx": {}, "input_x_gradient": {}, "integrated_gradients": {"steps": 3},
    "occlusion": {"ablation": "zero"}, "alti_logit": {}, "alti": {}, "rollout": {}, "raw_attention": {"layer": 1},
    "flow_routes": {},
}  # fmt: skip


def follow(tiny: Tiny, **options: Any) -> GenerationInfluence:
    return attribute_generation(tiny.model, prompts()[0], max_new_tokens=NEW, stop_at_eos=False, **options)


@over(among=[*ALL, *WIDE, *POST_NORM, *REST])
def test_greedy_decoding_is_a_whole_pass_per_token(tiny: Tiny) -> None:
    """Kept keys and values, positions, windows: the tokens of the plain model, one at a time."""
    tokens = prompts().clean[0]
    for _ in range(NEW):
        with torch.no_grad():
            logits = tiny.model(tokens[None], return_type="logits")
        tokens = torch.cat([tokens, logits[0, -1].argmax()[None]])
    assert greedy(tiny.model, prompts().clean[0], NEW).tolist() == tokens[7:].tolist()
    new = tokens[7:].tolist()
    stopped = greedy(tiny.model, prompts().clean[0], NEW, stop_at=(new[1],))
    assert stopped.tolist() == new[: new.index(new[1]) + 1]


def prefix_row(tiny: Tiny, found: GenerationInfluence, step: int, method: str, *, linear: bool = True) -> torch.Tensor:
    """The slow twin: the method on the prompt as it stood before that token, alone."""
    first = prompts()[0]
    tokens = torch.cat([first.clean[0], found.tokens[:step]])[None]
    from dataclasses import replace

    end = torch.tensor([tokens.shape[1] - 1])
    prefix = replace(
        first, clean=tokens, corrupted=tokens, lengths=end + 1, positions={"END": end},
        correct=((int(found.tokens[step]),),), wrong=((1,),),
    )  # fmt: skip
    with torch.no_grad():
        logits = tiny.model(tokens, return_type="logits")[0, -1]
    assert int(logits.argmax()) == int(found.tokens[step])
    assert float(found.probability[step]) == pytest.approx(float(logits.softmax(-1).max()), abs=1e-5)
    second = int(logits.topk(2).indices[1])
    row = influence.METHODS[method]
    if "correct" not in row.needs:
        return row(tiny.model, prefix, **OPTIONS[method]).values[0, -1]
    chosen = [[int(found.tokens[step])]]
    metric = metrics.logit_diff(end, chosen, [[second]]) if linear else metrics.log_probability(end, chosen)
    return row(tiny.model, prefix, metric=metric, **OPTIONS[method]).values[0, 0]


@pytest.mark.usefixtures("as_users_run")
@over(one_of_each)
@pytest.mark.parametrize("method", OPTIONS)
def test_every_row_is_the_method_on_the_prefix(tiny: Tiny, method: str) -> None:
    """One run for all tokens, or a stack of prefixes: the numbers of each prefix alone, and nothing after it."""
    found = follow(tiny, method=method, **OPTIONS[method])
    assert found.values.shape == (NEW, 7 + NEW - 1)
    for step in range(NEW):
        expected = prefix_row(tiny, found, step, method)
        close(found.values[step, : 7 + step], expected, 10 * tiny.atol)
        assert not found.values[step, 7 + step :].any()
    gap = found.influence.gap
    if method in ("token_attribution", "decompx", "alti_logit"):
        assert gap is not None and gap.shape == (1, NEW) and gap.abs().max() < 100 * tiny.atol


@over_hooked(one_of_each, has_mlp)
def test_without_a_contrast_the_log_probability_is_explained(tiny: Tiny) -> None:
    found = follow(tiny, method="input_x_gradient", against=None)
    assert found.metric == "log_probability" and found.against == ("",) * NEW
    for step in range(NEW):
        expected = prefix_row(tiny, found, step, "input_x_gradient", linear=False)
        close(found.values[step, : 7 + step], expected, 10 * tiny.atol)


@over(one_of_each)
def test_a_generation_is_checked_prefix_by_prefix(tiny: Tiny) -> None:
    """Occlusion finds that it is the intervention; what another method said is held against the same losses."""
    model = tiny.model
    mean = follow(tiny, method="occlusion", ablation="mean")
    check = validate(model, mean.prompts, mean, draws=1)
    assert check.roles[0] == "oracle" and check.rank_correlation == pytest.approx(1.0)
    close(check.loss[check.there], mean.values[check.there], 10 * tiny.atol)
    assert check.there.sum(1).tolist() == [7 + step for step in range(NEW)]
    said = follow(tiny, method="raw_attention", layer=1)
    check = validate(model, said.prompts, said, draws=1)
    assert check.scores[0, -1].tolist() == pytest.approx(said.values[-1].tolist())
    with pytest.raises(MismatchError, match="Expected scores of these"):
        validate(model, mean.prompts[list(range(NEW))[::-1]], mean)


LLAMA_HOOKED = next(tiny for tiny in ALL if tiny.family.name == "llama")


def test_what_a_generation_says_of_itself() -> None:
    """Spans of the prompt go on with what was generated; a row for every token and source."""
    p = prompts()[0]
    spans = Spans.of_positions(p, {"middle": ["MID"]})
    found = follow(LLAMA_HOOKED, spans=spans)
    by_span = found.by_span()
    assert by_span.names == ("rest", "middle", "generated") and by_span.sizes.tolist() == [[6, 1, NEW - 1]]
    close(by_span.values.sum(-1)[0], found.values.sum(-1), 1e-9)
    close(by_span.of("middle")[0], found.values[:, 3], 1e-9)
    whole = found.by_span(rows="spans")
    assert whole.rows == (("generated",),)
    close(whole.values[0, 0], by_span.values[0].mean(0), 1e-9)
    frame = found.df()
    assert len(frame) == sum(7 + step for step in range(NEW))
    assert frame[(frame.step == 2) & (frame.source == 8)].span.tolist() == ["generated"]
    assert frame.value.sum() == pytest.approx(float(found.values.sum()))
    assert "4 tokens from 7" in repr(found)
    assert follow(LLAMA_HOOKED).spans.names == ("prompt", "generated")


def chatty() -> Any:
    """A random model with a tokenizer that knows ChatML."""
    from tiny import LLAMA

    return models.load(LLAMA.source(0), tokenizer=tokenizer(), device="cpu", dtype="float64")


def test_a_conversation_is_followed_by_message() -> None:
    """The word to compare with is the user's; where it was chosen itself, the runner-up stands in."""
    model = chatty()
    talk = from_messages(
        model, [("user", "Translate this : the sea is blue .")], named={"the document": "the sea is blue"}
    )
    found = attribute_generation(model, talk, max_new_tokens=3, stop_at_eos=False, against=" sea")
    assert found.spans.names == ("template", "user", "the document", "generated")
    sea = model.tokenizer.convert_tokens_to_ids(" sea")
    for token, other in zip(found.tokens.tolist(), found.against, strict=True):
        assert (other == " sea") == (token != sea)
    assert found.by_span().df().span.nunique() == 4


def test_what_means_nothing_is_a_sentence() -> None:
    tiny = LLAMA_HOOKED
    with pytest.raises(InputError, match="Expected one prompt to go on from, got 5"):
        attribute_generation(tiny.model, prompts())
    with pytest.raises(InputError, match="at least one new token, got max_new_tokens=0"):
        attribute_generation(tiny.model, prompts()[0], max_new_tokens=0)
    with pytest.raises(LimitError, match="max_new_tokens=26"):
        attribute_generation(tiny.model, prompts()[0], max_new_tokens=40)
    with pytest.raises(NotFoundError, match="Did you mean 'occlusion'"):
        follow(tiny, method="oclusion")
    with pytest.raises(InputError, match="Expected options of occlusion"):
        follow(tiny, method="occlusion", steps=3)
    with pytest.raises(InputError, match="Expected no metric"):
        follow(tiny, metric="logit_diff")
    for method in ("logit_lens", "direct_logit_attribution"):
        with pytest.raises(UnsupportedError, match="Expected a method that scores tokens"):
            follow(tiny, method=method)
    with pytest.raises(UnsupportedError, match="linear in the logits"):
        follow(tiny, against=None)


@pytest.mark.usefixtures("as_users_run")
def test_what_is_no_span_and_no_word_is_a_sentence() -> None:
    tiny: Any = LLAMA_HOOKED
    with pytest.raises(InputError, match=r"Expected spans as Spans, got .*; make them with"):
        follow(tiny, spans={"a": "b"})
    with pytest.raises(InputError, match="Expected against as text, got 5; 'runner-up' is the default"):
        follow(tiny, against=5)
    scores: Any = influence.rollout(tiny.model, prompts())
    with pytest.raises(InputError, match="Expected spans as Spans, got None"):
        scores.by_span(None)
    with pytest.raises(InputError, match="Expected a list of positions where spans begin"):
        Spans.between(prompts(), [])
    for layer in (-1, 9):
        for method in (influence.raw_attention, influence.value_weighted_norms):
            with pytest.raises(InputError, match="Expected a layer between 0 and"):
                method(tiny.model, prompts(), layer=layer)
    for place in (1.5, None):
        with pytest.raises(InputError, match="Expected positions as a name such as"):
            influence.flow_routes(tiny.model, prompts(), positions=[place])  # type: ignore[list-item]
    for call in (lambda: influence.decompx("gpt2", prompts()), lambda: influence.occlusion("gpt2", prompts())):
        with pytest.raises(InputError, match="Expected model as a HookedTransformer or TransformerBridge, got 'gpt2'"):
            call()
    with pytest.raises(InputError, match="Expected ablation as text, got 3; 'mean' is the default"):
        influence.occlusion(tiny.model, prompts(), ablation=3)  # type: ignore[arg-type]
    assert validate(tiny.model, prompts(), scores).options["keep"] == []
    with pytest.raises(InputError, match="Expected a list of positions to keep, got"):
        validate(tiny.model, prompts(), scores, keep=[])
    for size in ("lots", 0):
        with pytest.raises(InputError, match="Expected memory as bytes, 'auto' or a size such as"):
            influence.rollout(tiny.model, prompts(), memory=size)
    with pytest.raises(InputError, match="Expected metric as text, a Metric or a function, got"):
        influence.decompx(tiny.model, prompts(), metric=[])  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"Expected threshold as a number, got 'a'; 0.01 is the default"):
        influence.flow_routes(tiny.model, prompts(), threshold="a")  # type: ignore[arg-type]


def test_spans_of_another_generation_are_refused() -> None:
    tiny: Any = LLAMA_HOOKED
    one, other = (attribute_generation(tiny.model, prompts()[i], max_new_tokens=2, stop_at_eos=False) for i in (0, 1))
    assert one.by_span(one.spans).values.shape == one.by_span().values.shape
    with pytest.raises(MismatchError, match="got spans of others"):
        one.by_span(other.spans)


def test_half_precision_has_norms_too() -> None:
    model = models.load("tiny-english", dtype="bfloat16")
    p = ioi(model, 2, seed=0)
    exact = influence.value_weighted_norms(models.load("tiny-english", dtype="float64"), p).values
    assert (influence.value_weighted_norms(model, p).values.double() - exact).abs().max() < 0.02 * exact.max()
