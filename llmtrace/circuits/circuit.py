"""`Circuit`: a selection of a graph's edges, with set algebra, roles, and JSON on disk."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor

from llmtrace.circuits.graph import Graph
from llmtrace.errors import FileFormatError, InputError, LLMTraceError, MismatchError
from llmtrace.files import first_problem, read_json, require_schema, require_suffix, write_json
from llmtrace.models import TraceModel
from llmtrace.nodes import Edge, Node, parse_node, place_of, read_node
from llmtrace.results import Result

if TYPE_CHECKING:
    import pandas as pd

KIND, SCHEMA_VERSION = "llmtrace.circuit", 1
DEFAULT_SIZE = "default_size"  # the option of a circuit whose size nobody asked for


@dataclass(frozen=True, eq=False)
class Circuit(Result):
    """`mask` is True where an edge is in the circuit; `scores` are those that chose it, where there are any."""

    _together = "write a | b for the edges of either, a & b for those of both"

    graph: Graph
    mask: Bool[Tensor, "node port"]
    scores: Float[Tensor, "node port"] | None = None
    roles: Mapping[str, tuple[Node, ...]] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.mask.shape != self.graph.real.shape:
            raise MismatchError(
                f"Expected a mask of {tuple(self.graph.real.shape)} (writers x ports), got {tuple(self.mask.shape)}; "
                "start from Circuit.empty(graph).mask."
            )
        if self.mask.dtype != torch.bool:
            raise InputError(f"Expected a mask of booleans, got {self.mask.dtype}; compare scores with a threshold.")
        if bool((self.mask & ~self.graph.real).any()):
            raise InputError(
                "The mask selects edges that the graph does not have: a writer must come before its reader; "
                "write mask & graph.real."
            )

    @classmethod
    def full(cls, graph: Graph) -> Circuit:
        return cls(graph, graph.real.clone())

    @classmethod
    def empty(cls, graph: Graph) -> Circuit:
        return cls(graph, torch.zeros_like(graph.real))

    @classmethod
    def of(cls, graph: Graph, edges: Iterable[Edge | str], **fields: Any) -> Circuit:
        """From edges or their names. Raises InputError for an edge that the graph does not have."""
        mask = torch.zeros_like(graph.real)
        for edge in edges:
            mask[graph.index(edge)] = True
        return cls(graph, mask, **fields)

    @classmethod
    def of_nodes(cls, graph: Graph, nodes: Iterable[Node | str], **fields: Any) -> Circuit:
        """Every edge between these nodes, the input and the logits: a circuit of nodes. Raises NotFoundError for a node
        that the graph does not have."""
        writers = [(node,) for node in graph.nodes]
        chosen = [read_node(node) for node in nodes]
        inside = torch.zeros(len(graph.nodes), dtype=torch.bool)
        inside[: graph.before(0)] = True
        inside[[place_of((node,), writers, "the graph") for node in chosen]] = True
        reads = [not (rows := graph.writer_of(port)) or bool(inside[rows].any()) for port in graph.ports]
        return cls(graph, graph.real & inside[:, None] & torch.tensor(reads), **fields)

    @property
    def n_edges(self) -> int:
        return int(self.mask.sum())

    @property
    def edges(self) -> tuple[Edge, ...]:
        return tuple(self.graph.edges(self.mask))

    @property
    def nodes(self) -> tuple[Node, ...]:
        """Writers with at least one edge out."""
        return tuple(self.graph.nodes[row] for row in self.mask.any(1).nonzero().flatten().tolist())

    def __contains__(self, edge: Edge | str) -> bool:
        return bool(self.mask[self.graph.index(edge)])

    def __or__(self, other: Circuit) -> Circuit:
        return self._with(self.mask | self._same_graph(other).mask)

    def __and__(self, other: Circuit) -> Circuit:
        return self._with(self.mask & self._same_graph(other).mask)

    def __sub__(self, other: Circuit) -> Circuit:
        return self._with(self.mask & ~self._same_graph(other).mask)

    def __le__(self, other: Circuit) -> bool:
        return not bool((self.mask & ~self._same_graph(other).mask).any())

    def without(self, *nodes: Node | str) -> Circuit:
        """The circuit with every edge out of these writers removed. Raises NotFoundError for one it has no row for."""
        mask, writers = self.mask.clone(), [(node,) for node in self.graph.nodes]
        mask[[place_of((read_node(node),), writers, "the graph") for node in nodes]] = False
        return self._with(mask)

    def pruned(self) -> Circuit:
        """Without edges into nodes that have no path to the logits.

        Exact under every ablation (law 41): what such a node computes is read by nobody. Nodes without *inputs* stay:
        under zero and mean ablation they still write what their biases make of nothing.
        """
        graph, mask = self.graph, self.mask.clone()
        alive = graph.reaching(mask)
        for column, port in enumerate(graph.ports[:-1]):
            if not bool(alive[graph.writer_of(port)].any()):
                mask[:, column] = False
        return self._with(mask)

    def without_spans(self) -> Circuit:
        """The circuit with all positions of a port together: an edge is in if it is at any of them, with the sum of its
        scores."""
        graph = self.graph.without_spans
        scores = None if self.scores is None else self.graph.merged(self.scores)
        return replace(self, graph=graph, mask=self.graph.merged(self.mask.float()) > 0, scores=scores)

    def without_neurons(self) -> Circuit:
        """The circuit with the neurons back in their MLPs: an edge is in if one of its parts is, with the sum of their
        scores. It may do more than this one: of an MLP it keeps all neurons."""
        graph = self.graph
        scores = None if self.scores is None else graph.in_mlps(self.scores)
        return replace(self, graph=graph.without_neurons, mask=graph.in_mlps(self.mask.float()) > 0, scores=scores)

    def require_model(self, model: TraceModel) -> None:
        """Refuse a model of another shape. Other weights of the same shape are allowed: that is how a circuit is
        followed over training; `evaluate` says so in its caveats."""
        graph, own = Graph.of(model, split_embed=self.graph.split_embed, spans=self.graph.spans), self.graph.neurons
        if own and graph == self.graph.without_neurons:
            graph = Graph.of(model, split_embed=graph.split_embed, spans=graph.spans, neurons=own)
        if self.graph != graph:
            raise MismatchError(
                f"This circuit belongs to {self.graph}, and the model is {graph}; load the circuit's model."
            )

    def df(self) -> pd.DataFrame:
        """One row per edge: writer, port, score where there is one."""
        import pandas as pd

        score = [None if self.scores is None else self.scores[self.graph.index(e)].item() for e in self.edges]
        return pd.DataFrame(
            {
                "edge": [str(e) for e in self.edges],
                "writer": [e.writer.label for e in self.edges],
                "port": [e.port.label for e in self.edges],
                "score": score,
            }
        )

    def save(self, path: str | Path) -> Path:
        """Write one JSON file, atomically: the edges that are in it, each with its score. Scores of the edges outside
        are not kept: those that `discover` ranked are `EdgeScores`, which have a save of their own."""
        require_suffix(path, ".json", "a circuit")
        content = CircuitFile(
            kind=KIND,
            schema_version=SCHEMA_VERSION,
            graph=self.graph.as_dict(),
            edges=[str(edge) for edge in self.edges],
            scores=None if self.scores is None else [self.scores[self.graph.index(e)].item() for e in self.edges],
            roles={name: [str(node) for node in nodes] for name, nodes in self.roles.items()},
            provenance=dict(self.provenance),
            options=dict(self.options),
        )
        write_json(path, content.model_dump())
        return Path(path)

    @classmethod
    def load(cls, path: str | Path) -> Circuit:
        """Read a circuit; edges outside it have the score 0. Raises NotFoundError, or FileFormatError when the file is
        broken, newer, or not a circuit."""
        content = read_json(path)
        name = Path(path).name
        require_schema(content, KIND, SCHEMA_VERSION, name)
        try:
            file = CircuitFile.model_validate(content)
            graph = Graph.from_dict(file.graph)
            circuit = cls.of(
                graph,
                file.edges,
                roles={role: tuple(map(parse_node, nodes)) for role, nodes in file.roles.items()},
                provenance=file.provenance,
                options=file.options,
            )
        except (ValidationError, TypeError, LLMTraceError) as error:
            raise FileFormatError(
                f"{name!r} does not follow the circuit schema: {first_problem(error).rstrip('.')}; discover it again."
            ) from None
        if file.scores is None:
            return circuit
        if len(file.scores) != len(file.edges):
            raise FileFormatError(
                f"Expected a score for each of {len(file.edges)} edges in {name!r}, got {len(file.scores)}; "
                "discover it again."
            )
        scores = torch.zeros(graph.real.shape)
        for edge, score in zip(file.edges, file.scores, strict=True):
            scores[graph.index(edge)] = score
        return replace(circuit, scores=scores)

    def _with(self, mask: Tensor) -> Circuit:
        return replace(self, mask=mask)

    def _same_graph(self, other: Circuit) -> Circuit:
        if self.graph != other.graph:
            raise MismatchError(
                f"Expected circuits of one graph, got {self.graph} and {other.graph}; compare like with like."
            )
        return other

    def __repr__(self) -> str:
        unsized = ": a tenth, for no size was asked for" if self.options.get(DEFAULT_SIZE) else ""
        return f"Circuit({self.n_edges:,} of {self.graph.n_edges:,} edges, {len(self.nodes)} nodes{unsized})"

    def _repr_html_(self) -> str:
        return f"<p>{self!r}</p>" + str(self.df().to_html(max_rows=12))


class CircuitFile(BaseModel):
    """`circuit.json`."""

    model_config = ConfigDict(extra="forbid")

    kind: str
    schema_version: int
    graph: dict[str, Any]
    edges: list[str]
    scores: list[float] | None
    roles: dict[str, list[str]]
    provenance: dict[str, Any]
    options: dict[str, Any]


def circuit_json_schema() -> dict[str, Any]:
    """The JSON Schema of a circuit file."""
    return CircuitFile.model_json_schema()
