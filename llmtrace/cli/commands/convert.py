"""`llmtrace convert`: a circuit into and out of the files of other programs."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llmtrace.circuits.rows import FORMATS
from llmtrace.cli.commands.discover import CIRCUIT
from llmtrace.cli.options.from_rows import Said, Typed, from_rows, given
from llmtrace.cli.options.groups import Common
from llmtrace.cli.options.shared import one_of
from llmtrace.cli.output.run import RESULT, Run
from llmtrace.cli.output.screen import Screen
from llmtrace.errors import InputError
from llmtrace.files import atomic_folder, write_text

if TYPE_CHECKING:
    from llmtrace.circuits import Circuit
    from llmtrace.circuits.formats.format import Format
    from llmtrace.cli.output.documents import Document


@dataclass(frozen=True, kw_only=True)
class FormatOptions(Typed):
    """Of formats that are written, and of those that are read."""

    said: Said = field(default_factory=dict, metadata=from_rows(FORMATS.values()))
    reading: Said = field(
        default_factory=dict, metadata=from_rows(replace(row, options=row.reads) for row in FORMATS.values())
    )


def convert(
    circuit: Annotated[
        Path,
        typer.Argument(
            metavar="CIRCUIT", help="A circuit file of any of these programs, or a folder (discover's or MIB's)."
        ),
    ],
    to: Annotated[str, typer.Option("--to", metavar=one_of(FORMATS), help="The format to write.")],
    source: Annotated[
        str | None, typer.Option("--from", metavar="FORMAT", help="Of CIRCUIT.  [default: its name or content tells]")
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="Of the file; of MIB's folder: task_model.")
    ] = None,
    like: Annotated[
        Path | None,
        typer.Option("--like", metavar="CIRCUIT", help="A circuit.json of the same model, where CIRCUIT is silent."),
    ] = None,
    *,
    how: FormatOptions,
    common: Common,
) -> None:
    """Convert a circuit file for other programs, or from them.

    Without --out the circuit is read and described. No model is loaded: --device, --dtype and --seed change nothing.
    """
    form = FORMATS[to]
    writing = given(form, how.said)
    options = {
        "circuit": str(circuit),
        "to": to,
        "from": source,
        "name": name,
        "like": None if like is None else str(like),
        **how.reading,
        **writing,
    }
    run = common.run("convert", str(circuit), options)

    from llmtrace.circuits import Circuit, export_circuit, import_circuit
    from llmtrace.cli.output.documents import FileRow

    if not form.suffix and name is None:
        raise InputError(f"{to} writes a folder per task and model, so it needs --name, such as --name ioi_gpt2.")
    if Path(name or "").name != (name or ""):
        raise InputError(f"Expected --name to be a plain name without folders, got {name!r}; the folder is --out.")
    graph = None if like is None else Circuit.load(_file(like)).graph
    found = import_circuit(_file(circuit), graph=graph, format=source, **how.reading)
    document = _document(run, found)
    if common.out is not None:
        with atomic_folder(common.out, overwrite=common.overwrite) as draft:
            export_circuit(found, draft / f"{name or Path(CIRCUIT).stem}{form.suffix}", to, **writing)
            written = sorted(file for file in draft.rglob("*") if file.is_file())
            document.rows = [FileRow(file=f.relative_to(draft).as_posix(), bytes=f.stat().st_size) for f in written]
            document.files = sorted([*(row.file for row in document.rows), RESULT])
            write_text(draft / RESULT, document.model_dump_json(indent=1) + "\n")
    if common.json:
        sys.stdout.write(document.model_dump_json() + "\n")
        return
    _show(Screen(), found, form, document)


def _file(circuit: Path) -> Path:
    """The circuit in a folder that discover or convert wrote; anything else is itself."""
    return circuit / CIRCUIT if (circuit / CIRCUIT).is_file() else circuit


def _document(run: Run, circuit: Circuit) -> Document:
    """What --json prints; its rows are the files that were written."""
    from llmtrace.cli.output.documents import SCHEMA_VERSION, document_of

    return document_of(run.command)(
        kind=f"llmtrace.cli.{run.command}",
        schema_version=SCHEMA_VERSION,
        command=run.command,
        options=run.options,
        seed=run.asked.seed,
        summary={
            "edges": circuit.n_edges, "edges_of_model": circuit.graph.n_edges, "scored": circuit.scores is not None,
            "nodes": [str(node) for node in circuit.nodes], "graph": circuit.graph.as_dict(),
        },
        rows=[],
        out=None if run.out is None else str(run.out),
    )  # fmt: skip


def _show(screen: Screen, circuit: Circuit, form: Format, document: Document) -> None:
    scores = "with scores" if circuit.scores is not None else "without scores"
    screen.say(f"{circuit.n_edges:,} edges, {scores}, of {circuit.graph!r}")
    if document.out is None:
        screen.say("Nothing was written: add --out FOLDER to convert it.")
        return
    screen.heading(f"Written to {document.out}")
    screen.say(", ".join(document.files))
    if form.name == "llmtrace":
        found = shlex.quote(document.out)
        screen.next([(f"llmtrace evaluate MODEL {found}", "is it a good circuit? MODEL is the one it was found in")])
