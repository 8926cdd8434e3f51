"""llmtrace's own `circuit.json`: a row of the table, so that other formats are converted from it and to it."""

from __future__ import annotations

from pathlib import Path

from llmtrace.circuits.circuit import Circuit
from llmtrace.circuits.graph import Graph
from llmtrace.errors import MismatchError


def write(circuit: Circuit, path: str | Path) -> Path:
    """`Circuit.save`."""
    return circuit.save(path)


def read(path: str | Path, *, graph: Graph | None = None) -> Circuit:
    """`Circuit.load`. Raises MismatchError for a circuit of another graph."""
    circuit = Circuit.load(path)
    if graph is not None and graph != circuit.graph:
        raise MismatchError(
            f"Expected a circuit of {graph}, but {Path(path).name!r} is of {circuit.graph}; load its own model."
        )
    return circuit
