"""Conversations as a chat model reads them: its own template, and spans by message.

    conversation = from_messages(model, [("system", "You are terse."), ("user", "Translate: la mer")],
                                 named={"the document": "la mer"})
    conversation.prompts       a PromptSet, for every method
    conversation.spans         template | system | user | the document

The template is the tokenizer's (`chat_template`, Jinja), else `CHATML`, which SmolLM2, Qwen and others were trained on:

    <|im_start|>system\\nYou are terse.<|im_end|>\\n<|im_start|>user\\n...<|im_end|>\\n<|im_start|>assistant\\n

What the template writes (also a system message of its own) is in the span "template"; messages are spans by role, with
a number where a role speaks more than once ("user 1"). No model is run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

from llmtrace.errors import InputError
from llmtrace.prompts.making.assemble import NO_CORRUPTION, Pair, assemble
from llmtrace.prompts.making.token_reader import ModelOrTokenizer, TokenReader
from llmtrace.prompts.prompt_set import PromptSet
from llmtrace.prompts.spans import REST, Spans, Where, mark_texts

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'"
    " }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TEMPLATE = "template"
Message = Annotated[
    Mapping[str, str] | Sequence[str], "a message such as ('user', 'Hi')"
]  # {"role": ..., "content": ...} or (role, content)


@dataclass(frozen=True, eq=False)
class Chat:
    """Conversations as prompts, and which tokens each message has."""

    prompts: PromptSet
    spans: Spans

    def __repr__(self) -> str:
        return f"Chat({self.prompts!r}, {self.spans!r})"


def from_messages(
    model: ModelOrTokenizer,
    messages: Sequence[Message] | Sequence[Sequence[Message]],
    *,
    named: Mapping[str, str | Sequence[str]] | None = None,
    correct: str | Sequence[str] | None = None,
    wrong: str | Sequence[str] | None = None,
    template: str | None = None,
    answer_next: bool = True,
) -> Chat:
    """One conversation (a list of messages) or several.

    named           further spans: words that occur once in the conversation, for all or one for each
    correct, wrong  answers, for metrics: one for all conversations or one for each
    template        Jinja, instead of the model's own
    answer_next     end where the assistant begins to speak

    Raises InputError for a message that is no role and text, and for words that are not there.
    """
    reader = TokenReader.of(model)
    talks = _conversations(messages)
    texts = [render(reader.tokenizer, talk, template=template, answer_next=answer_next) for talk in talks]
    # A template writes its own BOS where it wants one (SmolLM2: <|im_start|> is its BOS).
    own_bos = reader.bos is not None and all(reader.raw(text)[:1] == [reader.bos] for text in texts)
    reader = replace(reader, bos=None) if own_bos else reader
    answers = [_answers(reader, given, len(talks)) for given in (correct, wrong)]
    pairs = [
        Pair(text, text, ids, ids, correct=right, wrong=other)
        for text, ids, right, other in zip(texts, map(reader.ids, texts), *answers, strict=True)
    ]
    metric = "logit_diff" if all(pair.wrong for pair in pairs) else "log_probability"
    prompts = assemble("chat", pairs, reader, corruption=NO_CORRUPTION, default_metric=metric)
    return Chat(prompts, _spans(model, prompts, talks, named or {}))


def render(
    tokenizer: Any, messages: Sequence[Mapping[str, str]], *, template: str | None = None, answer_next: bool = True
) -> str:
    """A conversation as text, by the tokenizer's template or `CHATML`."""
    chosen = template or getattr(tokenizer, "chat_template", None) or CHATML
    try:
        text = tokenizer.apply_chat_template(
            [dict(message) for message in messages], chat_template=chosen, tokenize=False,
            add_generation_prompt=answer_next,
        )  # fmt: skip
    except Exception as error:  # whatever Jinja raises: about roles and their order, or about the template itself
        raise InputError(
            f"Expected messages and a chat template that go together, got {error}; change the roles or the template."
        ) from error
    return str(text)


def _conversations(messages: Any) -> list[list[dict[str, str]]]:
    if not isinstance(messages, Sequence) or isinstance(messages, str) or not messages:
        raise InputError(f"Expected a list of messages, got {messages!r}; write [('user', 'Hello')].")
    several = isinstance(messages[0], Sequence) and not (messages[0] and isinstance(messages[0][0], str))
    talks = messages if several else [messages]
    if not all(talks):
        raise InputError("Expected at least one message in every conversation, got none in one; leave it out.")
    return [[_message(message) for message in talk] for talk in talks]


def _message(message: Any) -> dict[str, str]:
    if isinstance(message, Mapping):
        found = (message.get("role"), message.get("content"))
    else:
        found = tuple(message) if isinstance(message, Sequence) and len(message) == 2 else (None, None)
    role, content = found
    if not isinstance(role, str) or not isinstance(content, str) or not content.strip():
        raise InputError(f"Expected a message as (role, text), got {message!r}; write ('user', 'Hello').")
    return {"role": role, "content": content}


def _answers(reader: TokenReader, given: str | Sequence[str] | None, n: int) -> list[tuple[int, ...]]:
    if given is None:
        return [()] * n
    words = [given] * n if isinstance(given, str) else list(given)
    if len(words) != n:
        raise InputError(f"Expected an answer for each of {n} conversations, got {len(words)}; give one for each.")
    return [(reader.answer(word),) for word in words]


def _spans(
    model: ModelOrTokenizer, prompts: PromptSet, talks: list[list[dict[str, str]]], named: Mapping[str, Any]
) -> Spans:
    """Messages in order, each looked for after the one before it; then the named words."""
    repeated = {m["role"] for talk in talks for m in talk if sum(o["role"] == m["role"] for o in talk) > 1}
    marks: list[list[tuple[str, Where]]] = []
    for text, talk in zip(prompts.texts, talks, strict=True):
        found: list[tuple[str, Where]] = []
        after, spoken = 0, dict[str, int]()
        for message in talk:
            content, role = message["content"].strip(), message["role"]
            at = text.find(content, after)
            if at < 0:
                raise InputError(f"Expected the template to write {content[:40]!r} as it is; take another template.")
            spoken[role] = spoken.get(role, 0) + 1
            found.append((f"{role} {spoken[role]}" if role in repeated else role, (at, at + len(content))))
            after = at + len(content)
        marks.append(found)
    for name, given in named.items():
        words = [given] * len(talks) if isinstance(given, str) else list(given)
        if len(words) != len(talks):
            raise InputError(f"Expected span {name!r} for {len(talks)} conversations, got {len(words)} texts.")
        for found, where in zip(marks, words, strict=True):
            found.append((name, where))
    spans = mark_texts(model, prompts, marks)
    return replace(spans, names=tuple(TEMPLATE if name == REST else name for name in spans.names))
