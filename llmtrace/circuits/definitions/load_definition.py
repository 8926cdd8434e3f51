"""Definitions on disk: JSON or YAML that a person can write, checked against a published schema.

kind: llmtrace.definition
schema_version: 1
name: ioi
source: Wang et al. 2022, arXiv:2211.00593
model: gpt2
graph: {n_layers: 12, n_heads: 12}
roles:
  name_mover: {nodes: [a9.h9, a10.h0, a9.h6], positions: [END]}
  s_inhibition: [a7.h3, a7.h9, a8.h6, a8.h10]      # a list of nodes is enough
edges: ["s_inhibition -> name_mover<q>", "name_mover -> logits"]

    >>> lt.circuits.load_definition("ioi")
    Definition(ioi of gpt2: previous_token 2, duplicate_token 3, induction 4, s_inhibition 4, negative_name_mover 2,
    name_mover 3, backup_name_mover 8; Wang et al. 2022, arXiv:2211.00593)
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from llmtrace.circuits.definitions.definition import Definition
from llmtrace.circuits.definitions.role_edge import parse_role_edge
from llmtrace.circuits.graph import Graph
from llmtrace.circuits.rows import DEFINITIONS
from llmtrace.errors import FileFormatError, InputError, LLMTraceError, NotFoundError
from llmtrace.files import first_problem, read_json, require_schema
from llmtrace.nodes import parse_node

KIND, SCHEMA_VERSION = "llmtrace.definition", 1
YAML = (".yaml", ".yml")


def load_definition(name_or_path: str | Path) -> Definition:
    """One that comes with the package, by its name ("ioi"), or a file: .json, .yaml or .yml.

    Raises NotFoundError for no such name or file, InputError for another ending, FileFormatError for a file that is
    broken, of another kind, of a newer schema, or that defines nothing sensible.
    """
    path = Path(name_or_path)
    if isinstance(name_or_path, str) and not path.suffix:
        shipped: Definition = DEFINITIONS[name_or_path]()
        return shipped
    content = read_yaml(path) if path.suffix.lower() in YAML else _read_json(path)
    require_schema(content, KIND, SCHEMA_VERSION, path.name)
    try:
        return DefinitionFile.model_validate(content).definition()
    except (ValidationError, LLMTraceError) as error:
        raise FileFormatError(
            f"{path.name!r} does not follow the definition schema: {first_problem(error).rstrip('.')}; correct it."
        ) from None


def definition_json_schema() -> dict[str, Any]:
    """The JSON Schema of a definition file."""
    return DefinitionFile.model_json_schema()


def _text(value: Any) -> Any:
    if isinstance(value, int | float):
        raise ValueError(f"{value} is a number, and 10.10 would be read as 10.1: write a10.h10, or '10.10' in quotes")
    return value


def _role(value: Any) -> Any:
    return {"nodes": value} if isinstance(value, list) else value


class ShapeFile(BaseModel):
    """The shape of the model; `n_kv_heads` is `n_heads` unless it is said."""

    model_config = ConfigDict(extra="forbid")

    n_layers: int
    n_heads: int
    n_kv_heads: int | None = None
    parallel: bool = False
    attn_only: bool = False

    def graph(self) -> Graph:
        return Graph(self.n_layers, self.n_heads, self.n_kv_heads or self.n_heads, self.parallel, self.attn_only)


class RoleFile(BaseModel):
    """Heads and MLPs that do the same, and the named positions at which they do it."""

    model_config = ConfigDict(extra="forbid")

    nodes: list[Annotated[str, BeforeValidator(_text)]]
    positions: list[str] = []


class DefinitionFile(BaseModel):
    """`*.yaml`, `*.json`: what `load_definition` reads."""

    model_config = ConfigDict(extra="forbid")

    kind: str
    schema_version: int
    name: str = Field(min_length=1)
    source: str
    model: str
    roles: dict[str, Annotated[RoleFile, BeforeValidator(_role)]]
    edges: list[str] = []
    mlps: Literal["all", "named"] = "all"
    graph: ShapeFile | None = None
    notes: str = ""

    def definition(self) -> Definition:
        return Definition(
            name=self.name,
            source=self.source,
            model=self.model,
            roles={role: tuple(map(parse_node, file.nodes)) for role, file in self.roles.items()},
            positions={role: tuple(file.positions) for role, file in self.roles.items() if file.positions},
            edges=tuple(map(parse_role_edge, self.edges)),
            mlps=self.mlps,
            graph=None if self.graph is None else self.graph.graph(),
            notes=self.notes.strip(),
        )


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML mapping of plain values; a missing or broken file is one sentence, and so is a key that comes twice."""
    if not path.is_file():
        raise NotFoundError(f"Expected the file {path.name!r}, found none at that path; check the path.")
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_OnceLoader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise FileFormatError(f"{path.name!r} is not readable YAML ({reason}); correct it.") from None
    if not isinstance(content, dict):
        raise FileFormatError(
            f"Expected a YAML mapping in {path.name!r}, got {type(content).__name__}; start with 'kind: {KIND}'."
        )
    return content


def _read_json(path: Path) -> dict[str, Any]:
    if path.suffix.lower() != ".json":
        raise InputError(f"Expected a definition in .json, .yaml or .yml, got {path.name!r}; rename it.")
    return read_json(path)


class _OnceLoader(yaml.SafeLoader):
    """Plain values only, and no key twice: YAML would keep the last and say nothing."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        twice = [key for index, key in enumerate(keys) if key in keys[:index]]
        if twice:
            raise yaml.constructor.ConstructorError(None, None, f"the key {twice[0]!r} comes twice", node.start_mark)
        return super().construct_mapping(node, deep)
