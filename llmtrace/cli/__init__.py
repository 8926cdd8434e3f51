"""The command line: parse, call, print. Nothing heavy is imported before a command runs.

    llmtrace demo | models | methods | trace | influence | generation | heads | neurons | lens | patch | ablate | paths
             | discover | evaluate | compare | convert

Data goes to standard output (a short table, or with `--json` one JSON object, see `output/documents.py`), progress and
errors to standard error; `--out` is always a folder, which appears whole or not at all.
"""

from llmtrace.cli.app import app, main

__all__ = ["app", "main"]
