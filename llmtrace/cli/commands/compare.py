"""`llmtrace compare`: is the circuit that was found the one that is known?"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llmtrace.circuits.rows import DEFINITIONS
from llmtrace.cli.commands.discover import CIRCUIT
from llmtrace.cli.options.groups import Common
from llmtrace.cli.output.screen import decimals
from llmtrace.errors import NotFoundError, did_you_mean

if TYPE_CHECKING:
    from llmtrace.circuits import Circuit, Comparison, Definition
    from llmtrace.cli.output.screen import Next, Screen
    from llmtrace.plots import Section

NODES_SHOWN = 12
WHAT = "circuit.json, the folder it is in, a definition (.yaml, .json), or the name of one"


def compare(
    found: Annotated[str, typer.Argument(metavar="FOUND", help=f"{WHAT}.")],
    known: Annotated[str, typer.Argument(metavar="KNOWN", help=f"{WHAT}: {', '.join(DEFINITIONS)}.")],
    *,
    common: Common,
) -> None:
    """Hold a circuit against a known one.

    Precision, recall, F1 and Jaccard over edges and nodes, recall by role, and how well the scores rank what is known.

    No model is loaded, so --device, --dtype and --seed change nothing here.
    """
    run = common.run("compare", "", {"found": found, "known": known})

    from llmtrace import circuits
    from llmtrace.cli.output.documents import CompareRow, records_of

    reference, tested = read_circuit(known), read_circuit(found)
    if not isinstance(tested, circuits.Circuit):
        tested = tested.circuit(reference.graph)
    comparison = circuits.compare(tested, reference)
    rows = [CompareRow(**row) for row in records_of(comparison.df())]
    missed, extra = ([str(node) for node in nodes] for nodes in (comparison.missed, comparison.extra))

    def show(screen: Screen) -> list[Next]:
        tell(screen, comparison, found, known)
        model = tested.provenance.get("model")
        if model is None or not Path(found).exists():
            return []
        command = f"llmtrace evaluate {shlex.quote(str(model))} {shlex.quote(found)}"
        return [(command, "overlap is no proof: does it do alone what the model does?")]

    def sections() -> list[Section]:
        from llmtrace.plots import Section

        return [
            Section("Comparison", f"{found} (found) against {known} (known): {comparison!r}.", table=comparison.df())
        ]

    run.finish(
        rows,
        show=show,
        summary={
            "edges_of_model": comparison.known.graph.n_edges, "missed": missed, "extra": extra,
            "caveats": list(comparison.caveats),
        },
        sections=sections,
    )  # fmt: skip


def read_circuit(text: str) -> Circuit | Definition:
    """The name of a definition that comes with the package, else a file or a folder of `discover`.

    Raises NotFoundError for what is neither.
    """
    from llmtrace.circuits import Circuit, load_definition
    from llmtrace.circuits.definitions.load_definition import KIND, YAML
    from llmtrace.files import read_json

    if text in DEFINITIONS:
        definition: Definition = DEFINITIONS[text]()
        return definition
    path = Path(text)
    if not path.exists():
        raise NotFoundError(
            f"Expected a circuit or definition file or one of {', '.join(DEFINITIONS)}, found no {text!r}; "
            f"check the path.{did_you_mean(text, list(DEFINITIONS))}"
        )
    if path.is_dir():
        return Circuit.load(path / CIRCUIT)
    is_definition = path.suffix.lower() in YAML or read_json(path).get("kind") == KIND
    return load_definition(path) if is_definition else Circuit.load(path)


def tell(screen: Screen, comparison: Comparison, found: str, known: str) -> None:
    """The tables of the screen, and which nodes are missed or extra."""
    edges, nodes = comparison.edges, comparison.nodes
    screen.say(f"{found} (found) against {known} (known), {comparison.known.graph}\n")
    measures = ("precision", "recall", "f1", "jaccard", "roc_auc", "average_precision")
    kept = [name for name in measures if getattr(edges, name) is not None or getattr(nodes, name) is not None]
    screen.table(
        ["over", "found", "known", "shared", *(name.replace("_", " ") for name in kept)],
        [
            [name, over.found, over.known, over.shared, *(_share(getattr(over, measure)) for measure in kept)]
            for name, over in (("edges", edges), ("nodes", nodes))
        ],
    )
    if comparison.roles:
        screen.say()
        screen.table(
            ["role", "nodes found", "of", "recall"],
            [[role, over.shared, over.known, _share(over.recall)] for role, over in comparison.roles.items()],
        )
    screen.say()
    for name, some in (("Known nodes not found", comparison.missed), ("Found nodes not known", comparison.extra)):
        rest = f" and {len(some) - NODES_SHOWN} more" if len(some) > NODES_SHOWN else ""
        screen.say(f"{name}: {', '.join(map(str, some[:NODES_SHOWN])) or 'none'}{rest}.")
    for caveat in comparison.caveats:
        screen.say(f"Caution: {caveat}.")


def _share(value: float | None) -> str | None:
    return None if value is None else decimals(value)
