"""Spans of tokens: where they are, that sums over them lose nothing, and conversations by message."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from chat_words import TEXT, tokenizer
from tiny import ALL, LLAMA, Tiny, close, one_of_each, over, prompts

from llmtrace import influence
from llmtrace.errors import InputError, MismatchError, NotFoundError
from llmtrace.prompts import PromptSet, Spans, from_messages, from_texts
from llmtrace.prompts.chat import CHATML, render


@pytest.fixture(scope="module")
def words() -> Any:
    return tokenizer()


def texts_of(words: Any, p: PromptSet, spans: Spans, name: str, prompt: int = 0) -> str:
    return "".join(words.convert_ids_to_tokens(p.clean[prompt, spans.positions(name, prompt)].tolist()))


def test_spans_by_words_and_by_characters(words: Any) -> None:
    """BOS and what no span names is the rest; a space before a word is the word's; a range inside a word takes it."""
    p = from_texts(words, TEXT)
    spans = Spans.of_text(words, p, {"the instruction": "Translate this", "the document": (17, 32), "sea": "se"})
    assert spans.names == ("rest", "the instruction", "the document", "sea")
    assert texts_of(words, p, spans, "the instruction") == "Translate this"
    assert texts_of(words, p, spans, "the document") == " the is blue" and texts_of(words, p, spans, "sea") == " sea"
    assert texts_of(words, p, spans, "rest") == "<bos> : . Thanks"
    assert spans.sizes.sum() == p.lengths.sum()
    assert "Spans(1 prompts" in repr(spans)


def test_each_prompt_has_its_own_places(words: Any) -> None:
    """Padding is in no span; slicing follows the prompts."""
    p = from_texts(words, [TEXT, "Hi the sea"])
    spans = Spans.of_text(words, p, {"thing": ["is blue", "the sea"]})
    assert texts_of(words, p, spans, "thing", 0) == " is blue" and texts_of(words, p, spans, "thing", 1) == " the sea"
    assert (spans.of == -1).tolist() == (~p.mask).tolist()
    assert torch.equal(spans[1].of, spans.of[1:, : int(p.lengths[1])]) and len(spans) == 2


def test_spans_by_position() -> None:
    p = prompts(padded=True)
    named = Spans.of_positions(p, {"middle": ["MID"], "edges": [0, "END"]})
    assert [named.positions("edges", i) for i in (0, 1)] == [[0, 6], [0, 4]] and named.positions("middle", 1) == [3]
    between = Spans.between(p, ("MID", "END"))
    assert between.names == ("start", "MID", "END")
    assert between.of.tolist()[1] == [0, 0, 0, 1, 2, -1, -1] and between.of.tolist()[0] == [0, 0, 0, 1, 1, 1, 2]
    assert between.merged({"later": ["MID", "END"]}).of.tolist()[1] == [0, 0, 0, 1, 1, -1, -1]
    assert between[1].extended(2, "new").of.tolist() == [[0, 0, 0, 1, 2, 3, 3]]


@over(one_of_each)
def test_sums_over_spans_lose_nothing(tiny: Tiny) -> None:
    """Additive rows keep total and gap, shares stay shares, and every number is the sum of its tokens."""
    p, model = prompts(padded=True), tiny.model
    spans = Spans.between(p, ("MID", "END"))
    direct = influence.token_attribution(model, p)
    found = direct.by_span(spans)
    for i in range(len(p)):
        for name in spans.names:
            close(found.of(name)[i, 0], direct.values[i, 0, spans.positions(name, i)].sum(), tiny.atol)
    assert found.gap is not None and direct.gap is not None
    close(found.gap, direct.gap, 100 * tiny.atol)
    shares = influence.rollout(model, p)
    tokens, means = shares.by_span(spans), shares.by_span(spans, rows="spans")
    assert tokens.rows_sum_to_one
    for i, length in enumerate(p.lengths.tolist()):
        close(tokens.values[i, :length].sum(-1), torch.ones(length).double(), tiny.atol)
        assert tokens.values[i, length:].isnan().all()
        for row, name in enumerate(spans.names):
            by_hand = shares.values[i, spans.positions(name, i)].mean(0)
            expected = [by_hand[spans.positions(other, i)].sum() for other in spans.names]
            close(means.values[i, row], torch.stack(expected), tiny.atol)


def test_a_table_of_spans(words: Any) -> None:
    model = next(tiny for tiny in ALL if tiny.family.name == "gpt2").model
    p = prompts(padded=True)
    frame = influence.rollout(model, p).by_span(Spans.between(p, ("END",)), rows="spans").df()
    assert list(frame.columns) == ["prompt", "target", "span", "tokens", "value"] and len(frame) == 5 * 2 * 2
    assert frame.groupby(["prompt", "target"]).value.sum().tolist() == pytest.approx([1.0] * 10)
    single = influence.token_attribution(model, p).by_span(Spans.between(p, ("END",)), rows="spans")
    assert set(single.df().target) == {"END"} and "SpanInfluence(token_attribution of logit_diff" in repr(single)


# --- conversations -----------------------------------------------------------------------------------------------

MESSAGES = [("system", "You are terse"), ("user", "Translate this : the sea is blue ."), ("assistant", "Hi")]


def test_a_conversation_by_the_default_template(words: Any) -> None:
    """ChatML where a tokenizer has no template of its own; markers are the template's."""
    found = from_messages(words, MESSAGES, named={"the document": "the sea is blue"}, answer_next=True)
    text = found.prompts.texts[0]
    assert text == (
        "<|im_start|>system\nYou are terse<|im_end|>\n<|im_start|>user\nTranslate this : the sea is blue .<|im_end|>\n"
        "<|im_start|>assistant\nHi<|im_end|>\n<|im_start|>assistant\n"
    )
    spans = found.spans
    assert spans.names == ("template", "system", "user", "assistant", "the document")
    inside = {name: texts_of(words, found.prompts, spans, name) for name in spans.names[1:]}
    assert inside == {
        "system": "You are terse", "user": "Translate this : .", "assistant": "Hi", "the document": " the sea is blue",
    }  # fmt: skip
    assert found.prompts.prepend_bos and int(found.prompts.clean[0, 0]) == words.bos_token_id
    whole = spans.merged({"user": ["user", "the document"]})
    assert texts_of(words, found.prompts, whole, "user") == MESSAGES[1][1]


def test_several_conversations_and_roles_that_come_again(words: Any) -> None:
    again = [("user", "Hi"), ("assistant", "Thanks"), ("user", "Hi")]
    found = from_messages(words, [again, MESSAGES[:2]], correct="sea", wrong=["blue", "this"], answer_next=False)
    assert found.spans.names == ("template", "user 1", "assistant", "user 2", "system")
    first, second = (found.spans.positions(name)[0] for name in ("user 1", "user 2"))
    assert first < second and found.spans.sizes[1].tolist()[1] > 1 and found.prompts.default_metric == "logit_diff"
    assert len(found.prompts) == 2 and repr(found).startswith("Chat(PromptSet(chat")


def test_a_models_own_template_comes_first_and_may_write_bos_itself() -> None:
    own = tokenizer(bos="<|im_start|>")
    own.chat_template = CHATML.replace("message['content']", "message['content'] | trim")
    found = from_messages(own, [{"role": "user", "content": "  Hi  "}])
    assert found.prompts.clean[0].tolist()[0] == own.bos_token_id and not found.prompts.prepend_bos
    assert texts_of(own, found.prompts, found.spans, "user").strip() == "Hi"
    own.chat_template = "{{ raise_exception('roles must alternate') }}"
    with pytest.raises(InputError, match="roles must alternate"):
        from_messages(own, [("user", "Hi")])
    assert render(own, [{"role": "user", "content": "Hi"}], template="{{ messages[0].content }}") == "Hi"


# --- bad input ---------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("as_users_run")
def test_what_means_nothing_is_a_sentence(words: Any) -> None:
    p = from_texts(words, [TEXT, TEXT])
    for where, sentence in (
        ("ocean", r"once in .*, got 'ocean' \(0 times\)"),
        ("", "no word"),
        ((5, 5), "the first before the last"),
        ((0, 99), "characters from 0 to 41"),
        (["sea"], "a list for 2 prompts, got 1 places"),
        (7, "got 7"),
        ([(1, 2, 3), (1, 2, 3)], r"words or .first, last. characters, or to a list of these, got \(1, 2, 3\)"),
        ([None, None], "got None"),
        ((1.5, 3), "got .1.5, 3.|got 1.5"),
    ):
        with pytest.raises(InputError, match=sentence):
            Spans.of_text(words, p, {"x": where})  # type: ignore[dict-item]
    with pytest.raises(InputError, match=r"Expected spans as a dict of names .*, got .'sea'."):
        Spans.of_text(words, p, ["sea"])  # type: ignore[arg-type]
    with pytest.raises(InputError, match="got None in it; see help"):
        Spans.of_positions(p, {"x": None})  # type: ignore[dict-item]
    assert Spans.of_positions(p, {"x": [], "end": ["END"]}).sizes[:, 1:].tolist() == [[0, 1], [0, 1]]
    with pytest.raises(MismatchError, match="they were made from tokens"):
        Spans.of_text(words, replace(p, texts=("Hi", "Hi")), {"x": "Hi"})
    with pytest.raises(NotFoundError, match="Did you mean 'sea'"):
        Spans.of_text(words, p, {"sea": "sea"}).positions("see")
    model = Tiny(LLAMA, "bridge", True).model
    rolled = influence.rollout(model, prompts())
    with pytest.raises(MismatchError, match="Expected spans of 5 prompts of 7 tokens, got 2 of"):
        rolled.by_span(Spans.of_text(words, p, {"sea": "sea"}))
    with pytest.raises(InputError, match="rows to be one of tokens, spans"):
        rolled.by_span(Spans.between(prompts(), ("END",)), rows="words")
    for messages, sentence in (
        ([], "list of messages"),
        ([("user", " ")], "as .role, text."),
        ("Hi", "as a list, each a message"),
    ):
        with pytest.raises(InputError, match=sentence):
            from_messages(words, messages)
    with pytest.raises(InputError, match="for 1 conversations, got 2"):
        from_messages(words, [("user", "Hi")], named={"x": ["Hi", "Hi"]})
