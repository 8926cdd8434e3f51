"""`llmtrace methods`: every method by name, and what to know before it is run."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from llmtrace.cli.options.groups import Common
from llmtrace.cli.options.shared import choice, one_of
from llmtrace.tables import TABLES, facts_of, markdown as page

if TYPE_CHECKING:
    from llmtrace.cli.output.screen import Next, Screen


def methods(
    table: Annotated[str | None, typer.Argument(metavar="[TABLE]", help=f"One of {one_of(TABLES)}.")] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="The whole page of the manual, as Markdown.")] = False,
    *,
    common: Common,
) -> None:
    """List methods: cost, needs, sign, known failure.

    Of one table everything that is known of each row; without one, the tables and the names in them.

    No model is loaded, so --device, --dtype and --seed change nothing here.
    """
    run = common.run("methods", "", {"table": table, "markdown": markdown})
    if markdown:
        sys.stdout.write(page())
        return

    from llmtrace.cli.output.documents import MethodRow

    asked = TABLES if table is None else {table: TABLES[choice("TABLE", table, tuple(TABLES))]}
    known = [(name, row, facts_of(row)) for name, rows in asked.items() for row in rows.values()]
    rows = [
        MethodRow(table=name, name=row.name, summary=row.summary, where=row.facts()["where"],
                  options=list(row.option_names()), **facts)
        for name, row, facts in known
    ]  # fmt: skip

    def show(screen: Screen) -> list[Next]:
        if table is None:
            screen.table(["table", "what is in it"], [[name, ", ".join(rows)] for name, rows in asked.items()])
            return [("llmtrace methods influence", "one of them, with costs, signs and known failures")]
        for _, row, facts in known:
            source = f" ({facts['source']})" if "source" in facts else ""
            screen.say(f"{row.name}: {row.summary}{source}")
            for line in (("cost", "needs", "gives", "sums_to"), ("sign", "failure")):
                if said := "; ".join(f"{fact.replace('_', ' ')}: {facts[fact]}" for fact in line if fact in facts):
                    screen.say(f"    {said}")
        return [("llmtrace methods --markdown", "the same of every table, with options, as a page")]

    run.finish(rows, show=show)
