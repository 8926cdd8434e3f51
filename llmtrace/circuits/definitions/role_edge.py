"""How an edge between roles is written: `s_inhibition -> name_mover<q>`, `input -> duplicate_token<q,k,v>`.

A role stands for all of its nodes. `input` writes and `logits` reads; without slots all inputs of the reader are meant.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from llmtrace.errors import InputError
from llmtrace.nodes import SLOTS

INPUT, LOGITS = "input", "logits"
ROLE = r"[A-Za-z]\w*"
_EDGE = re.compile(rf"({ROLE})\s*->\s*({ROLE})\s*(?:<([^<>]*)>)?")


@dataclass(frozen=True)
class RoleEdge:
    """Every node of `writer` into the `slots` of every node of `reader`, wherever the graph has such an edge."""

    writer: str
    reader: str
    slots: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.writer} -> {self.reader}" + (f"<{','.join(self.slots)}>" if self.slots else "")


def parse_role_edge(text: str) -> RoleEdge:
    """`writer -> reader<q,k>`. Raises InputError for anything else."""
    match = _EDGE.fullmatch(text.strip())
    slots = () if match is None or match[3] is None else tuple(slot.strip() for slot in match[3].split(","))
    if match is None or (match[3] is not None and not set(slots) <= set(SLOTS)) or len(set(slots)) < len(slots):
        raise InputError(f"Expected an edge between roles such as 's_inhibition -> name_mover<q>', got {text!r}.")
    return RoleEdge(match[1], match[2], slots)
