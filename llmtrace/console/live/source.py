"""A loaded model as a source of answers: runs by the hash of what they are, views of them, kept while there is room.

One thread asks it at a time (`service/jobs.py`): a view stands in its run's edits, which are hooks on the model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from torch import Tensor

from llmtrace.console.kept import Kept
from llmtrace.console.live.circuit import SENT, edge_methods
from llmtrace.console.live.run import LiveRun, read_run
from llmtrace.console.live.sweep import SITES
from llmtrace.console.rows import VIEWS, key_of
from llmtrace.console.schemas import Choices, Limits, Meta, ModelCard, NewRun, Run, Schema
from llmtrace.errors import NotFoundError
from llmtrace.influence import METHODS
from llmtrace.interventions.rows import ABLATIONS, without_a_vector
from llmtrace.models import TraceModel, describe, provenance

RUNS, BYTES = 64, 128 * 2**20  # kept
MEAN = "its mean over all positions of the other prompt (of this one where there is no other)"
SHOWN = ("llmtrace-interp", "transformer-lens", "torch")
Emit = Callable[[int, list[float]], None]


class Live:
    """`load`: the Python that loads this model, for programs."""

    mode = "live"

    def __init__(self, model: TraceModel, name: str, *, load: str | None = None, limits: Limits | None = None) -> None:
        self._model, self._name, self._load = model, name, load or f"lt.load({name!r})"
        arch = describe(model)
        self.limits = limits or Limits(
            tokens=min(arch.n_ctx, 1024), prompt_characters=20_000, body_bytes=2**18, edges_sent=SENT, edits=64
        )
        self._meta = self._about()  # once: nobody waits for the model to be told what it is
        self._runs: Kept[LiveRun] = Kept(RUNS)
        self._patterns: Kept[Tensor] = Kept(BYTES)
        self._answers: Kept[Schema | bytes] = Kept(BYTES)

    def meta(self) -> Meta:
        return self._meta

    def _about(self) -> Meta:
        arch, origin = describe(self._model), provenance(self._model)
        return Meta(
            mode="live",
            title=self._name,
            model=ModelCard(
                name=origin.model, n_layers=arch.n_layers, n_heads=arch.n_heads, n_key_value_heads=arch.n_kv_heads,
                d_model=arch.d_model, n_ctx=arch.n_ctx, vocabulary=arch.d_vocab, has_mlp=not arch.attn_only,
                device=origin.device, dtype=origin.dtype, weights=origin.weights,
            ),
            limits=self.limits,
            choices=Choices(
                token_methods={row.name: row.summary for row in METHODS.values() if row.gives == "tokens"},
                edge_methods=edge_methods(),
                ablations={
                    name: MEAN if name == "mean" else ABLATIONS[name].summary for name in without_a_vector()
                },
                sites=SITES,
            ),
            missing={},
            versions=versions(),
        )  # fmt: skip

    def runs(self) -> list[Run]:
        return [run.about for _, run in self._runs.items()]

    def add(self, asked: NewRun) -> Run:
        """The same content again is the same run, under its first name; a run with edits brings the one without."""
        run = self._read(asked)
        if run.about.parent is not None and self._runs.get(run.about.parent) is None:
            self._put(self._read(asked.model_copy(update={"edits": [], "name": None})))
        known = self._runs.get(run.id)
        return known.about if known is not None else self._put(run)

    def _read(self, asked: NewRun) -> LiveRun:
        return read_run(self._model, asked, self.limits, self._load, self._patterns)

    def _put(self, run: LiveRun) -> Run:
        self._runs.put(run.id, run)
        return run.about

    def run(self, run: str) -> LiveRun:
        """Raises NotFoundError for one that was never made, or is kept no longer."""
        found = self._runs.get(run)
        if found is None:
            raise NotFoundError(f"Expected the id of a run, got {run[:40]!r}; post its prompts to /api/v1/runs again.")
        return found

    def known(self, view: str, query: Mapping[str, str]) -> Schema | bytes | None:
        """The answer, where it has been given before."""
        return self._answers.get(key_of(view, self.full(view, query)))

    def full(self, view: str, query: Mapping[str, str]) -> dict[str, str]:
        """The query with what may be left out of it, read once: what it cannot be is refused here."""
        row = VIEWS[view]
        rest = {name: value for name, value in query.items() if name != "run"}
        return {"run": query.get("run", ""), **{name: str(value) for name, value in row.read(rest).items()}}

    def view(self, view: str, query: Mapping[str, str], emit: Emit | None = None) -> Schema | bytes:
        """An answer, made under the run's edits. Raises what the view's function raises."""
        full = self.full(view, query)
        key, run = key_of(view, full), self.run(full["run"])
        known = self._answers.get(key)
        if known is not None:
            return known
        row = VIEWS[view]
        options: dict[str, Any] = row.read({name: value for name, value in full.items() if name != "run"})
        options |= {"emit": emit or (lambda index, values: None)} if row.heavy else {}
        with run.on(self._model) if row.edited else nullcontext():
            found: Schema | bytes = row(self._model, run, **options)
        size = len(found) if isinstance(found, bytes) else len(found.model_dump_json())
        self._answers.put(key, found, size)
        return found

    def answers(self) -> dict[str, Schema | bytes]:
        """All that was given so far, of runs that are still kept."""
        runs = {run.id for run in self.runs()}
        return {key: found for key, found in self._answers.items() if any(f"run={run}" in key for run in runs)}


def versions() -> dict[str, str]:
    found = {}
    for name in SHOWN:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "a source tree"
    return found
