"""The user's own prompts: pairs in Python, or one JSON object per line of a file.

>>> clean = "When Mary and John went to the store, John gave a key to"
>>> corrupted = "When Mary and John went to the store, Mary gave a key to"
>>> lt.prompts.from_pairs(model, [(clean, corrupted, "Mary", "John")])
PromptSet(pairs: 1 prompts of 15 tokens, 1 groups)
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

from llmtrace.errors import FileFormatError, InputError, LLMTraceError, NotFoundError, did_you_mean
from llmtrace.prompts.making.assemble import Pair, assemble, refuse_long, refuse_no_prompts, refuse_unlike
from llmtrace.prompts.making.token_reader import ModelOrTokenizer, TokenReader
from llmtrace.prompts.prompt_set import PromptSet

KEYS = ("clean", "corrupted", "correct", "wrong", "positions", "group")
Row = Annotated[Mapping[str, Any] | Sequence[Any], "a dict or a tuple"]


def from_pairs(
    model: ModelOrTokenizer, pairs: Iterable[Row], *, prepend_bos: bool | None = None, name: str = "pairs"
) -> PromptSet:
    """Prompts from dicts with the keys below, or from tuples in this order.

    clean, corrupted  texts of equal token length that differ
    correct, wrong    an answer or a list of answers, one token each. An answer is taken as it is written (in GPT-2
                      " Mary" and "Mary" are two tokens, and the first one continues a sentence); only if that is not
                      one token, with a space before it or without the one it has. `wrong` may be left out: the default
                      metric is then log_probability, and logit_diff is refused.
    positions         optional: name -> a word of the clean text (its last token; it must occur once) or an index (BOS
                      counted, negative from the end). All pairs name the same positions. END is always there.
    group             optional: the template a prompt was made from; mean ablation averages within groups

    Raises InputError that shows the pair, LimitError for a prompt over the context length.
    """
    if not isinstance(pairs, Iterable):
        raise InputError(f"Expected a list of pairs, got {type(pairs).__name__}; write [(clean, corrupted, correct)].")
    numbered = ((f"Pair {i}: ", row) for i, row in enumerate(pairs))
    return _read(TokenReader.of(model, prepend_bos), numbered, name)


def from_jsonl(model: ModelOrTokenizer, path: str | Path, *, prepend_bos: bool | None = None) -> PromptSet:
    """Prompts from a file with one JSON object per line, keys as in `from_pairs`; empty lines are skipped.

    Raises NotFoundError without a file, FileFormatError for a line that is not JSON, and otherwise what `from_pairs`
    raises; each names the line.
    """
    path = Path(path)
    if not path.is_file():
        why = "is a folder; name a file in it" if path.is_dir() else "does not exist; check the path"
        raise NotFoundError(f"Expected a file of prompts, got {str(path)!r}, which {why}.")

    def rows() -> Iterable[tuple[str, Row]]:
        for number, line in enumerate(path.read_bytes().splitlines(), start=1):
            if not line.strip():
                continue
            where = f"Line {number} of {path.name}: "
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise FileFormatError(
                    f"{where}Expected one JSON object per line, got {line[:40].decode(errors='replace')!r} ({error}); "
                    'write {"clean": ..., "corrupted": ..., "correct": ..., "wrong": ...}.'
                ) from error
            yield where, row

    return _read(TokenReader.of(model, prepend_bos), rows(), path.stem)


def _read(reader: TokenReader, rows: Iterable[tuple[str, Row]], name: str) -> PromptSet:
    pairs: list[Pair] = []
    for where, row in rows:
        with _located(where):
            pair = _pair(reader, row)
            refuse_unlike(pair, reader)
            refuse_long(pair, reader)
        if pairs and set(pair.positions) != set(pairs[0].positions):
            raise InputError(
                f"{where}Expected the same named positions in all pairs, got {sorted(pair.positions)} after "
                f"{sorted(pairs[0].positions)}; name every position in every pair."
            )
        pairs.append(pair)
    refuse_no_prompts(len(pairs))
    metric = "logit_diff" if all(pair.wrong for pair in pairs) else "log_probability"
    return assemble(name, pairs, reader, default_metric=metric)


@contextmanager
def _located(where: str) -> Iterator[None]:
    """Every sentence about a pair begins with which one it is."""
    try:
        yield
    except LLMTraceError as error:
        raise type(error)(f"{where}{error}") from error


def _pair(reader: TokenReader, row: Row) -> Pair:
    fields = _fields(row)
    clean, corrupted = reader.ids(fields["clean"]), reader.ids(fields["corrupted"])
    correct, wrong = (_answers(reader, fields.get(which, ())) for which in ("correct", "wrong"))
    if not correct:
        raise InputError(f"Expected a correct answer to {fields['clean']!r}, got none; give one or more words.")
    if both := set(correct) & set(wrong):
        raise InputError(f"Expected correct and wrong answers to differ, got {reader.pieces(sorted(both))} in both.")
    named, group = fields.get("positions") or {}, fields.get("group") or ""
    if not isinstance(named, Mapping):
        raise InputError(f"Expected positions as a dict, got {named!r}; write {{'S': 'John'}}.")
    if not isinstance(group, str):
        raise InputError(f"Expected a group as text, got {group!r}; write it in quotes.")
    if "END" in named:
        raise InputError("Expected positions other than END, which is always the last token, got END; leave it out.")
    positions = {place: _position(reader, fields["clean"], len(clean), at) for place, at in named.items()}
    return Pair(fields["clean"], fields["corrupted"], clean, corrupted, correct, wrong, positions, group)


def _fields(row: Row) -> Mapping[str, Any]:
    if not isinstance(row, Mapping):
        if isinstance(row, str) or not isinstance(row, Sequence):
            raise InputError(f"Expected a dict or a tuple ({', '.join(KEYS[:4])}), got {row!r}; write one per prompt.")
        if len(row) > len(KEYS):
            raise InputError(f"Expected at most {len(KEYS)} fields ({', '.join(KEYS)}), got {len(row)}; drop the rest.")
        row = dict(zip(KEYS, row, strict=False))
    for key in row:
        if key not in KEYS:
            raise InputError(
                f"Expected the keys {', '.join(KEYS)}, got {key!r}; rename or remove it."
                + did_you_mean(str(key), list(KEYS))
            )
    if missing := [key for key in KEYS[:3] if key not in row]:
        raise InputError(f"Expected {', '.join(KEYS[:3])} in every pair, got none for {', '.join(missing)}; add it.")
    return row


def _answers(reader: TokenReader, given: Any) -> tuple[int, ...]:
    words = list(given) if isinstance(given, list | tuple) else [] if given is None else [given]
    if wrong_kind := [word for word in words if not isinstance(word, str)]:
        raise InputError(f"Expected answers as text, got {wrong_kind[0]!r}; write them in quotes.")
    return tuple(dict.fromkeys(reader.answer(word) for word in words))


def _position(reader: TokenReader, text: str, length: int, at: Any) -> int:
    if isinstance(at, int) and not isinstance(at, bool):
        if not -length <= at < length:
            raise InputError(f"Expected a position from 0 to {length - 1} in {text!r}, got {at}; BOS counts as one.")
        return at % length
    if not isinstance(at, str) or text.count(at) != 1 or not at:
        times = text.count(at) if isinstance(at, str) and at else "no word"
        raise InputError(
            f"Expected a position as a number or as a word that occurs once in {text!r}, got {at!r} ({times} times); "
            "give the number of the token."
        )
    return reader.position(text, text.index(at) + len(at))
