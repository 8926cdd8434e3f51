"""`llmtrace discover`: which edges carry the behaviour."""

from __future__ import annotations

import inspect
import shlex
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmtrace.circuits.rows import METHODS, SELECTIONS, Discovery
from llmtrace.cli.options.from_rows import Said, Typed, flags, from_rows, given, recorded
from llmtrace.cli.options.groups import OnPairs
from llmtrace.cli.options.prompts import described
from llmtrace.cli.options.shared import (
    DryRun,
    MetricName,
    Source,
    Top,
    one_of,
    unit_of,
)
from llmtrace.cli.output.effects import kept_for_resume
from llmtrace.cli.output.run import Run
from llmtrace.interventions.rows import ABLATIONS

if TYPE_CHECKING:
    from llmtrace.circuits import Circuit
    from llmtrace.cli.output.documents import EdgeRow
    from llmtrace.cli.output.screen import Next, Screen
    from llmtrace.models import TraceModel
    from llmtrace.plots import Section
    from llmtrace.prompts import PromptSet

CIRCUIT = "circuit.json"


@dataclass(frozen=True, kw_only=True)
class DiscoveryOptions(Typed):
    """Of methods that score edges, and of selections."""

    selecting: Said = field(default_factory=dict, metadata=from_rows(SELECTIONS.values()))
    said: Said = field(default_factory=dict, metadata=from_rows(METHODS.values(), but=("metric",)))


def discover(
    model: Source,
    method: Annotated[str, typer.Option("--method", metavar=one_of(METHODS), help="How edges are scored.")] = "eap_ig",
    n_edges: Annotated[
        int | None,
        typer.Option(
            "--n-edges", "--edges", metavar="N", help="Size of the circuit.  [default: a tenth of the model's edges]"
        ),
    ] = None,
    threshold: Annotated[
        float | None, typer.Option("--threshold", metavar="X", help="Instead of a size: every edge of |score| >= X.")
    ] = None,
    selection: Annotated[
        str | None,
        typer.Option(
            "--selection", metavar=one_of(SELECTIONS), help="How edges are chosen by score.  [default: greedy]"
        ),
    ] = None,
    spans: Annotated[
        str | None,
        typer.Option(
            "--spans", metavar="PLACES", help="Tell positions apart: spans begin at these, such as S1,S2,END."
        ),
    ] = None,
    neurons: Annotated[
        str | None,
        typer.Option(
            "--neurons", metavar="NEURONS", help="Nodes of their own beside their MLPs, such as m2.n17,m3.n5."
        ),
    ] = None,
    dry_run: DryRun = False,
    metric: MetricName = None,
    top: Top = 10,
    *,
    how: DiscoveryOptions,
    common: OnPairs,
) -> None:
    """Find the circuit: which edges carry it.

    Scores every edge between heads, MLPs and logits and keeps the best; with --out as FOLDER/circuit.json.
    """
    row = METHODS[method]
    size: dict[str, Any] = {"n_edges": n_edges, "threshold": threshold, "selection": selection, **how.selecting}
    asked, told = given(row, how.said), recorded(row, how.said)
    where = {"spans": spans, "neurons": neurons}
    options = {"method": method, **size, "metric": metric, **told, **where, "dry_run": dry_run}
    run = common.run("discover", model, options)
    _refuse(row, size, asked)

    from llmtrace import circuits

    traced = run.load()
    chosen = run.prompts(traced)
    graph = circuits.Graph.of(
        traced, spans=tuple(spans.split(",")) if spans else (), neurons=neurons.split(",") if neurons else ()
    )
    if spans or neurons:  # which not every method knows of
        asked["graph"] = graph
    if dry_run:
        _finish_plan(run, traced, chosen, method, size, asked)
        return
    with kept_for_resume(asked.get("resume")):
        circuit = circuits.discover(traced, chosen, method=method, metric=metric, **size, **asked)
        size["n_edges"] = circuit.options.get("n_edges")
        again = flags({"method": method, **size, **how.said, **where, "resume": None})
        _finish_circuit(run, traced, chosen, circuit, top, again)


def _finish_circuit(run: Run, model: TraceModel, prompts: PromptSet, circuit: Circuit, top: int, again: str) -> None:
    rows = _rows(circuit)

    def show(screen: Screen) -> list[Next]:
        _tell(screen, circuit, prompts, rows[:top])
        return _next(run, screen, prompts, again)

    def sections() -> list[Section]:
        from llmtrace.plots import Section, plot

        options = circuit.options
        about = f"{circuit!r}; {options['method']}, {options['selection']} selection; {described(prompts)}."
        return [Section("Circuit", about, figure=plot(circuit))]

    run.finish(
        rows,
        show=show,
        model=model,
        prompts=prompts,
        metric=circuit.options["metric"],
        summary={
            "edges": circuit.n_edges, "edges_of_model": circuit.graph.n_edges,
            "nodes": [str(node) for node in circuit.nodes],
        },
        save=lambda folder: circuit.save(folder / CIRCUIT),
        sections=sections,
    )  # fmt: skip


def _finish_plan(
    run: Run,
    model: TraceModel,
    prompts: PromptSet,
    method: str,
    size: dict[str, Any],
    given: dict[str, Any],
) -> None:
    from llmtrace.circuits import discover
    from llmtrace.plan import plan

    planned = plan(discover, model, prompts, method=method, **size, **given)

    def show(screen: Screen) -> list[Next]:
        screen.say(f"{planned}.\nNothing was run; leave --dry-run out to run it.")
        return []

    run.finish([], show=show, model=model, prompts=prompts, summary={"dry_run": True, **asdict(planned)})


def _refuse(row: Discovery, size: dict[str, Any], asked: dict[str, Any]) -> None:
    """What cannot mean anything is told before a model is loaded."""
    from llmtrace.circuits.discover import method_of
    from llmtrace.circuits.selection.select import selection_of

    if size["n_edges"] is None and size["threshold"] is None:  # a tenth of the edges, which no model tells yet
        size = {**size, "threshold": asked["tau"]} if "tau" in asked else {**size, "n_edges": 1}
    takes = inspect.signature(row.function).parameters
    sized = {"n_edges": size["n_edges"]} if "n_edges" in takes and size["n_edges"] is not None else {}
    method_of(row.name, {**asked, **sized})
    selection_of(**size)


def _rows(circuit: Circuit) -> list[EdgeRow]:
    """The edges, largest |score| first."""
    from llmtrace.cli.output.documents import EdgeRow

    frame = circuit.df().sort_values("score", key=abs, ascending=False, kind="stable")
    names, scores = frame["edge"].tolist(), frame["score"].tolist()
    found = {str(edge): edge for edge in circuit.edges}
    return [
        EdgeRow(edge=name, writer=str(found[name].writer), port=str(found[name].port), score=score)
        for name, score in zip(names, scores, strict=True)
    ]


def _tell(screen: Screen, circuit: Circuit, prompts: PromptSet, rows: list[EdgeRow]) -> None:
    from llmtrace.circuits.circuit import DEFAULT_SIZE

    total, options = circuit.graph.n_edges, circuit.options
    screen.say(
        f"{options['method']} with {options['selection']} selection on {circuit.provenance['model']}, "
        f"{described(prompts)}:\na circuit of {circuit.n_edges:,} of {total:,} edges ({circuit.n_edges / total:.1%}) "
        f"between {len(circuit.nodes)} writing nodes and what reads them"
        f"{'; a tenth of them, for neither --n-edges nor --threshold was given' if DEFAULT_SIZE in options else ''}\n"
    )
    screen.table(["edge", "score"], [[row.edge, row.score] for row in rows])
    if circuit.n_edges > len(rows):
        screen.say(f"... the largest {len(rows)} of {circuit.n_edges}; --top shows more.")
    screen.say(f"\nScore: {_meaning(circuit)}")


def _meaning(circuit: Circuit) -> str:
    options, row = circuit.options, METHODS[circuit.options["method"]]
    if not row.estimates:
        return f"{row.summary}."
    change = f"(estimated) change of {options['metric']} in {unit_of(options['metric']) or 'its own unit'} when"
    if options.get("direction") == "denoising":
        return (
            f"{change} in the corrupted run the edge carries its clean value. Positive: the edge supports the answer."
        )
    carried = ABLATIONS[options.get("ablation", "resample")].summary
    return f"{change} the edge carries {carried}. Negative: the edge supports the answer."


def _next(run: Run, screen: Screen, prompts: PromptSet, flags: str) -> list[Next]:
    if run.out is None:
        screen.say("Nothing was saved: add --out FOLDER to keep the circuit.")
        again = run.again("discover", f"{flags} --out my-circuit")
        return [(again, "the same, kept on disk, ready for llmtrace evaluate")]
    made = prompts.seed is not None
    seed = run.asked.seed + 1 if made else None
    command = run.again("evaluate", f" {shlex.quote(str(run.out))}", seed=seed)
    return [(command, "is it a good circuit?" + (" On prompts that did not choose it" if made else ""))]
