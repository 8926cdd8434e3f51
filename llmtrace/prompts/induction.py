"""Induction: random tokens, then the first of them again; what came next comes next (Olsson et al. 2022).

clean      BOS r1 r2 ... rL r1 ... rk  ->  r(k+1)
corrupted  BOS q1 q2 ... qL r1 ... rk      where no q is an r: nothing to copy from

    >>> lt.prompts.induction(model, 4, length=5)
    PromptSet(induction/other first stretch: 4 prompts of 8 tokens, 1 groups, seed 0)
"""

from __future__ import annotations

import random

from llmtrace.errors import InputError
from llmtrace.prompts.making.assemble import Pair, assemble, refuse_no_prompts
from llmtrace.prompts.making.token_reader import ModelOrTokenizer, TokenReader
from llmtrace.prompts.prompt_set import PromptSet


def induction(
    model: ModelOrTokenizer, n: int = 16, *, length: int = 15, seed: int = 0, prepend_bos: bool | None = None
) -> PromptSet:
    """`n` prompts of `length` different random tokens, the first half of which (rounded down) comes again.

    Correct answer: the token that follows; wrong answer: another token of the first stretch that does not come again.
    Positions: PREV (where the token at END stood before), COPY (the one after it, which an induction head attends to
    from END), END. Special and added tokens are not drawn. No forward pass.

    Raises InputError for a length below 4 or a vocabulary below 2 * length tokens.
    """
    refuse_no_prompts(n)
    reader = TokenReader.of(model, prepend_bos)
    vocabulary = reader.ordinary()
    if length < 4 or len(vocabulary) < 2 * length:
        raise InputError(
            f"Expected a length from 4 to {len(vocabulary) // 2} (half of the {len(vocabulary)} ordinary tokens), got "
            f"{length}; pass length=15."
        )
    rng = random.Random(seed)
    start = [] if reader.bos is None else [reader.bos]
    again = length // 2

    def pair() -> Pair:
        drawn = rng.sample(vocabulary, 2 * length)
        r, q = drawn[:length], drawn[length:]
        clean, corrupted = r + r[:again], q + r[:again]
        return Pair(
            # Decoded as a whole, the tokens of a word tokenizer run into one another.
            " ".join(piece.strip() for piece in reader.pieces(clean)),
            " ".join(piece.strip() for piece in reader.pieces(corrupted)),
            start + clean,
            start + corrupted,
            correct=(r[again],),
            wrong=(rng.choice(r[again + 1 :]),),
            positions={"PREV": len(start) + again - 1, "COPY": len(start) + again},
            group=f"{length} tokens, {again} again",
        )

    return assemble("induction", [pair() for _ in range(n)], reader, corruption="other first stretch", seed=seed)
