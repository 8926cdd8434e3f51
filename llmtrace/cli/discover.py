"""`llmtrace discover`: which edges carry the behaviour."""

from __future__ import annotations

import inspect
import shlex
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmtrace.cli.effects import kept_for_resume
from llmtrace.cli.groups import OnPairs
from llmtrace.cli.options import (
    ABLATIONS,
    DIRECTIONS,
    DISCOVERY,
    RULES,
    SELECTIONS,
    UNITS,
    DryRun,
    MetricName,
    Resume,
    Source,
    Top,
    choice,
    one_of,
)
from llmtrace.cli.prompts import described
from llmtrace.cli.run import Run

if TYPE_CHECKING:
    from llmtrace.circuits import Circuit, Graph
    from llmtrace.cli.documents import EdgeRow
    from llmtrace.cli.screen import Next, Screen
    from llmtrace.models import TraceModel
    from llmtrace.plots import Section
    from llmtrace.prompts import PromptSet

CIRCUIT = "circuit.json"
NO_CHANGES = ("ifr", "hisp", "edge-pruning")  # methods whose scores are no changes of the metric
CARRIED = {"resample": "what it carries on the corrupted prompt", "zero": "nothing", "mean": "its mean over prompts"}


def discover(
    model: Source,
    method: Annotated[
        str, typer.Option("--method", metavar=one_of(DISCOVERY), help="How edges are scored.")
    ] = "eap-ig",
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
    pnr: Annotated[
        float | None,
        typer.Option("--pnr", metavar="SHARE", help="For the selection pnr: so many for supporting.  [default: 0.5]"),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option("--steps", metavar="K", help="For eap-ig*: points of the path  [5]; edge-pruning: updates  [200]"),
    ] = None,
    tau: Annotated[
        float | None,
        typer.Option("--tau", metavar="X", help="For acdc: edges that move the metric by X or more are the circuit."),
    ] = None,
    direction: Annotated[
        str | None,
        typer.Option("--direction", metavar=one_of(DIRECTIONS), help="For eap: which run is patched.  [noising]"),
    ] = None,
    rule: Annotated[
        str | None,
        typer.Option(
            "--rule", metavar=one_of(RULES), help="For eap*: how gradients pass what is not linear.  [standard]"
        ),
    ] = None,
    ablation: Annotated[
        str | None,
        typer.Option(
            "--ablation", metavar=one_of(ABLATIONS), help="For acdc, edge-pruning, exact: what is put in.  [resample]"
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
    resume: Resume = None,
    dry_run: DryRun = False,
    memory: Annotated[
        str | None,
        typer.Option(
            "--memory", metavar="SIZE", help="What may be used beside the weights, such as 2GB; not for exact."
        ),
    ] = None,
    metric: MetricName = None,
    top: Top = 10,
    *,
    common: OnPairs,
) -> None:
    """Find the circuit: which edges carry it.

    Scores every edge between heads, MLPs and logits and keeps the best; with --out as FOLDER/circuit.json.
    """
    size: dict[str, Any] = {"n_edges": n_edges, "threshold": threshold, "selection": selection, "pnr": pnr}
    how: dict[str, Any] = {
        "steps": steps,
        "tau": tau,
        "direction": direction,
        "rule": rule,
        "ablation": ablation,
        "memory": memory,
    }
    how["resume"] = resume
    given: dict[str, Any] = {name: value for name, value in how.items() if value is not None}
    options = {
        "method": method,
        **size,
        "metric": metric,
        **given,
        "spans": spans,
        "neurons": neurons,
        "dry_run": dry_run,
    }
    options["resume"] = None if resume is None else str(resume)
    run = common.run("discover", model, options)
    _refuse(method, size, how)

    from llmtrace import circuits

    traced = run.load()
    chosen = run.prompts(traced)
    graph = circuits.Graph.of(
        traced, spans=tuple(spans.split(",")) if spans else (), neurons=neurons.split(",") if neurons else ()
    )
    if n_edges is None and threshold is None and tau is None:
        size["n_edges"] = max(1, round(graph.n_edges / 10))
    if dry_run:
        _finish_plan(run, traced, chosen, graph, method, size, given)
        return
    with kept_for_resume(resume):
        circuit = circuits.discover(traced, chosen, method=method, metric=metric, graph=graph, **size, **given)
    rows = _rows(circuit)

    def show(screen: Screen) -> list[Next]:
        _tell(screen, circuit, chosen, rows[:top])
        asked = {"method": method, **size, **given, "spans": spans, "neurons": neurons, "resume": None}
        flags = "".join(f" --{name.replace('_', '-')} {value}" for name, value in asked.items() if value is not None)
        return _next(run, screen, chosen, flags)

    def sections() -> list[Section]:
        from llmtrace.plots import Section, plot

        about = f"{circuit!r}; {method}, {circuit.options['selection']} selection; {described(chosen)}."
        return [Section("Circuit", about, figure=plot(circuit))]

    run.finish(
        rows,
        show=show,
        model=traced,
        prompts=chosen,
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
    graph: Graph,
    method: str,
    size: dict[str, Any],
    given: dict[str, Any],
) -> None:
    from llmtrace.circuits import METHODS, plan_discover

    takes = inspect.signature(METHODS[method].function).parameters
    known = {name: value for name, value in {**size, **given}.items() if name in takes and value is not None}
    plan = plan_discover(model, prompts, method=method, graph=graph, **known)

    def show(screen: Screen) -> list[Next]:
        screen.say(f"{plan}.\nNothing was run; leave --dry-run out to run it.")
        return []

    run.finish([], show=show, model=model, prompts=prompts, summary={"dry_run": True, **asdict(plan)})


def _refuse(method: str, size: dict[str, Any], how: dict[str, Any]) -> None:
    """What cannot mean anything is told before a model is loaded."""
    for name, names in (("direction", DIRECTIONS), ("rule", RULES), ("ablation", ABLATIONS)):
        if how[name] is not None:
            choice(f"--{name}", how[name], names)

    from llmtrace.circuits import METHODS
    from llmtrace.circuits.discover import method_of
    from llmtrace.circuits.selection import selection_of
    from llmtrace.cli.scoring import refuse_strangers

    given = {name: value for name, value in how.items() if value is not None}
    takes = list(inspect.signature(METHODS[method].function).parameters)
    refuse_strangers(method, takes, list(given), list(how))
    if size["n_edges"] is None and size["threshold"] is None:  # a tenth of the edges, which no model tells yet
        size = {**size, "threshold": how["tau"]} if how["tau"] is not None else {**size, "n_edges": 1}
    sized = {"n_edges": size["n_edges"]} if "n_edges" in takes and size["n_edges"] is not None else {}
    method_of(method, {**given, **sized})
    selection_of(**{"selection": None, **size})


def _rows(circuit: Circuit) -> list[EdgeRow]:
    """The edges, largest |score| first."""
    from llmtrace.cli.documents import EdgeRow

    frame = circuit.df().sort_values("score", key=abs, ascending=False, kind="stable")
    names, scores = frame["edge"].tolist(), frame["score"].tolist()
    found = {str(edge): edge for edge in circuit.edges}
    return [
        EdgeRow(edge=name, writer=str(found[name].writer), port=str(found[name].port), score=score)
        for name, score in zip(names, scores, strict=True)
    ]


def _tell(screen: Screen, circuit: Circuit, prompts: PromptSet, rows: list[EdgeRow]) -> None:
    total, options = circuit.graph.n_edges, circuit.options
    screen.say(
        f"{options['method']} with {options['selection']} selection on {circuit.provenance['model']}, "
        f"{described(prompts)}:\na circuit of {circuit.n_edges:,} of {total:,} edges ({circuit.n_edges / total:.1%}) "
        f"between {len(circuit.nodes)} writing nodes and what reads them\n"
    )
    screen.table(["edge", "score"], [[row.edge, row.score] for row in rows])
    if circuit.n_edges > len(rows):
        screen.say(f"... the largest {len(rows)} of {circuit.n_edges}; --top shows more.")
    screen.say(f"\nScore: {_meaning(circuit)}")


def _meaning(circuit: Circuit) -> str:
    from llmtrace.circuits import METHODS

    options, row = circuit.options, METHODS[circuit.options["method"]]
    if row.name in NO_CHANGES:
        return f"{row.summary}."
    change = f"(estimated) change of {options['metric']} in {UNITS.get(options['metric'], 'its own unit')} when"
    if options.get("direction") == "denoising":
        return (
            f"{change} in the corrupted run the edge carries its clean value. Positive: the edge supports the answer."
        )
    carried = CARRIED[options.get("ablation", "resample")]
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
