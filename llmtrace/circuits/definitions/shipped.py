"""The definitions that come with the package: one file beside this one and one row each. `DEFINITIONS["ioi"]()`."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from llmtrace.circuits.definitions.definition import Definition
from llmtrace.circuits.definitions.files import load_definition
from llmtrace.methods import Method, Table


def _row(name: str, summary: str, source: str) -> Method:
    return Method(name, partial(load_definition, Path(__file__).with_name(f"{name}.yaml")), summary, source)


DEFINITIONS = Table(
    "definition",
    _row("ioi", "GPT-2 small: who gets the drink, 26 heads in seven roles", "Wang et al. 2022"),
    _row("greater_than", "GPT-2 small: a later year, heads that read it and MLPs that compare", "Hanna et al. 2023"),
    _row("docstring", "attn-only-4l: the next argument in a docstring", "Heimersheim and Janiak 2023"),
    _row("induction", "the hand-built two-layer model: previous token, then induction", "Olsson et al. 2022"),
)  # fmt: skip


def find_definition(name_or_path: str | Path) -> Definition:
    """One that comes with the package, by name, or a file. Raises NotFoundError with the names that exist."""
    if isinstance(name_or_path, Path) or Path(name_or_path).suffix.lower() in (".json", ".yaml", ".yml"):
        return load_definition(name_or_path)
    definition: Definition = DEFINITIONS[name_or_path]()
    return definition
