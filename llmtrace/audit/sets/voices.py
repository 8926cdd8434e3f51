"""How a set speaks to a model: in the words that `tiny-english` knows, or to a chat model by its template.

A prompt is written as parts, each with the span that it belongs to: for a chat model in messages, else as one text.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Literal

from llmtrace.audit.labelled import LabelledPrompts, Written, by_output, set_of
from llmtrace.errors import InputError, UnsupportedError
from llmtrace.models import TraceModel
from llmtrace.prompts.chat import CHATML, render
from llmtrace.prompts.making.token_reader import TokenReader
from llmtrace.prompts.spans import Where

Voice = Literal["plain", "chat"]
Part = tuple[str, str]  # span ("" for nobody's), words
Message = tuple[str, Sequence[Part]]  # role, parts
MARKER = "<|im_start|>"
UNDERSTOOD: dict[Voice, str] = {"plain": "tiny-english", "chat": "a chat model such as SmolLM2-Instruct"}


def voice_of(model: TraceModel, name: str, known: Sequence[Voice], words: Sequence[str]) -> Voice:
    """ "chat" for a tokenizer with a chat template (or ChatML's marks), "plain" for one that knows the `words`.

    Raises UnsupportedError where the set has no voice that this model understands.
    """
    tokenizer = TokenReader.of(model).tokenizer
    is_chat = bool(getattr(tokenizer, "chat_template", None)) or MARKER in tokenizer.get_vocab()
    if is_chat and "chat" in known:
        return "chat"
    if not is_chat and "plain" in known and all(TokenReader.of(model).word(word) is not None for word in words):
        return "plain"
    raise UnsupportedError(
        f"Expected {' or '.join(UNDERSTOOD[one] for one in known)}, which the set {name} can speak to, got another "
        "model; write prompts of your own: lt.audit.labelled_jsonl."
    )


def plain(parts: Sequence[Part]) -> tuple[str, tuple[tuple[str, Where], ...]]:
    """Parts in a row, a space between them, and which characters each span has."""
    text, marks = "", list[tuple[str, Where]]()
    for span, words in parts:
        at = len(text) + bool(text)
        text = f"{text} {words}" if text else words
        if span:
            marks.append((span, (at, len(text))))
    return text, tuple(marks)


def chat(model: TraceModel, messages: Sequence[Message], begun: str = "") -> tuple[str, tuple[tuple[str, Where], ...]]:
    """Messages as the model's template writes them, an empty line between a message's parts. `begun`: what the
    assistant has said already, so that its next word is the answer."""
    tokenizer = TokenReader.of(model).tokenizer
    template = getattr(tokenizer, "chat_template", None) or CHATML
    written = [{"role": role, "content": "\n\n".join(words for _, words in parts)} for role, parts in messages]
    text, after, marks = render(tokenizer, written, template=template), 0, list[tuple[str, Where]]()
    for _, parts in messages:
        for span, words in parts:
            at = text.index(words, after)
            after = at + len(words)
            if span:
                marks.append((span, (at, after)))
    return text + begun, tuple(marks)


def made(
    model: TraceModel,
    name: str,
    kinds: dict[str, Callable[[random.Random], Written]],
    n: int,
    seed: int,
    *,
    meaning: str,
) -> LabelledPrompts:
    """`n` different prompts, dealt out evenly over the kinds, and labelled by what the model does."""
    if n < len(kinds):
        raise InputError(
            f"Expected at least one prompt of each of {len(kinds)} kinds, got n={n}; leave it out for more."
        )
    draw, rows, seen = random.Random(seed), list[Written](), set[str]()
    names = list(kinds)
    for i in range(n):
        kind = names[i % len(names)]
        for _ in range(100):
            row = kinds[kind](draw)
            if row.text not in seen:
                break
        else:
            raise InputError(f"Expected {n} different prompts, got {len(seen)}: the set has no more; ask for fewer.")
        seen.add(row.text)
        rows.append(Written(row.text, row.marks, row.correct, row.wrong, kind))
    prompts, spans = set_of(model, rows, name, seed=seed)
    return by_output(model, prompts, spans, meaning=meaning)
