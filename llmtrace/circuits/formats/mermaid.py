"""Mermaid, which Markdown pages (GitHub, notebooks, many wikis) draw: the circuit as a flow chart from the input up.

Written only. Arrows are labelled with the slots they are read through; dotted arrows have negative scores. Mermaid
draws no chart of more than 500 arrows or 50,000 letters, and a page cannot raise that limit, so larger circuits are
refused.
"""

from __future__ import annotations

import re
from pathlib import Path

from llmtrace.circuits.circuit import Circuit
from llmtrace.circuits.formats.sharing.arrows import Arrow, boxes, circuit_arrows, shares
from llmtrace.circuits.formats.sharing.stamp import finite_scores
from llmtrace.errors import LimitError
from llmtrace.files import write_text

MOST_ARROWS, MOST_LETTERS = 500, 50_000


def write(circuit: Circuit, path: str | Path) -> Path:
    """One file. Raises LimitError for a circuit that Mermaid would not draw."""
    drawn = circuit_arrows(circuit, finite_scores(circuit))
    nodes = boxes(drawn)
    lines = ["flowchart BT", *(f'  {_identity(node)}["{node}"]' for node in nodes), *map(_line, drawn)]
    shared = [f"  {_identity(kv_head)} --- {_identity(head)}" for kv_head, head in shares(circuit, nodes)]
    text = "\n".join([*lines, *shared, ""])
    n_arrows = len(drawn) + len(shared)
    if n_arrows > MOST_ARROWS or len(text) > MOST_LETTERS:
        raise LimitError(
            f"Mermaid draws at most {MOST_ARROWS} arrows and {MOST_LETTERS:,} letters, and this circuit has "
            f"{n_arrows:,} and {len(text):,}; take a smaller circuit, or export it as dot or graphml."
        )
    write_text(path, text)
    return Path(path)


def _line(arrow: Arrow) -> str:
    line = "-.->" if arrow.total is not None and arrow.total < 0 else "-->"
    label = f'|"{arrow.label}"|' if arrow.label else ""
    return f"  {_identity(arrow.source)} {line}{label} {_identity(arrow.target)}"


def _identity(node: object) -> str:
    """A name without the letters that Mermaid reads."""
    return re.sub(r"\W", "_", str(node))
