"""Circuits in the files of other programs: `export_circuit`, `import_circuit`, and the table of formats.

Each format is one file and one row of `FORMATS`; its docstring says what it holds, what it leaves out and what it
refuses. Where a file name or a file's content leaves no doubt, the format need not be named.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from llmtrace.circuits.circuit import KIND, Circuit
from llmtrace.circuits.formats.dot import DOT
from llmtrace.circuits.formats.eap_ig import EAP_IG
from llmtrace.circuits.formats.eap_ig_tensors import EAP_IG_TENSORS
from llmtrace.circuits.formats.graphml import GRAPHML
from llmtrace.circuits.formats.mermaid import MERMAID
from llmtrace.circuits.formats.mib import MIB, MIB_TENSORS
from llmtrace.circuits.formats.neuronpedia import NEURONPEDIA
from llmtrace.circuits.formats.own import OWN
from llmtrace.circuits.formats.row import Format
from llmtrace.circuits.graph import Graph, require_no_neurons
from llmtrace.circuits.spans import require_no_spans
from llmtrace.errors import InputError, NotFoundError
from llmtrace.files import read_json
from llmtrace.methods import Method, Table

__all__ = ["FORMATS", "Format", "export_circuit", "import_circuit"]

FORMATS = Table(
    "circuit format", OWN, EAP_IG, EAP_IG_TENSORS, MIB, MIB_TENSORS, NEURONPEDIA, GRAPHML, DOT, MERMAID
)  # fmt: skip
# Files whose nodes are a fixed list of heads and MLPs; in all others nodes have names, and a neuron is one more.
FIXED_NODES = (EAP_IG, EAP_IG_TENSORS, MIB, MIB_TENSORS)
# What only files of that format have at their top.
MARKS = {EAP_IG: {"cfg", "edges"}, NEURONPEDIA: {"metadata", "qParams", "links"}}


def export_circuit(circuit: Circuit, path: str | Path, format: str | None = None, **options: Any) -> Path:
    """Write a circuit into another program's file (MIB: folder) and return its path.

    format    a row of `FORMATS`; it may be left out for names that end in .pt, .graphml, .dot or .mmd
    options   of the format: `d_model` (eap-ig, mib), `membership` (mib)

    Raises UnsupportedError for a graph that the format cannot name, InputError for what it cannot hold.
    """
    path = Path(path)
    row = format_of(format) if format is not None else _by_suffix(path)
    if row is None:
        raise InputError(f"Expected the format of {path.name!r}, which its name leaves open; {_choices()}.")
    row.require_suffix(path)
    if row is not OWN:
        require_no_spans(circuit.graph, f"The format {row.name}")
    if row in FIXED_NODES:
        require_no_neurons(circuit.graph, f"The format {row.name}")
    row.require_options(options)
    return Path(row(circuit, path, **options))


def import_circuit(
    path: str | Path, *, graph: Graph | None = None, format: str | None = None, **options: Any
) -> Circuit:
    """Read a circuit from another program's file (MIB: folder).

    graph     of the circuit's model, where the file does not say it whole (a file that contradicts it is refused)
    format    a row of `FORMATS`; it may be left out: the file's name or its content tells
    options   of the format: `n_kv_heads` (eap-ig, mib), `percent` (mib, which of nine circuits)

    Raises NotFoundError, FileFormatError, MismatchError where the file contradicts `graph`, where it divides what its
    model shares (keys and values of a group), or UnsupportedError for a file that holds no circuit of edges.
    """
    path = Path(path)
    if not path.exists():
        raise NotFoundError(f"Expected a circuit at {path.name!r}, found nothing there; check the path.")
    row = format_of(format) if format is not None else _by_content(path)
    if graph is not None and row in FIXED_NODES:
        require_no_neurons(graph, f"The format {row.name}")
    read = row.require_read()
    Method(row.name, read, row.summary).require_options(options)
    return read(path, graph=graph, **options)


def format_of(name: str) -> Format:
    """The row of that name. Raises NotFoundError with the names that exist."""
    row = FORMATS[name]
    if not isinstance(row, Format):
        raise InputError(f"Expected {name!r} to be a Format, got a Method; register a Format with a suffix.")
    return row


def _by_suffix(path: Path) -> Format | None:
    rows = [format_of(name) for name in FORMATS]
    return next((row for row in rows if row.suffix and row.alone and row.suffix == path.suffix), None)


def _by_content(path: Path) -> Format:
    if path.is_dir():
        return MIB
    if row := _by_suffix(path):
        return row
    if path.suffix == ".json":
        content = read_json(path)
        if content.get("kind") == KIND:
            return OWN
        if row := next((row for row, mark in MARKS.items() if mark <= set(content)), None):
            return row
    raise InputError(f"Expected a circuit file of a known format, got {path.name!r}; {_choices()}.")


def _choices() -> str:
    return f"pass format=, one of {', '.join(FORMATS)}"
