"""Greater-than: "The war lasted from the year 1742 to the year 17" -> a number above 42 (Hanna et al. 2023).

>>> lt.prompts.greater_than(model, 4).texts[0]
'The voyage lasted from the year 1965 to the year 19'
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from llmtrace.errors import InputError
from llmtrace.prompts.making.assemble import Pair, assemble, refuse_no_prompts
from llmtrace.prompts.making.token_reader import ModelOrTokenizer, TokenReader
from llmtrace.prompts.prompt_set import PromptSet

NOUNS = (
    "war", "trip", "storm", "voyage", "dispute", "siege", "project", "reign", "famine", "drought", "conflict",
    "plague", "journey", "strike", "investigation", "trial", "expedition", "campaign", "rebellion", "occupation",
)  # fmt: skip
CENTURIES = tuple(map(str, range(11, 20)))
YEARS = tuple(f"{year:02d}" for year in range(100))
FLOOR = "01"  # the corrupted start: every answer is as good as another


def greater_than(model: ModelOrTokenizer, n: int = 16, *, seed: int = 0, prepend_bos: bool | None = None) -> PromptSet:
    """`n` different prompts with start years XX02 to XX98; corrupted: XX01.

    Correct answers: the two-digit tokens above the start year; wrong: those up to it. The metric is the probability of
    the one minus that of the other (`probability_diff`). Positions: NOUN, XX, YY, END (the second XX). Nouns and years
    that are cut otherwise than noun | XX | YY are counted in `left_out`. No forward pass.

    Raises InputError when the tokenizer has no token for each of 00 to 99, or nothing is left.
    """
    refuse_no_prompts(n)
    reader = TokenReader.of(model, prepend_bos)
    token = two_digit_tokens(reader)
    nouns = [noun for noun in NOUNS if reader.word(noun) is not None]
    floors = {xx for xx in CENTURIES if _is_cut(reader, xx, FLOOR, token)}
    starts = [(xx, yy) for xx in CENTURIES for yy in YEARS[2:99] if xx in floors and _is_cut(reader, xx, yy, token)]
    if len(nouns) * len(starts) < n:
        raise InputError(
            f"Expected {n} different prompts, got {len(nouns)} nouns and {len(starts)} years that this tokenizer cuts "
            "as noun, century, year; ask for fewer, or use a model such as gpt2 or tiny-english."
        )
    rng = random.Random(seed)

    def pair(noun: str, xx: str, yy: str) -> Pair:
        text, corrupted_text = (f"The {noun} lasted from the year {xx}{year} to the year {xx}" for year in (yy, FLOOR))
        year_ends = text.index(xx + yy) + 4
        later = int(yy) + 1
        at = reader.position(text, year_ends)
        return Pair(
            text,
            corrupted_text,
            reader.ids(text),
            reader.ids(corrupted_text),
            correct=tuple(token[year] for year in YEARS[later:]),
            wrong=tuple(token[year] for year in YEARS[:later]),
            positions={"NOUN": reader.position(text, len("The ") + len(noun)), "XX": at - 1, "YY": at},
            group="The {noun} lasted from the year {XX}{YY} to the year {XX}",
        )

    chosen = rng.sample(range(len(nouns) * len(starts)), n)
    return assemble(
        "greater_than",
        [pair(nouns[i // len(starts)], *starts[i % len(starts)]) for i in chosen],
        reader,
        corruption=FLOOR,
        seed=seed,
        left_out={"nouns": len(NOUNS) - len(nouns), "years": len(CENTURIES) * 97 - len(starts)},
        default_metric="probability_diff",
    )


def two_digit_tokens(reader: TokenReader) -> dict[str, int]:
    """The token of each of "00" to "99"; refused when there is a number without one."""

    def found() -> Iterator[tuple[str, int]]:
        for year in YEARS:
            ids = reader.raw(year)
            if len(ids) != 1 or ids[0] == reader.tokenizer.unk_token_id:
                raise InputError(
                    f"Expected a tokenizer with one token for each number from 00 to 99, got {reader.pieces(ids)} for "
                    f"{year!r}; its digits are read one by one, so use a model such as gpt2 or tiny-english."
                )
            yield year, ids[0]

    return dict(found())


def _is_cut(reader: TokenReader, xx: str, yy: str, token: dict[str, int]) -> bool:
    """Whether " XXYY" is the two tokens " XX" and "YY"."""
    return reader.raw(f"the year {xx}{yy}")[-2:] == [reader.word(xx), token[yy]]
