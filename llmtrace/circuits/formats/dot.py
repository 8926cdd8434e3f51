"""DOT, which Graphviz draws: layers in rows from the input up, wide arrows for large |score|, dashed for negative ones.

Written only, as text: nobody needs pygraphviz. `dot -Tsvg circuit.dot -o circuit.svg` draws it.
"""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

from llmtrace.circuits.circuit import Circuit
from llmtrace.circuits.formats.sharing.arrows import Arrow, boxes, circuit_arrows, shares
from llmtrace.circuits.formats.sharing.stamp import finite_scores
from llmtrace.files import write_text

WIDTHS = 0.5, 4.0  # points, of the smallest and of the largest |score|


def write(circuit: Circuit, path: str | Path) -> Path:
    """One file with the circuit's nodes and edges."""
    drawn = circuit_arrows(circuit, finite_scores(circuit))
    nodes = boxes(drawn)
    lines = ["digraph circuit {", "  rankdir=BT;", '  node [shape=box, style=rounded, fontname="Helvetica"];']
    for _, row in groupby(nodes, lambda node: node.stage):
        lines.append(f"  {{ rank=same; {' '.join(f'{_quoted(node)};' for node in row)} }}")
    largest = max((abs(arrow.total or 0.0) for arrow in drawn), default=0.0)
    lines += [_line(arrow, largest) for arrow in drawn]
    lines += [
        f"  {_quoted(kv_head)} -> {_quoted(head)} [style=dotted, arrowhead=none];"
        for kv_head, head in shares(circuit, nodes)
    ]
    write_text(path, "\n".join([*lines, "}", ""]))
    return Path(path)


def _line(arrow: Arrow, largest: float) -> str:
    total = arrow.total
    style = [f'label="{arrow.label}"'] if arrow.label else []
    if total is not None and largest > 0:
        low, high = WIDTHS
        style.append(f"penwidth={low + (high - low) * abs(total) / largest:.2f}")
        style += [f'tooltip="{total:.6g}"', *(["style=dashed"] if total < 0 else [])]
    looks = f" [{', '.join(style)}]" if style else ""
    return f"  {_quoted(arrow.source)} -> {_quoted(arrow.target)}{looks};"


def _quoted(name: object) -> str:
    return f'"{name}"'
