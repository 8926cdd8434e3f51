"""Every method of the table during generation: where the truth is known by hand, and in a conversation, by span."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from chat_words import tokenizer
from tiny import HOOKED_EXISTS, LLAMA, close

from llmtrace import influence, metrics, models
from llmtrace.errors import UnsupportedError
from llmtrace.influence import GenerationInfluence, TokenInfluence, attribute_generation
from llmtrace.prompts import Chat, from_messages, from_texts

pytestmark = pytest.mark.usefixtures("as_users_run")
BACKENDS = ("hooked", "bridge") if HOOKED_EXISTS else ("bridge",)

OF_TOKENS = [row.name for row in influence.METHODS.giving("tokens")]
EXACT = 1e-8  # the slope of a saturated attention, and what attention flow rounds to

PROMPT, NEW = "w1 w2 w3 w1", ("w2", "w3", "w1", "w2", "w3")


@functools.cache
def induction(backend: str) -> Any:
    return models.load("induction", dtype="float64", device="cpu", backend=backend)


@pytest.mark.parametrize("name", OF_TOKENS)
def test_every_row_is_the_method_on_the_text_so_far(name: str) -> None:
    """ "w1 w2 w3 w1" goes on as "w2 w3 w1 w2 w3": one text after another, each token against the one before it (which
    the embedding puts second) where a metric is explained at all."""
    model, text = induction(BACKENDS[0]), PROMPT.split()
    found = attribute_generation(model, PROMPT, method=name, max_new_tokens=5, stop_at_eos=False)
    compared = "correct" in influence.METHODS[name].needs
    assert found.chosen == NEW and found.against == (("w1", "w2", "w3", "w1", "w2") if compared else ("",) * 5)
    for step, token in enumerate(NEW):
        so_far = from_texts(model, " ".join(text))
        width = int(so_far.lengths[0])
        right, wrong = (model.tokenizer.convert_tokens_to_ids(word) for word in (token, text[-1]))
        metric = metrics.logit_diff(so_far.lengths - 1, [[right]], [[wrong]])
        options = {"metric": metric} if compared else {}
        alone: TokenInfluence = influence.METHODS[name](model, so_far, **options)
        close(found.values[step, :width], alone.values[0, -1], EXACT)
        assert not found.values[step, width:].any()
        text.append(token)


# What is copied has 3, and 1 speaks for the token that stands there; positions: <bos> w1 w2 w3 w1, then w2 w3 w1 w2.
# From the fourth new token on, what it follows stood there twice: in the prompt, and among what was generated
COPIED = [
    [0, 0, 3, 0, -1, 0, 0, 0, 0],
    [0, 0, 0, 3, 0, -1, 0, 0, 0],
    [0, 0, 0, 0, 3, 0, -1, 0, 0],
    [0, 0, 1.5, 0, 0, 1.5, 0, -1, 0],
    [0, 0, 0, 1.5, 0, 0, 1.5, 0, -1],
]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["token_attribution", "decompx", "input_x_gradient"])
def test_each_token_is_followed_to_the_prompt_and_to_earlier_ones(name: str, backend: str) -> None:
    """Methods that only count what is written, by hand: attention is saturated."""
    found = attribute_generation(induction(backend), PROMPT, method=name, max_new_tokens=5, stop_at_eos=False)
    close(found.values, torch.tensor(COPIED), EXACT)
    by_span = found.by_span()
    close(by_span.of("prompt")[0], torch.tensor([2, 3, 3, 1.5, 1.5]), EXACT)
    close(by_span.of("generated")[0], torch.tensor([0, -1, -1, 0.5, 0.5]), EXACT)


@pytest.mark.parametrize(
    ("name", "options"),
    [("integrated_gradients", {}), ("occlusion", {"ablation": "zero"}), ("occlusion", {"ablation": "mean"})],
)
def test_what_is_copied_leads_where_no_number_is_known(name: str, options: dict[str, Any]) -> None:
    """Of the first three, each from one place."""
    found = attribute_generation(
        induction(BACKENDS[0]), PROMPT, method=name, max_new_tokens=3, stop_at_eos=False, **options
    )
    assert [int(row.argmax()) for row in found.values] == [2, 3, 4]


# --- a conversation ----------------------------------------------------------------------------------------------


@functools.cache
def conversation() -> tuple[Any, Chat]:
    model = models.load(LLAMA.source(0), tokenizer=tokenizer(), device="cpu", dtype="float64")
    messages = [("system", "You are terse"), ("user", "Translate this : the sea is blue .")]
    talk = from_messages(model, messages, named={"the document": "the sea is blue"}, correct=" sea", wrong=" blue")
    return model, talk


@pytest.mark.parametrize("name", OF_TOKENS)
def test_spans_of_a_conversation_are_sums_of_tokens(name: str) -> None:
    """Span on token: a sum over its tokens, of a generated one's row too. Span on span: the mean of that over targets.
    Nothing is lost: a row of spans sums to what the row of tokens does."""
    model, talk = conversation()
    names = ("template", "system", "user", "the document")
    found: GenerationInfluence = attribute_generation(model, talk, method=name, max_new_tokens=3, stop_at_eos=False)
    assert found.spans.names == (*names, "generated")
    on_tokens = found.by_span()
    for span in found.spans.names:
        close(on_tokens.of(span)[0], found.values[:, found.spans.positions(span)].sum(-1), 1e-9)
    close(on_tokens.values[0].sum(-1), found.values.sum(-1), 1e-9)
    assert on_tokens.of("the document")[0].abs().min() > 0 and on_tokens.of("generated")[0, 0] == 0

    scores: TokenInfluence = influence.METHODS[name](model, talk.prompts)
    on_spans = scores.by_span(talk.spans, rows="spans")
    width = scores.values.shape[-1]
    at = list(range(width)) if scores.targets is None else scores.targets[0].tolist()
    for row, span in enumerate(names):
        rows = [i for i, target in enumerate(at) if target in talk.spans.positions(span)]
        if rows:
            sums = [scores.values[0, rows][:, talk.spans.positions(other)].sum(-1).mean() for other in names]
            close(on_spans.values[0, row], torch.stack(sums), 1e-9)
        else:  # no target of this method stands there
            assert on_spans.values[0, row].isnan().all()


@pytest.mark.parametrize("name", [name for name in influence.METHODS if name not in OF_TOKENS])
@pytest.mark.parametrize("against", ["runner-up", None])
def test_what_scores_no_tokens_is_refused(name: str, against: str | None) -> None:
    """Whether or not the prompt has an answer; of what is no contrast attribution says so first."""
    model, _ = conversation()
    sentence = "Expected a method that scores tokens" if against or name == "logit_lens" else "linear in the logits"
    with pytest.raises(UnsupportedError, match=sentence):
        attribute_generation(model, "Translate this", method=name, max_new_tokens=1, stop_at_eos=False, against=against)
