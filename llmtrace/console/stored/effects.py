"""Effects of interventions as a sweep (layers by positions, or heads) or as a map of heads and MLPs."""

from __future__ import annotations

from collections.abc import Mapping

from llmtrace.console.schemas import HeadMap, PathMap, Sweep
from llmtrace.console.stored.found import StoredRun
from llmtrace.console.stored.places import on_grid, on_map

WHAT = "How the metric changes with the intervention at one place, mean over the prompts: negative carried it."


def put_effects(
    run: StoredRun, method: str, values: Mapping[str, float], *, before: float, other: float | None, passes: float,
    labels: Mapping[int, str] | None = None,
) -> str:  # fmt: skip
    """Where they fit a view they are put there; else the reason comes back."""
    python = run.about.python
    if (grid := on_grid(values)) is not None:
        kind, layers, positions, rows = grid
        sweep = Sweep(
            run=run.about.id, site=kind, rows=[str(layer) for layer in layers],
            columns=[(labels or {}).get(at, str(at)) for at in positions], values=rows, before=before, against=other,
            passes=passes, python=python,
        )  # fmt: skip
        run.put("patch", sweep, site=kind)
        return ""
    found = on_map(values)
    if found is None:
        return "The effects are of some places only, which fill no map of layers and heads or positions; plot them."
    heads, mlps = found
    if method == "patch":
        columns = [f"h{head}" for head in range(len(heads[0]))]
        sweep = Sweep(
            run=run.about.id, site="z", rows=[str(layer) for layer in range(len(heads))], columns=columns,
            values=heads, before=before, against=other, passes=passes, python=python,
        )  # fmt: skip
        run.put("patch", sweep, site="z")
        return ""
    title = method[:1].upper() + method[1:].replace("_", " ")
    drawn = HeadMap(title=title, unit=run.about.metric or "metric", what=WHAT, heads=heads, mlps=mlps, python=python)
    run.put("paths", PathMap(run=run.about.id, map=drawn))
    return ""
