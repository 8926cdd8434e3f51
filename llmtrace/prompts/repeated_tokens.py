"""Random tokens, said twice: what previous-token, duplicate-token and induction heads are told apart on.

    BOS r1 r2 ... rL r1 r2 ... rL         the r of a prompt all differ

Nothing but the repetition can be known about them, so a head that finds the earlier copy finds it by content.
Source: Elhage et al. 2021; Olsson et al. 2022.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import torch

from llmtrace.errors import InputError
from llmtrace.models import describe
from llmtrace.prompts.making.assemble import refuse_no_prompts
from llmtrace.prompts.making.token_reader import TokenReader
from llmtrace.shapes import Tokens

LONGEST = 50  # of one copy, unless the context or the vocabulary is shorter


@dataclass(frozen=True, eq=False)
class RepeatedTokens:
    """`first`: where the first copy begins (1 after a BOS, else 0); the second begins `length` later."""

    tokens: Tokens
    first: int
    length: int
    seed: int

    def __len__(self) -> int:
        return len(self.tokens)

    def __repr__(self) -> str:
        return f"RepeatedTokens({len(self)} prompts of {self.length} random tokens, twice; seed {self.seed})"


def repeated_tokens(model: Any, n: int = 10, *, length: int | None = None, seed: int = 0) -> RepeatedTokens:
    """`n` prompts of `length` different random tokens, twice (default: 50, or what context and vocabulary allow).

    Special tokens are not drawn; without a tokenizer there are none, and no BOS. No forward pass.
    """
    refuse_no_prompts(n)
    ordinary, bos = _vocabulary(model)
    most = min((model.cfg.n_ctx - len(bos)) // 2, len(ordinary))
    length = min(LONGEST, most) if length is None else length
    if not 2 <= length <= most:
        raise InputError(
            f"Expected a length from 2 to {most} (twice that must fit the context, and no token comes twice in a "
            f"copy), got {length}; leave length out."
        )
    rng = random.Random(seed)
    rows = [bos + 2 * rng.sample(ordinary, length) for _ in range(n)]
    return RepeatedTokens(torch.tensor(rows), len(bos), length, seed)


def _vocabulary(model: Any) -> tuple[list[int], list[int]]:
    """Tokens to draw from, and what every prompt begins with."""
    if getattr(model, "tokenizer", None) is None:
        return list(range(describe(model).d_vocab)), []
    reader = TokenReader.of(model)
    return reader.ordinary(), [] if reader.bos is None else [reader.bos]
