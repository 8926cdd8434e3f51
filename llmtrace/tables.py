"""Every table of methods in one place, and the page of the manual that they make. Loads no torch.

`llmtrace methods` prints them; `llmtrace methods --markdown` is tutorials/manual/methods.md, and a test holds that file
to it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from textwrap import dedent
from typing import Any

from llmtrace.circuits.rows import DEFINITIONS, FORMATS, METHODS as DISCOVERY, SELECTIONS
from llmtrace.influence.rows import BASELINES, DETECTORS, METHODS as INFLUENCE
from llmtrace.interventions.rows import ABLATIONS, METHODS as INTERVENTIONS
from llmtrace.methods import Method, Table, docstring_of, name_of
from llmtrace.metrics.rows import METRICS
from llmtrace.models.rows import EMBEDDED
from llmtrace.plots.rows import NOUNS
from llmtrace.prompts.rows import CORRUPTIONS, MAKERS

# What is asked for by name, in the order of a piece of work; where a user's own joins.
TABLES: dict[str, Table[Any]] = {
    "models": EMBEDDED, "prompts": MAKERS, "corruptions": CORRUPTIONS, "metrics": METRICS, "influence": INFLUENCE,
    "baselines": BASELINES, "heads": DETECTORS, "interventions": INTERVENTIONS, "ablations": ABLATIONS,
    "discovery": DISCOVERY, "selections": SELECTIONS, "formats": FORMATS, "definitions": DEFINITIONS, "plots": NOUNS,
}  # fmt: skip
# What a row says beyond its name and summary, in the order in which it is told.
FACTS = ("cost", "needs", "gives", "sums_to", "sign", "failure", "source")
ABOUT = """# Methods

Every method that the package calls by name, table by table. This page is written by `llmtrace methods --markdown` from
the rows that the library, the command line and the tests read; a method of your own joins by `register` of its room.

Cost is in forward (F) and backward (W) passes over the prompts; L is the number of layers, K that of steps. In the
examples `model` is `lt.load("tiny-english")` and `prompts` are `lt.prompts.ioi(model, 4)`; a test runs them.
"""


def facts_of(row: Method) -> dict[str, str]:
    """What is known of a method, as text; what is not is not there."""
    known = row.facts()
    said = {name: ", ".join(value) if isinstance(value := known[name], tuple) else value for name in FACTS}
    return {name: value for name, value in said.items() if value}


def example_of(row: Method) -> str:
    """The example of its file where that calls it, else ""."""
    text = docstring_of(row.where)
    example = dedent(text[text.rfind("\n", 0, start) + 1 :]).strip() if (start := text.find(">>> ")) >= 0 else ""
    return example if re.search(rf"\b{name_of(row.where).rpartition(':')[2]}\(", example) else ""


def markdown() -> str:
    """All tables as one page."""
    return "\n".join([ABOUT, *(line for name, table in TABLES.items() for line in _section(name, table))])


def _section(name: str, table: Table[Any]) -> Iterator[str]:
    yield f"## {name.capitalize()}\n"
    for row in table.values():
        yield f"### {row.name}\n\n{row.summary[:1].upper()}{row.summary[1:]}.\n"
        listed = [f"* {fact.replace('_', ' ')}: {text}" for fact, text in facts_of(row).items()]
        listed += [f"* option `{option.name}`: {option.says}{_default(option.default)}" for option in row.options]
        if listed:
            yield "\n".join(listed) + "\n"
        if example := example_of(row):
            yield f"```python\n{example}\n```\n"


def _default(text: str) -> str:
    return f" (default: {text})" if text else ""
