"""A saved folder as a source of answers: what traces, circuits and results hold, and the reason for what they do not.

Reads NumPy and JSON: no torch, no model. Whatever a file says is text; nothing of it is run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from llmtrace.console import packing
from llmtrace.console.behaviour import behaviour, top_pairs
from llmtrace.console.rows import VIEWS, key_of
from llmtrace.console.schemas import Choices, HeadCard, Limits, Meta, ModelCard, NewRun, Row, Run, Schema
from llmtrace.console.stored.circuit import read_circuit
from llmtrace.console.stored.documents import read_document
from llmtrace.console.stored.found import Found, StoredRun, together
from llmtrace.console.stored.results import read_result
from llmtrace.console.stored.trace import read_trace
from llmtrace.errors import FileFormatError, InputError, NotFoundError
from llmtrace.files import what_is_at

FILES = 64  # looked at
ROWS, LAYERS = 2048, 2**25  # exact rows, and bytes of layers, that a page is given beforehand
NO_MODEL = "What was saved is read only and has no model; start llmtrace console MODEL."


def holds(path: Path) -> bool:
    """Whether something of ours lies there: so that it is no model's folder."""
    return any(_reader(file) is not None for file in _files(path))


def _files(path: Path) -> list[Path]:
    """The file, or the files of a folder and of those in it."""
    if path.is_file():
        return [path]
    if not path.is_dir():
        return []
    inside = sorted(path.iterdir())
    deeper = [file for folder in inside if folder.is_dir() for file in sorted(folder.iterdir())]
    found = [file for file in [*inside, *deeper] if file.is_file() and file.suffix in (".json", ".safetensors")]
    return found[:FILES]


def _reader(path: Path) -> Callable[[Path], Found] | None:
    """By what the file says it is."""
    if path.name == "tensors.safetensors":
        return None
    kind = what_is_at(path).partition(";")[0]
    if kind in ("a trace", "a circuit", "a result"):
        return {"a trace": lambda file: read_trace(file.parent), "a circuit": read_circuit, "a result": read_result}[
            kind
        ]
    return read_document if path.name == "result.json" else None


class Folder:
    """`title`: shown; the folder's name by default. Raises InputError for one with nothing that a view shows,
    FileFormatError for damaged files."""

    mode = "bundle"
    limits = Limits(tokens=0, prompt_characters=0, body_bytes=2**16, edges_sent=2000, edits=0)

    def __init__(self, path: Path, *, title: str | None = None) -> None:
        self._title = title or path.name
        self._runs: dict[str, StoredRun] = {}
        self._why: dict[str, str] = {}
        problems: list[str] = []
        for file in _files(path):
            if (reader := _reader(file)) is None:
                continue
            try:
                found = reader(file)
            except FileFormatError as error:
                problems.append(str(error))
                continue
            self._why |= found.why
            self._runs |= {run.about.id: run for run in found.runs}
        self._runs = together(self._runs)
        if not self._runs and problems:
            raise FileFormatError(problems[0])
        if not self._runs:
            why = self._why.get("") or next(iter(self._why.values()), "")
            raise InputError(
                why
                or f"Expected a folder with a trace, a circuit or a result, got {path.name!r}; save one there first."
            )

    def meta(self) -> Meta:
        runs = [*self._runs.values()]
        held = {view for run in runs for view, _ in run.answers}
        if any(run.patterns for run in runs):
            held |= {"attention", "attention/layer", "attention/row", "head"}
        why = self._why.get("") or "It was not saved; start llmtrace console MODEL, which computes it."

        def named(view: str, parameter: str) -> dict[str, str]:
            said = [dict(query) for run in runs for name, query in run.answers if name == view]
            return {query[parameter]: "saved" for query in said}

        return Meta(
            mode="bundle", title=self._title, model=self._model(), limits=self.limits,
            choices=Choices(
                token_methods=named("attribution", "method"), edge_methods=named("circuit", "method"), ablations={},
                sites=named("patch", "site"),
            ),
            missing={view: self._why.get(view, why) for view in VIEWS if view not in held} | {"runs": NO_MODEL},
            versions=dict(runs[0].about.provenance.get("versions") or {}),
        )  # fmt: skip

    def _model(self) -> ModelCard | None:
        """As far as the files say."""
        for run in self._runs.values():
            origin = run.about.provenance
            if run.patterns and origin.get("model"):
                heads, layers = len(next(iter(run.patterns.values()))()), 1 + max(run.patterns)
                return _card(origin, layers, heads)
        for run in self._runs.values():
            for answer in run.answers.values():
                maps = getattr(answer, "maps", None) or [getattr(answer, "map", None)]
                if maps[0] is not None and maps[0].heads:
                    return _card(run.about.provenance, len(maps[0].heads), len(maps[0].heads[0]))
        return None

    def runs(self) -> list[Run]:
        return [run.about for run in self._runs.values()]

    def add(self, asked: NewRun) -> NoReturn:
        raise NotFoundError(NO_MODEL)

    def full(self, view: str, query: Mapping[str, str]) -> dict[str, str]:
        rest = {name: value for name, value in query.items() if name != "run"}
        return {"run": query.get("run", ""), **{n: str(value) for n, value in VIEWS[view].read(rest).items()}}

    def known(self, view: str, query: Mapping[str, str]) -> None:
        """Nothing is kept: all of it is at hand."""

    def view(self, view: str, query: Mapping[str, str], emit: object = None) -> Schema | bytes:
        """Raises NotFoundError with the reason for what the folder does not hold."""
        full = self.full(view, query)
        run = self._runs.get(full.pop("run"))
        if run is None:
            raise NotFoundError(f"Expected a run of this folder, got {query.get('run', '')[:40]!r}; see /api/v1/runs.")
        if view in COMPUTED and run.patterns:
            return COMPUTED[view](run, **VIEWS[view].read(full))
        held = run.of(view)
        found = held.get(tuple(sorted(full.items()))) or (next(iter(held.values())) if len(held) == 1 else None)
        if found is None:
            raise NotFoundError(self.meta().missing.get(view, "It was not saved with this run."))
        return found

    def answers(self) -> dict[str, Schema | bytes]:
        """All that a page without a source can be given: large ones only as far as they fit."""
        found: dict[str, Schema | bytes] = {}
        rows = taken = 0
        for id, run in self._runs.items():
            for (view, query), answer in run.answers.items():
                found[key_of(view, {"run": id, **dict(query)})] = answer
                usual = {**dict(VIEWS[view].defaults), "run": id}
                found.setdefault(key_of(view, usual), answer)
            if not run.patterns:
                continue
            found[key_of("attention", {"run": id})] = _overview(run)
            n, heads = len(run.about.clean.tokens), self._heads(run)
            taken += len(run.patterns) * heads * n * (n + 1) // 2
            rows += len(run.patterns) * heads * (n + 1)
            for layer in run.patterns:
                if taken <= LAYERS:
                    found[key_of("attention/layer", {"run": id, "layer": layer})] = _layer(run, layer)
                for head in range(heads) if rows <= ROWS else ():
                    at = {"run": id, "layer": layer, "head": head}
                    found[key_of("head", at)] = _head(run, layer, head)
                    for i in range(n):
                        found[key_of("attention/row", {**at, "query": i})] = _row(run, layer, head, i)
        return found

    def _heads(self, run: StoredRun) -> int:
        return len(next(iter(run.patterns.values()))())


def _card(origin: Mapping[str, Any], layers: int, heads: int) -> ModelCard:
    return ModelCard(
        name=str(origin.get("model", "")), n_layers=layers, n_heads=heads, n_key_value_heads=heads, d_model=0, n_ctx=0,
        vocabulary=0, has_mlp=True, device=str(origin.get("device", "")), dtype=str(origin.get("dtype", "")),
        weights=str(origin.get("weights", "")),
    )  # fmt: skip


def _pattern(run: StoredRun, layer: int, head: int | None = None) -> Any:
    if layer not in run.patterns:
        raise NotFoundError(f"Expected a layer that was captured ({', '.join(map(str, run.patterns))}), got {layer}.")
    found = run.patterns[layer]()
    if head is not None and head >= len(found):
        raise InputError(f"Expected a head from 0 to {len(found) - 1}, got {head}.")
    return found if head is None else found[head]


def _overview(run: StoredRun) -> bytes:
    """Layers that were not captured are black."""
    import numpy as np

    first = packing.pooled(_pattern(run, next(iter(run.patterns))))
    layers = [
        packing.pooled(_pattern(run, layer)) if layer in run.patterns else np.zeros_like(first)
        for layer in range(1 + max(run.patterns))
    ]
    return packing.safetensors({"pooled": np.stack(layers)})


def _layer(run: StoredRun, layer: int) -> bytes:
    found = packing.packed(_pattern(run, layer))
    return packing.safetensors({"packed": found})


def _row(run: StoredRun, layer: int, head: int, query: int) -> Row:
    found = _pattern(run, layer, head)
    if query >= len(found):
        raise InputError(f"Expected a query from 0 to {len(found) - 1}, got {query}.")
    return Row(run=run.about.id, layer=layer, head=head, query=query, attention=found[query, : query + 1].tolist())


def _head(run: StoredRun, layer: int, head: int) -> HeadCard:
    found, tokens = _pattern(run, layer, head), [token.id for token in run.about.clean.tokens]
    n = len(tokens)
    return HeadCard(
        run=run.about.id, layer=layer, head=head, key_value_head=head, direct=None, rank=None,
        behaviour=behaviour(found, tokens), top_pairs=top_pairs(found), writes=[],
        refused="A trace holds the pattern; what the head writes needs the model: start llmtrace console MODEL.",
        python=run.about.python.replace("result = ", "tokens = ")
        + f'result = trace["pattern", {layer}][{run.row}, {head}, :{n}, :{n}].tolist()\n',
    )  # fmt: skip


COMPUTED: dict[str, Callable[..., Schema | bytes]] = {
    "attention": _overview, "attention/layer": _layer, "attention/row": _row, "head": _head,
}  # fmt: skip
