"""Labelled prompts: what was asked, which tokens are whose, and what the model did.

    lt.audit.by_output(model, prompts, spans)     the label is the model's own output
    lt.audit.labelled_jsonl(model, "rows.jsonl")  the label is written in the file, or the model's output where answers
    are lt.audit.embedded_instruction(model)          a set of our own (`SETS`)

A label says what the model *did*, not what a prompt was meant to make it do. A kind (the prompt set's group: a
template, a source) is what prompts have in common that were made alike: sets are held apart by kind, never by row
alone.

JSONL, one object per line: {"text": ..., "label": true, "kind": "mail", "spans": {"instruction": "Translate this"}};
for a label by output "correct" and "wrong" answers instead of "label"; for a chat model "messages": [["user", ...]]
instead of "text".
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool
from torch import Tensor

from llmtrace.errors import FileFormatError, InputError, LLMTraceError, NotFoundError, did_you_mean
from llmtrace.files import instead_of_file
from llmtrace.models import TraceModel, final_residual, unembed
from llmtrace.prompts import PromptSet, Spans
from llmtrace.prompts.chat import render
from llmtrace.prompts.making.assemble import NO_CORRUPTION, Pair, assemble
from llmtrace.prompts.making.token_reader import ModelOrTokenizer, TokenReader
from llmtrace.prompts.spans import Where, mark_texts
from llmtrace.results import Result

if TYPE_CHECKING:
    import pandas as pd

KEYS = ("text", "messages", "label", "kind", "spans", "correct", "wrong")


@dataclass(frozen=True, eq=False)
class LabelledPrompts(Result):
    """`labels[i]` is True where the model did what is watched for; `meaning` says what that is.

    wrong answers of `prompts` are those that it gives then, correct ones those that it gives otherwise; either may be
    empty where the labels were written by hand.
    """

    prompts: PromptSet
    spans: Spans
    labels: Bool[Tensor, " batch"]
    meaning: str

    def __post_init__(self) -> None:
        self.spans.require_of(self.prompts)
        if len(self.labels) != len(self.prompts):
            raise InputError(
                f"Expected a label for each of {len(self.prompts)} prompts, got {len(self.labels)}; give one for each."
            )

    def __len__(self) -> int:
        return len(self.prompts)

    def __getitem__(self, index: Any) -> LabelledPrompts:
        """Some of the rows: an int, a slice, a list or a mask."""
        rows = torch.arange(len(self))[index].reshape(-1)
        return LabelledPrompts(self.prompts[rows], self.spans[rows], self.labels[rows], self.meaning)

    @property
    def kinds(self) -> tuple[str, ...]:
        """Of each row."""
        return tuple(self.prompts.group_names[group] for group in self.prompts.groups.tolist())

    def of_kinds(self, *names: str) -> LabelledPrompts:
        """The rows of some kinds. Raises NotFoundError for an unknown one."""
        known = sorted({*self.kinds})
        for name in names:
            if name not in known:
                raise NotFoundError(
                    f"Expected a kind, one of {', '.join(known)}; got {name!r}.{did_you_mean(name, known)}"
                )
        return self[[row for row, kind in enumerate(self.kinds) if kind in names]]

    def require_both(self, what: str) -> None:
        """Refuse rows of one class: nothing can be told apart there."""
        positive = int(self.labels.sum())
        if positive in (0, len(self)):
            raise InputError(
                f"Expected prompts of both classes {what}, got {len(self)} that are all {bool(positive)} "
                f"({self.meaning}); add prompts at which the model does otherwise."
            )

    def df(self) -> pd.DataFrame:
        """One row per prompt: its kind, its label, its text and answers."""
        table = self.prompts.df()[["prompt", "text", "correct", "wrong", "tokens"]]
        table.insert(1, "label", self.labels.tolist())
        table.insert(1, "kind", list(self.kinds))
        return table

    def __repr__(self) -> str:
        by_kind = Counter(self.kinds)
        return (
            f"LabelledPrompts({self.prompts.name}: {len(self)} prompts of {len(by_kind)} kinds, "
            f"{int(self.labels.sum())} True: {self.meaning})"
        )


@torch.no_grad()
def by_output(model: TraceModel, prompts: PromptSet, spans: Spans, *, meaning: str = "") -> LabelledPrompts:
    """Labels by what the model says next: True where it prefers a wrong answer to every correct one, or, for prompts
    without a correct one, where a wrong answer is its first choice. Cost: 1 F.

    Raises InputError for prompts without wrong answers.
    """
    if not all(prompts.wrong):
        raise InputError(
            "Expected wrong answers for every prompt, which are what the model says where it does what is watched for, "
            f"got none for prompt {[bool(answer) for answer in prompts.wrong].index(False)}; give them, or labels."
        )
    labels = []
    for rows in prompts.batches(32):
        some = prompts[rows]
        final = final_residual(model, some.clean)[torch.arange(len(some)), some.lengths - 1]
        for logits, correct, wrong in zip(unembed(model, final), some.correct, some.wrong, strict=True):
            rival = logits[list(correct)].max() if correct else logits.max()
            labels.append(
                bool(logits[list(wrong)].max() >= rival if not correct else logits[list(wrong)].max() > rival)
            )
    said = meaning or "the model prefers the wrong answer"
    return LabelledPrompts(prompts, spans, torch.tensor(labels), said)


@dataclass(frozen=True)
class Written:
    """A prompt as text, before it is tokens: which stretches are whose, what may be answered, what it was made from."""

    text: str
    marks: tuple[tuple[str, Where], ...] = ()
    correct: tuple[str, ...] = ()
    wrong: tuple[str, ...] = ()
    kind: str = ""


def set_of(
    model: ModelOrTokenizer, rows: list[Written], name: str, *, seed: int | None = None, bos: bool | None = None
) -> tuple[PromptSet, Spans]:
    """Prompts and their spans from written rows."""
    reader = TokenReader.of(model, bos)
    own_bos = reader.bos is not None and all(reader.raw(row.text)[:1] == [reader.bos] for row in rows)
    reader = replace(reader, bos=None) if own_bos else reader  # a chat template writes its own
    pairs = []
    for row in rows:
        ids = reader.ids(row.text)
        correct, wrong = (_answers(reader, words) for words in (row.correct, row.wrong))
        pairs.append(Pair(row.text, row.text, ids, ids, correct=correct, wrong=wrong, group=row.kind))
    metric = "logit_diff" if all(pair.wrong and pair.correct for pair in pairs) else "log_probability"
    prompts = assemble(name, pairs, reader, corruption=NO_CORRUPTION, seed=seed, default_metric=metric)
    return prompts, mark_texts(model, prompts, [row.marks for row in rows])


def labelled_jsonl(model: TraceModel, path: str | Path, *, meaning: str = "") -> LabelledPrompts:
    """Labelled prompts from a file (the module's docstring has the keys).

    Raises NotFoundError without a file, InputError for rows without labels, FileFormatError for a line that is no JSON.
    """
    rows, labels = [], []
    for where, written, label in read_rows(model, path):
        if label is None and not written.wrong:
            raise InputError(
                f'{where}Expected a "label" (true or false), or "correct" and "wrong" answers by which the model\'s '
                "output is labelled, got neither; add one."
            )
        rows.append(written)
        labels.append(label)
    by_hand = {label is not None for label in labels}
    if len(by_hand) > 1:
        raise InputError(
            f"Expected a label in every row or in none, got {labels.count(None)} of {len(labels)} without; "
            "write all, or leave all to the model's output."
        )
    prompts, spans = set_of(model, rows, Path(path).stem)
    if by_hand == {False}:
        return by_output(model, prompts, spans, meaning=meaning)
    return LabelledPrompts(prompts, spans, torch.tensor(labels), meaning or "as labelled in the file")


def read_rows(model: ModelOrTokenizer, path: str | Path) -> Iterator[tuple[str, Written, bool | None]]:
    """Where each row stands, the row, and its label if it has one."""
    path = Path(path)
    if not path.is_file():
        raise NotFoundError(f"Expected a file of prompts at {path.name!r}, {instead_of_file(path)}.")
    any_row = False
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        if not line.strip():
            continue
        where = f"Line {number} of {path.name}: "
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise FileFormatError(
                f"{where}Expected one JSON object per line, got {line[:40].decode(errors='replace')!r} ({error}); "
                'write {"text": ..., "label": true, "kind": ..., "spans": {...}}.'
            ) from error
        any_row = True
        try:
            yield where, *_row(model, row)
        except LLMTraceError as error:
            raise type(error)(f"{where}{error}") from error
    if not any_row:
        raise InputError(f"Expected at least one row in {path.name!r}, got none; write one JSON object per line.")


def _row(model: ModelOrTokenizer, row: Any) -> tuple[Written, bool | None]:
    if not isinstance(row, Mapping):
        raise InputError(f'Expected a JSON object, got {row!r}; write {{"text": ...}}.')
    for key in row:
        if key not in KEYS:
            raise InputError(
                f"Expected the keys {', '.join(KEYS)}, got {key!r}; rename or remove it."
                + did_you_mean(str(key), list(KEYS))
            )
    text, messages, label = row.get("text"), row.get("messages"), row.get("label")
    if (text is None) == (messages is None):
        raise InputError('Expected either "text" or "messages", got both or neither; write one.')
    if label is not None and not isinstance(label, bool):
        raise InputError(f'Expected "label" to be true or false, got {label!r}; write one of them.')
    spans = row.get("spans") or {}
    if not isinstance(spans, Mapping) or not all(isinstance(words, str) for words in spans.values()):
        raise InputError(f'Expected "spans" as names and words, got {spans!r}; write {{"document": "its words"}}.')
    marks: list[tuple[str, Where]] = list(spans.items())
    if messages is not None:
        text, by_role = chat_text(model, messages)
        marks = [*by_role, *marks]
    if not isinstance(text, str):
        raise InputError(f'Expected "text" in quotes, got {text!r}.')
    correct, wrong = (_words(row.get(which), which) for which in ("correct", "wrong"))
    return Written(text, tuple(marks), correct, wrong, str(row.get("kind") or "")), label


def chat_text(model: ModelOrTokenizer, messages: Any) -> tuple[str, list[tuple[str, Where]]]:
    """A conversation as its model reads it, and which characters each message is."""
    talk = [found for message in messages if (found := _message(message))] if isinstance(messages, list | tuple) else []
    if not talk or len(talk) != len(messages) or not all(isinstance(m["content"], str) for m in talk):
        raise InputError(f'Expected messages of role and text, got {messages!r}; write [["user", "Hello"]].')
    text, after, marks = render(TokenReader.of(model).tokenizer, talk), 0, list[tuple[str, Where]]()
    for message in talk:
        content = message["content"].strip()
        at = text.find(content, after)
        if at < 0:
            raise InputError(f"Expected the template to write {content[:40]!r} as it is; take another template.")
        after = at + len(content)
        marks.append((message["role"], (at, after)))
    return text, marks


def _message(message: Any) -> dict[str, Any] | None:
    if isinstance(message, Mapping) and {"role", "content"} <= message.keys():
        return {"role": message["role"], "content": message["content"]}
    if isinstance(message, list | tuple) and len(message) == 2:
        return {"role": message[0], "content": message[1]}
    return None


def _words(given: Any, which: str) -> tuple[str, ...]:
    words = given if isinstance(given, list) else [] if given is None else [given]
    if not all(isinstance(word, str) for word in words):
        raise InputError(f"Expected {which} answers in quotes, got {given!r}.")
    return tuple(words)


def _answers(reader: TokenReader, words: tuple[str, ...]) -> tuple[int, ...]:
    return tuple(dict.fromkeys(reader.answer(word) for word in words))
