"""Circuits that people wrote down: `DEFINITIONS` come with the package, `load_definition` reads yours."""

from llmtrace.circuits.definitions.definition import Definition
from llmtrace.circuits.definitions.files import definition_json_schema, load_definition
from llmtrace.circuits.definitions.notation import RoleEdge, parse_role_edge
from llmtrace.circuits.definitions.shipped import DEFINITIONS, find_definition

__all__ = [
    "DEFINITIONS", "Definition", "RoleEdge", "definition_json_schema", "find_definition", "load_definition",
    "parse_role_edge",
]  # fmt: skip
