"""What a head does on one prompt, from its pattern and the tokens: shares of attention, and how spread it is. NumPy.

    previous_token    mean over queries but the first of A[i, i-1]
    self              of A[i, i]
    sink              of A[i, 0]
    duplicate_token   mean, over tokens that were there before, of the attention to where they were
    induction         the same, to the tokens after those
    entropy           mean of -sum A log A, in nats

On a text of one's own a token may be its own predecessor's twin; `lt.influence.head_behaviour` asks on random tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

PAIRS = 10  # of query and key, the strongest


def behaviour(pattern: Any, tokens: Sequence[object]) -> dict[str, float]:
    """`pattern` [query key]. What the prompt has no example of is left out."""
    n = len(tokens)
    if n < 2:
        return {}
    wide = pattern.astype(np.float64)
    later = np.arange(1, n)
    same = np.array([[tokens[i] == tokens[j] and j < i for j in range(n)] for i in range(n)])
    after = np.zeros_like(same)
    after[:, 1:] = same[:, :-1]
    after &= ~np.triu(np.ones_like(same))  # a token does not look at itself for what comes after
    found = {
        "previous_token": wide[later, later - 1].mean(),
        "self": wide[later, later].mean(),
        "sink": wide[later, 0].mean(),
        "entropy": -(wide * np.log(np.where(wide > 0, wide, 1))).sum(-1)[1:].mean(),
    }
    for name, places in (("duplicate_token", same), ("induction", after)):
        if (asked := places.any(1)).any():
            found[name] = (wide * places).sum(1)[asked].mean()
    return {name: float(value) for name, value in found.items()}


def top_pairs(pattern: Any) -> list[tuple[int, int, float]]:
    """(query, key, attention) of the strongest, the first query left out, which can look nowhere else."""
    n = len(pattern)
    queries, keys = np.tril_indices(n)
    values = pattern[queries, keys]
    order = [i for i in np.argsort(-values, kind="stable") if queries[i] > 0][:PAIRS]
    return [(int(queries[i]), int(keys[i]), float(values[i])) for i in order]
