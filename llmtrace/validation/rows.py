"""What `validate` may put in the place of what it takes away: words, light, for the command line too."""

from __future__ import annotations

from llmtrace.influence.rows import BASELINES
from llmtrace.interventions.rows import without_a_vector

EDGES = ("attention", "edge")  # what is cut instead of replaced: the token's keys, or its edges to the target


def token_ablations() -> tuple[str, ...]:
    return (*BASELINES, *EDGES)


def node_ablations() -> tuple[str, ...]:
    return without_a_vector()
