"""Circuits in the files of other programs: `export_circuit` and `import_circuit`.

Each format is one file of `formats/` and one row of `FORMATS`; its docstring says what it holds, what it leaves out and
what it refuses. Where a file name or a file's content leaves no doubt, the format need not be named.

    >>> circuit = lt.circuits.discover(model, prompts, n_edges=50)
    >>> file = lt.circuits.export_circuit(circuit, "eap.json", format="eap_ig")
    >>> lt.circuits.import_circuit(file)
    Circuit(50 of 1,519 edges, 13 nodes)
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from llmtrace.arguments import read_options
from llmtrace.circuits.circuit import KIND, Circuit
from llmtrace.circuits.formats.format import Format
from llmtrace.circuits.graph import Graph, require_no_neurons
from llmtrace.circuits.rows import FORMATS
from llmtrace.circuits.running.span_columns import require_no_spans
from llmtrace.errors import InputError, NotFoundError
from llmtrace.files import read_json
from llmtrace.methods import require_options


def export_circuit(circuit: Circuit, path: str | Path, format: str | None = None, **options: Any) -> Path:
    """Write a circuit into another program's file (MIB: folder) and return its path.

    format    a row of `FORMATS`; it may be left out for names that end in .pt, .graphml, .dot or .mmd
    options   of the format: `d_model` (eap_ig, mib), `membership` (mib)

    Raises UnsupportedError for a graph that the format cannot name, InputError for what it cannot hold.
    """
    path = Path(path)
    row = FORMATS[format] if format is not None else _by_suffix(path)
    if row is None:
        raise InputError(f"Expected the format of {path.name!r}, which its name leaves open; {_choices()}.")
    row.require_suffix(path)
    if "spans" not in row.holds:
        require_no_spans(circuit.graph, f"The format {row.name}")
    if "neurons" not in row.holds:
        require_no_neurons(circuit.graph, f"The format {row.name}")
    return Path(row(circuit, path, **row.read_options(options)))


def import_circuit(
    path: str | Path, *, graph: Graph | None = None, format: str | None = None, **options: Any
) -> Circuit:
    """Read a circuit from another program's file (MIB: folder).

    graph     of the circuit's model, where the file does not say it whole (a file that contradicts it is refused)
    format    a row of `FORMATS`; it may be left out: the file's name or its content tells
    options   of the format: `n_kv_heads` (eap_ig, mib), `percent` (mib, which of nine circuits)

    Raises NotFoundError, FileFormatError, MismatchError where the file contradicts `graph`, where it divides what its
    model shares (keys and values of a group), or UnsupportedError for a file that holds no circuit of edges.
    """
    path = Path(path)
    if not path.exists():
        raise NotFoundError(f"Expected a circuit at {path.name!r}, found nothing there; check the path.")
    row = FORMATS[format] if format is not None else _by_content(path)
    if graph is not None and "neurons" not in row.holds:
        require_no_neurons(graph, f"The format {row.name}")
    read = row.require_read()
    require_options(row.name, read, options)
    found: Circuit = read(path, graph=graph, **read_options(row.name, read, options))
    return found


def _by_suffix(path: Path) -> Format | None:
    return next((row for row in FORMATS.values() if row.suffix == path.suffix and row.suffix and row.alone), None)


def _by_content(path: Path) -> Format:
    if path.is_dir() and (row := next((row for row in FORMATS.values() if not row.suffix and row.alone), None)):
        return row
    if row := _by_suffix(path):
        return row
    if path.suffix == ".json":
        content = read_json(path)
        if content.get("kind") == KIND:
            return FORMATS["llmtrace"]
        if row := next((row for row in FORMATS.values() if row.marks and {*row.marks} <= {*content}), None):
            return row
    raise InputError(f"Expected a circuit file of a known format, got {path.name!r}; {_choices()}.")


def _choices() -> str:
    return f"pass format=, one of {', '.join(FORMATS)}"
