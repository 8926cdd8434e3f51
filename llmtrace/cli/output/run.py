"""One run of a command: what was asked, the model, and how the result is handed over."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmtrace.cli.options.prompts import Asked, described
from llmtrace.cli.options.shared import unit_of
from llmtrace.cli.output.screen import Next, Screen, working
from llmtrace.errors import InputError
from llmtrace.files import atomic_folder, read_json, require_folder, write_text

if TYPE_CHECKING:
    from llmtrace.models import TraceModel
    from llmtrace.plots import Section
    from llmtrace.prompts import PromptSet

RESULT = "result.json"
REPORT = "report.html"
PROMPTS_SHOWN = 8


@dataclass(frozen=True)
class Run:
    """`options` are those of the command itself, as they were asked for; they are recorded in the result."""

    command: str
    source: str
    json: bool
    out: Path | None
    overwrite: bool
    device: str
    dtype: str
    asked: Asked = field(default_factory=Asked)
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuses a folder that is taken before anything is computed."""
        if self.out is not None:
            require_free(self.out, overwrite=self.overwrite)

    def load(self, *, spin: bool = True) -> TraceModel:
        """`spin`: show that something is going on (not where a bar says so already)."""
        with working(f"loading {self.source}", spin=spin):
            from llmtrace.models import load

            return load(self.source, device=self.device, dtype=self.dtype)

    def prompts(self, model: TraceModel) -> PromptSet:
        return self.asked.make(model, self.source)

    def again(self, command: str, options: str = "", *, seed: int | None = None) -> str:
        """Another command line on the same model, prompts and metric."""
        metric = None if command in ("trace", "influence", "generation") else self.options.get("metric")
        kept = {"--metric": (metric, None), "--device": (self.device, "auto"), "--dtype": (self.dtype, "float32")}
        same = "".join(f" {option} {value}" for option, (value, default) in kept.items() if value != default)
        return f"llmtrace {command} {shlex.quote(self.source)}{options}{self.asked.flags(seed=seed)}{same}"

    def finish(
        self,
        rows: Sequence[Any],
        *,
        show: Callable[[Screen], list[Next]],
        model: TraceModel | None = None,
        prompts: PromptSet | None = None,
        metric: str | None = None,
        summary: dict[str, Any] | None = None,
        save: Callable[[Path], object] | None = None,
        sections: Callable[[], list[Section]] | None = None,
    ) -> None:
        """Write the folder, then print: nothing is said to be written that is not."""
        from llmtrace.cli.output.documents import SCHEMA_VERSION, Prompts, document_of

        provenance = None
        if model is not None:
            from llmtrace.models import provenance as provenance_of

            provenance = provenance_of(model).as_dict()
        document = document_of(self.command)(
            kind=f"llmtrace.cli.{self.command}",
            schema_version=SCHEMA_VERSION,
            command=self.command,
            options={"model": self.source, "device": self.device, "dtype": self.dtype, **self.options},
            seed=self.asked.seed,
            metric=metric,
            unit=None if metric is None else unit_of(metric) or "",
            prompts=None if prompts is None else Prompts.of(prompts),
            provenance=provenance,
            summary=summary or {},
            rows=list(rows),
            out=None if self.out is None else str(self.out),
        )
        if self.out is not None:
            with atomic_folder(self.out, overwrite=self.overwrite) as draft:
                if save is not None:
                    save(draft)
                if sections is not None:
                    self._report(draft / REPORT, sections(), prompts, provenance or {})
                document.files = sorted([*(file.name for file in draft.iterdir()), RESULT])
                write_text(draft / RESULT, document.model_dump_json(indent=1) + "\n")
        if self.json:
            sys.stdout.write(document.model_dump_json() + "\n")
            return
        screen = Screen()
        commands = show(screen)
        if self.out is not None:
            screen.heading(f"Written to {self.out}")
            screen.say(", ".join(document.files) + f"; open {self.out / REPORT} in a browser for the figures")
        screen.next(commands)

    def _report(
        self, path: Path, sections: list[Section], prompts: PromptSet | None, provenance: dict[str, Any]
    ) -> None:
        from llmtrace.plots import Section, save_report

        if prompts is not None:
            rest = f"; the first {PROMPTS_SHOWN}" if len(prompts) > PROMPTS_SHOWN else ""
            about = f"{described(prompts)}{rest}."
            sections = [*sections, Section("Prompts", about, table=prompts.df().head(PROMPTS_SHOWN))]
        title = f"llmtrace {self.command} {Path(self.source).name}"
        save_report(path, title, sections, provenance={**provenance, "seed": self.asked.seed, "options": self.options})


def require_free(out: Path, *, overwrite: bool) -> None:
    """`out`, named as a folder, is new, or (with --overwrite) its result.json says that llmtrace wrote it."""
    require_folder(out, "what --out makes")
    if not out.exists():
        return
    if not overwrite:
        raise InputError(
            f"Expected a new folder for --out, but {str(out)!r} exists; choose another or add --overwrite."
        )
    ours = (out / RESULT).is_file() and str(read_json(out / RESULT).get("kind")).startswith("llmtrace.cli.")
    if not ours:
        raise InputError(
            f"--overwrite replaces only folders that llmtrace wrote, and {str(out)!r} is not one; choose another --out."
        )
