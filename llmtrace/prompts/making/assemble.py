"""Prompt pairs, tokenised one by one, to one `PromptSet`: equal lengths within a pair, padding on the right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from llmtrace.errors import InputError, LimitError
from llmtrace.prompts.making.token_reader import TokenReader
from llmtrace.prompts.prompt_set import PromptSet
from llmtrace.shapes import Tokens

NO_CORRUPTION = "none"  # prompts without a partner: the corrupted tokens are the clean ones


@dataclass(frozen=True)
class Pair:
    """One prompt and its corruption, as text and as tokens (BOS included), not yet padded. END is added later."""

    text: str
    corrupted_text: str
    clean: list[int]
    corrupted: list[int]
    correct: tuple[int, ...]
    wrong: tuple[int, ...] = ()
    positions: dict[str, int] = field(default_factory=dict)
    group: str = ""


def refuse_unlike(pair: Pair, reader: TokenReader) -> None:
    """A pair must be aligned token by token and differ somewhere."""
    if len(pair.clean) != len(pair.corrupted):
        raise InputError(
            f"Expected clean and corrupted prompts of equal token length, got {len(pair.clean)} and "
            f"{len(pair.corrupted)}: {reader.pieces(pair.clean)} against {reader.pieces(pair.corrupted)}; "
            "reword one so that every token has a partner."
        )
    if pair.clean == pair.corrupted:
        raise InputError(
            f"Expected a corrupted prompt that differs from the clean one, got {pair.text!r} twice; "
            "change the word that decides the answer."
        )


def refuse_long(pair: Pair, reader: TokenReader) -> None:
    """A prompt must fit the context of the model."""
    if reader.n_ctx is not None and len(pair.clean) > reader.n_ctx:
        raise LimitError(
            f"Expected a prompt of at most {reader.n_ctx} tokens, the model's context, got {len(pair.clean)} "
            f"({pair.text[:40]!r}...); shorten it."
        )


def assemble(
    name: str,
    pairs: Sequence[Pair],
    reader: TokenReader,
    *,
    corruption: str = "",
    seed: int | None = None,
    left_out: dict[str, int] | None = None,
    default_metric: str = "logit_diff",
) -> PromptSet:
    """Pad and stack. Groups are numbered in the order in which they first appear; zero counts are not kept."""
    refuse_no_prompts(len(pairs))
    for pair in pairs:
        refuse_long(pair, reader)
        if corruption != NO_CORRUPTION:
            refuse_unlike(pair, reader)
    lengths = [len(pair.clean) for pair in pairs]
    names = list(dict.fromkeys(pair.group for pair in pairs))
    places = list(pairs[0].positions)
    answers = {token for pair in pairs for token in (*pair.correct, *pair.wrong)}
    used = answers.union(*(ids for pair in pairs for ids in (pair.clean, pair.corrupted)))
    return PromptSet(
        name=name,
        clean=_stack([pair.clean for pair in pairs], reader.pad),
        corrupted=_stack([pair.corrupted for pair in pairs], reader.pad),
        lengths=torch.tensor(lengths, dtype=torch.long),
        correct=tuple(pair.correct for pair in pairs),
        wrong=tuple(pair.wrong for pair in pairs),
        positions={
            **{place: torch.tensor([pair.positions[place] for pair in pairs]) for place in places},
            "END": torch.tensor(lengths, dtype=torch.long) - 1,
        },
        groups=torch.tensor([names.index(pair.group) for pair in pairs], dtype=torch.long),
        group_names=tuple(names),
        texts=tuple(pair.text for pair in pairs),
        corrupted_texts=tuple(pair.corrupted_text for pair in pairs),
        seed=seed,
        prepend_bos=reader.bos is not None,
        pad_id=reader.pad,
        left_out={what: n for what, n in (left_out or {}).items() if n},
        corruption=corruption,
        answer_texts={token: reader.pieces([token])[0] for token in sorted(answers)},
        vocabulary=reader.names(sorted(used)),
        default_metric=default_metric,
    )


def refuse_no_prompts(n: int) -> None:
    """A set has at least one prompt."""
    if not isinstance(n, int):
        raise InputError(f"Expected a number of prompts, got {n!r}; ask for n=16.")
    if n < 1:
        raise InputError(f"Expected at least 1 prompt, got {n}; give a pair, or ask a maker for n=16.")


def _stack(rows: list[list[int]], pad: int) -> Tokens:
    longest = max(map(len, rows))
    return torch.tensor([row + [pad] * (longest - len(row)) for row in rows], dtype=torch.long)
