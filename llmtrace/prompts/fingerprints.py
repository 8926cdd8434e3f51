"""Which prompts something was made of: a number per prompt, carried by metrics, spans and scores.

Another set of the same shape would fit just as well, and its numbers would be nonsense without a sign of it.
"""

from __future__ import annotations

import torch

from llmtrace.errors import MismatchError
from llmtrace.shapes import Positions, Tokens


def fingerprints(tokens: Tokens, lengths: Positions) -> Positions:
    """A number for the real tokens of each prompt, the same in every process and at every width of padding."""
    rows = zip(tokens.tolist(), lengths.tolist(), strict=True)
    return torch.tensor([hash(tuple(row[:length])) for row, length in rows])


def require_same(what: str, given: Positions | None, prompts: Positions | None) -> None:
    """Refuse what was made of other prompts. None: made by hand, nobody knows of which."""
    if given is None or prompts is None:
        return
    if len(given) != len(prompts):
        raise MismatchError(
            f"Expected {what} of these {len(prompts)} prompts, got {what} of {len(given)}; slice and order both alike."
        )
    if bool((others := given != prompts).any()):
        raise MismatchError(
            f"Expected {what} of these {len(prompts)} prompts, got {what} of others (the first that differs is prompt "
            f"{int(others.nonzero()[0])}); make {what} of these, and slice and order both alike."
        )
