"""`llmtrace models`: the names that every other command takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from llmtrace.cli.options.groups import Common
from llmtrace.errors import NotFoundError, did_you_mean
from llmtrace.models.rows import EMBEDDED

if TYPE_CHECKING:
    from llmtrace.cli.output.documents import ModelRow
    from llmtrace.cli.output.screen import Next, Screen

SCREENFUL = 40


def models(
    search: Annotated[str | None, typer.Argument(metavar="[SEARCH]", help="Names that contain this.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Also the names that TransformerLens knows (hub).")] = False,
    *,
    common: Common,
) -> None:
    """List models by name.

    The embedded ones, and with --all or a search term every name that TransformerLens knows.

    No model is loaded, so --device, --dtype and --seed change nothing here.
    """
    run = common.run("models", "", {"search": search, "all": every})
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
        ]

    run.finish(rows, show=show)


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
