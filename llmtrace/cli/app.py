"""The program: its commands, and what becomes of an error (one sentence on standard error, and an exit code)."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from llmtrace.cli.commands.ablate import ablate
from llmtrace.cli.commands.compare import compare
from llmtrace.cli.commands.console import console
from llmtrace.cli.commands.convert import convert
from llmtrace.cli.commands.demo import demo
from llmtrace.cli.commands.discover import discover
from llmtrace.cli.commands.evaluate import evaluate
from llmtrace.cli.commands.generation import generation
from llmtrace.cli.commands.heads import heads
from llmtrace.cli.commands.influence import influence
from llmtrace.cli.commands.lens import lens
from llmtrace.cli.commands.methods import methods
from llmtrace.cli.commands.models import models
from llmtrace.cli.commands.neurons import neurons
from llmtrace.cli.commands.patch import patch
from llmtrace.cli.commands.paths import paths
from llmtrace.cli.commands.trace import trace
from llmtrace.cli.options.groups import ungrouped
from llmtrace.errors import Cancelled, LimitError, LLMTraceError

HELP = """From a prompt to a verified circuit: trace a transformer, score its parts, test the scores by intervening.

Start with `llmtrace demo`, which needs no network. `llmtrace COMMAND --help` says the rest.

Exit codes: 0 done, 1 failed, 2 usage, 3 not found, 4 over a limit, 5 no weights, 130 interrupted."""


# What Python and others call it -> the command.
ELSEWHERE = {
    "path_patch": "paths", "path-patch": "paths", "path_patching": "paths", "patch_sweep": "patch", "capture": "trace",
    "generate": "generation", "head_scores": "heads", "logit_lens": "lens", "token_lens": "lens", "knock_out": "ablate",
    "circuit": "discover", "faithfulness": "evaluate", "export": "convert", "import": "convert", "list": "models",
}  # fmt: skip


class Program(TyperGroup):
    """A group of commands in which an expected error is a sentence, not a traceback."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if ours := ELSEWHERE.get(args[0]):
            ctx.fail(f"No such command {args[0]!r}. Did you mean {ours!r}?")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except LLMTraceError as error:
            raise _told(str(error), error.exit_code) from error
        except KeyboardInterrupt as error:
            raise _told("Interrupted; nothing was written.", Cancelled.exit_code) from error
        except BrokenPipeError:  # somebody closed the pipe (`| head`): typer ends quietly
            raise
        except OSError as error:
            where = f" ({error.filename})" if error.filename else ""
            raise _told(f"The system refused: {error.strerror or error}{where}; nothing was written.", 1) from error
        except (MemoryError, RuntimeError) as error:
            if not isinstance(error, MemoryError) and type(error).__name__ != "OutOfMemoryError":
                raise
            sentence = "Out of memory; take fewer prompts (-n), a smaller --dtype or another --device."
            raise _told(sentence, LimitError.exit_code) from error


def _told(sentence: str, code: int) -> typer.Exit:
    typer.echo(f"llmtrace: {sentence}", err=True)
    return typer.Exit(code)


# Typer's rich help costs 0.2 s of the half second that `llmtrace --help` may take.
app = typer.Typer(
    cls=Program, help=HELP, no_args_is_help=True, rich_markup_mode=None,
    pretty_exceptions_enable=False, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)  # fmt: skip
for command in (
    demo, models, methods, trace, influence, generation, heads, neurons, lens, patch, ablate, paths, discover, evaluate,
    compare, convert, console,
):  # fmt: skip
    app.command()(ungrouped(command))


def _version(asked: bool) -> bool:
    if asked:
        from importlib.metadata import PackageNotFoundError, version

        try:
            found = version("llmtrace-interp")
        except PackageNotFoundError:  # a source tree on PYTHONPATH
            found = "(not installed: a source tree)"
        typer.echo(f"llmtrace {found}")
        raise typer.Exit
    return asked


@app.callback()
def program(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """The command `llmtrace`."""
    app(prog_name="llmtrace")
