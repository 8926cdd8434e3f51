"""`llmtrace discover`: which edges carry the behaviour."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Annotated

import typer

from llmtrace.cli.options import (
    DISCOVERY,
    SELECTIONS,
    UNITS,
    Corruption,
    Device,
    Dtype,
    File,
    Json,
    MetricName,
    N,
    Out,
    Overwrite,
    Seed,
    Source,
    Task,
    Top,
    one_of,
)
from llmtrace.cli.prompts import Asked, described
from llmtrace.cli.run import Run

if TYPE_CHECKING:
    from llmtrace.cli.screen import Next, Screen
    from llmtrace.plots import Section

CIRCUIT = "circuit.json"


def discover(
    model: Source,
    method: Annotated[str, typer.Option("--method", metavar=one_of(DISCOVERY), help="How edges are scored.")] = "eap",
    n_edges: Annotated[
        int | None,
        typer.Option("--n-edges", metavar="N", help="Size of the circuit.  [default: a tenth of the model's edges]"),
    ] = None,
    selection: Annotated[
        str, typer.Option("--selection", metavar=one_of(SELECTIONS), help="How edges are chosen by score.")
    ] = "greedy",
    metric: MetricName = None,
    top: Top = 10,
    prompts: File = None,
    task: Task = None,
    n: N = None,
    corruption: Corruption = None,
    json: Json = False,
    out: Out = None,
    overwrite: Overwrite = False,
    device: Device = "auto",
    dtype: Dtype = "float32",
    seed: Seed = 0,
) -> None:
    """Find the circuit: which edges carry it.

    Scores every edge between heads, MLPs and logits and keeps the best; with --out as FOLDER/circuit.json.
    """
    asked = Asked(task, n, corruption, prompts, seed=seed)
    options = {"method": method, "n_edges": n_edges, "selection": selection, "metric": metric}
    run = Run("discover", model, json, out, overwrite, device, dtype, asked, options)

    from llmtrace import circuits

    _ = circuits.METHODS[method], circuits.SELECTIONS[selection]  # unknown names are told before a model is loaded
    traced = run.load()
    chosen = run.prompts(traced)
    size = n_edges if n_edges is not None else max(1, round(circuits.Graph.of(traced).n_edges / 10))
    circuit = circuits.discover(traced, chosen, method=method, n_edges=size, selection=selection, metric=metric)

    from llmtrace.cli.documents import EdgeRow

    frame = circuit.df().sort_values("score", key=abs, ascending=False, kind="stable")
    names, scores = frame["edge"].tolist(), frame["score"].tolist()
    found = {str(edge): edge for edge in circuit.edges}
    rows = [
        EdgeRow(edge=name, writer=str(found[name].writer), port=str(found[name].port), score=score)
        for name, score in zip(names, scores, strict=True)
    ]
    measured = circuit.options["metric"]
    total = circuit.graph.n_edges

    def show(screen: Screen) -> list[Next]:
        screen.say(
            f"{method} with {selection} selection on {circuit.provenance['model']}, {described(chosen)}:\na circuit "
            f"of {circuit.n_edges:,} of {total:,} edges ({circuit.n_edges / total:.1%}) between {len(circuit.nodes)} "
            "writing nodes and what reads them\n"
        )
        screen.table(["edge", "score"], [[row.edge, row.score] for row in rows[:top]])
        if len(rows) > top:
            screen.say(f"... the largest {top} of {len(rows)}; --top shows more.")
        screen.say(
            f"\nScore: (estimated) change of {measured} in {UNITS.get(measured, 'its own unit')} when the edge "
            "carries what it carries on the corrupted prompt. Negative: the edge supports the answer."
        )
        if out is None:
            screen.say("Nothing was saved: add --out FOLDER to keep the circuit.")
            again = run.again(
                "discover", f" --method {method} --selection {selection} --n-edges {size} --out my-circuit"
            )
            return [(again, "the same, kept on disk, ready for llmtrace evaluate")]
        made = chosen.seed is not None
        command = run.again("evaluate", f" {shlex.quote(str(out))}", seed=seed + 1 if made else None)
        return [(command, "is it a good circuit?" + (" On prompts that did not choose it" if made else ""))]

    def sections() -> list[Section]:
        from llmtrace.plots import Section, plot

        about = f"{circuit!r}; {method}, {selection} selection; {described(chosen)}."
        return [Section("Circuit", about, figure=plot(circuit))]

    run.finish(
        rows,
        show=show,
        model=traced,
        prompts=chosen,
        metric=measured,
        summary={"edges": circuit.n_edges, "edges_of_model": total, "nodes": [str(node) for node in circuit.nodes]},
        save=lambda folder: circuit.save(folder / CIRCUIT),
        sections=sections,
    )
