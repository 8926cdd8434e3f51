"""What people write for positions, read once for everything that takes them: names and numbers, alike in each prompt.

    "END"   0   -1   np.int64(3)   ["S2", 4]   (0,)   np.array([0])   slice(0, 2)   a mask [pos] or [batch pos]

A name or a number alone is a list of one. Slices and masks are counted in the tokens of each prompt, padding not, and
stand for numbers from its start or, where that is not the same everywhere, from its end.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

import numpy as np
import torch

from llmtrace.errors import InputError
from llmtrace.nodes import Position
from llmtrace.shapes import Positions, Tensor

# What people write for positions. np.integer: of callers who pass the border of the package by (`arguments.py`).
Choice = Annotated[
    Position | Sequence[Position | bool] | slice | np.ndarray | np.integer | Tensor,
    "a name such as 'END', a whole number, a list of these, a slice or a mask",
]


def read_positions(asked: Any, lengths: Positions, what: str = "positions", *, least: int = 1) -> tuple[Position, ...]:
    """Names and whole numbers. `what` they are, for the sentence that refuses fewer than `least`.

    Raises InputError for what is no position, for none at all, for a mask of another shape, and for a slice or a mask
    that takes other positions in one prompt than in another.
    """
    asked = _plain(asked)
    if isinstance(asked, slice) or _is_mask(asked):
        found = _shared([_taken(asked, row, lengths) for row in range(len(lengths))], lengths, asked)
    elif isinstance(asked, str | int):
        found = (read_position(asked),)
    elif isinstance(asked, Iterable) and not isinstance(asked, Mapping | bytes):
        found = tuple(map(read_position, asked))
    else:
        raise InputError(f"Expected a list of {what}, got {asked!r}; write a list, such as ['END'] or [1, -1].")
    if len(found) < least:
        raise InputError(f"Expected a list of {what}, got {asked!r}; write a list, such as ['END'] or [1, -1].")
    return found


def read_position(asked: Any) -> Position:
    """One name or whole number, of Python, NumPy or torch."""
    asked = _plain(asked)
    if isinstance(asked, str):
        return asked
    if isinstance(asked, int) and not isinstance(asked, bool):
        return asked
    raise InputError(f"Expected a named position or a whole number, got {asked!r}; write 'END' or -1.")


def _plain(asked: Any) -> Any:
    """Arrays and tensors as lists and numbers."""
    return asked.tolist() if isinstance(asked, np.ndarray | np.generic | Tensor) else asked


def _is_mask(asked: Any) -> bool:
    rows = asked if isinstance(asked, list | tuple) else ()
    if rows and all(isinstance(row, list | tuple) for row in rows):
        rows = [value for row in rows for value in row]
    return len(rows) > 0 and all(isinstance(value, bool | np.bool_) for value in rows)


def _taken(asked: Any, row: int, lengths: Positions) -> list[int]:
    """The positions that a slice or a mask takes of one prompt."""
    if isinstance(asked, slice):
        try:
            return list(range(int(lengths[row]))[asked])
        except (TypeError, ValueError) as error:
            raise InputError(f"Expected a slice of whole numbers, got {asked}; write slice(0, 3).") from error
    mask, width = torch.tensor(asked), int(lengths.max())
    if tuple(mask.shape) not in ((width,), (len(lengths), width)):
        raise InputError(
            f"Expected a mask of positions of shape [{width}] or [{len(lengths)}, {width}], got {list(mask.shape)}; "
            "write one truth value for each token."
        )
    found = (mask if mask.ndim == 1 else mask[row]).nonzero()[:, 0].tolist()
    if found and found[-1] >= int(lengths[row]):
        raise InputError(f"Expected a mask of tokens, got one that takes padding of prompt {row}; count from BOS.")
    return found


def _shared(taken: list[list[int]], lengths: Positions, asked: Any) -> tuple[Position, ...]:
    """Numbers that mean in each prompt what was taken of it."""
    from_end = [[at - length for at in row] for row, length in zip(taken, lengths.tolist(), strict=True)]
    for rows in (taken, from_end):
        if all(row == rows[0] for row in rows):
            return tuple(rows[0])
    shown = asked if isinstance(asked, slice) else "a mask"
    raise InputError(
        f"Expected positions that are the same in every prompt, from its start or its end, got {shown}, which takes "
        "others in some; name positions when the prompts are made."
    )
