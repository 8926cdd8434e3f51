"""`python -m llmtrace` is the command `llmtrace`."""

from llmtrace.cli import main

main()
