"""`llmtrace models`: the names that every other command takes."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from llmtrace.cli.options.groups import Common
from llmtrace.errors import InputError, NotFoundError, did_you_mean
from llmtrace.models.rows import EMBEDDED

if TYPE_CHECKING:
    from llmtrace.cli.output.documents import FamilyRow, ModelRow
    from llmtrace.cli.output.run import Run
    from llmtrace.cli.output.screen import Next, Screen

SCREENFUL = 40


def models(
    search: Annotated[str | None, typer.Argument(metavar="[SEARCH]", help="Names that contain this.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Also the names that TransformerLens knows (hub).")] = False,
    families: Annotated[bool, typer.Option("--families", help="What works on which family of models.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Of --families: the page of the manual.")] = False,
    *,
    common: Common,
) -> None:
    """List models by name, or families by what works.

    The embedded ones, and with --all or a search term every name that TransformerLens knows; with --families what works
    on which class of Hugging Face models, and why the rest does not.

    No model is loaded, so --device, --dtype and --seed change nothing here.
    """
    if (every and families) or (markdown and not families) or (markdown and search is not None):
        raise InputError("Expected --all, or --families (of all, with --markdown), got another mixture; leave one out.")
    run = common.run("models", "", {"search": search, "all": every, "families": families, "markdown": markdown})
    if families:
        _tell_families(run, search, markdown=markdown)
        return
    rows = _rows(search, hub=every or search is not None)
    hub = sum(not row.embedded for row in rows)

    def show(screen: Screen) -> list[Next]:
        listed = rows if every else rows[:SCREENFUL]
        aliases = {row.name: row.official for row in listed if row.official != row.name}
        columns = ["name", *(["stands for"] if aliases else []), "about"]
        screen.table(columns, [[r.name, *([aliases.get(r.name, "")] if aliases else []), r.about] for r in listed])
        if len(listed) < len(rows):
            screen.say(f"... and {len(rows) - len(listed)} more: add --all, or search for more letters.")
        if hub:
            screen.say(f"\n{hub} of {len(rows)} names are downloaded from the hub when they are first used.")
        first = listed[0].name
        return [
            ("llmtrace demo", "the whole road on tiny-english: score, test, circuit, report"),
            (f"llmtrace influence {first}", "what each part of the model adds to its answer"),
            *([] if hub else [("llmtrace models gpt2", "names that contain gpt2, from the hub as well")]),
            ("llmtrace models --families", "what works on which family of models"),
        ]

    run.finish(rows, show=show)


def _tell_families(run: Run, search: str | None, *, markdown: bool) -> None:
    from llmtrace.models.family_table import USES, families, markdown as page

    if markdown:
        sys.stdout.write(page())
        return
    rows = _families(search)

    def show(screen: Screen) -> list[Next]:
        table = [[r.family, r.loads or "no", _told(r)] for r in rows]
        screen.table(["family", "loads as", "refused"], table)
        if search is None:
            screen.say(f"\nA search term says why: llmtrace models --families {next(iter(families()))}")
        for row in rows if search is not None else ():
            reasons = [*([("loading", row.why)] if row.why else []), *row.refused.items()]
            if reasons:
                screen.say("\n" + "\n    ".join([f"{row.family}:", *(f"{use}: {why}" for use, why in reasons)]))
        about = "; ".join(f"{use}: {call.replace('`', '')}" for use, call in USES.items())
        screen.say(f"\nWhat was asked - {about}.")
        return [("llmtrace models --families --markdown", "the same as a page, for every release that was measured")]

    run.finish(rows, show=show)


def _told(row: FamilyRow) -> str:
    if not row.works:
        return "everything"
    return ", ".join(row.refused) or "nothing"


def _families(search: str | None) -> list[FamilyRow]:
    from llmtrace.cli.output.documents import FamilyRow
    from llmtrace.models.family_table import USES, families, release

    known = families()
    found = {name: row for name, row in known.items() if (search or "").lower() in name.lower()}
    if not found:
        close = did_you_mean(search or "", list(known))
        raise NotFoundError(
            f"Expected a family whose name contains {search!r}, found none of {len(known)} that were tried.{close} "
            "Another may work as well: load it, and what does not fit is refused by name."
        )
    return [
        FamilyRow(family=name, release=release(), loads=row["loads"], why=row.get("refused", row.get("why", "")),
                  works=[use for use in USES if row.get(use) == ""],
                  refused={use: row[use] for use in USES if row.get(use)})
        for name, row in found.items()
    ]  # fmt: skip


def _rows(search: str | None, *, hub: bool) -> list[ModelRow]:
    from llmtrace.cli.output.documents import ModelRow

    rows = [
        ModelRow(name=name, official=name, embedded=True, about=f"{row.gives}, {row.summary}")
        for name, row in EMBEDDED.items()
    ]
    if hub:
        from llmtrace.models.loading.model_names import hub_names

        names = sorted(hub_names().items(), key=lambda item: item[0].lower())
        rows += [
            ModelRow(name=name, official=official, embedded=False, about="from the hub") for name, official in names
        ]
    wanted = (search or "").lower()
    found = [row for row in rows if wanted in row.name.lower() or wanted in row.official.lower()]
    if not found:
        close = did_you_mean(search or "", [row.name for row in rows])
        raise NotFoundError(
            f"Expected a model whose name contains {search!r}, found none of {len(rows)}.{close} "
            "A Hugging Face folder, a .gguf file or organisation/model on the hub need no listing."
        )
    return found
