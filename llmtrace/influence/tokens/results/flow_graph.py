"""`FlowGraph`: what one prediction depends on, from its place down to the tokens, as a graph; JSON on disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from jaxtyping import Float, Int
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor

from llmtrace.errors import FileFormatError
from llmtrace.files import first_problem, read_json, require_schema, require_suffix, write_json
from llmtrace.results import Result

if TYPE_CHECKING:
    import pandas as pd

KIND, SCHEMA_VERSION = "llmtrace.flow_graph", 1
Column = Int[Tensor, " edge"]


@dataclass(frozen=True, eq=False)
class FlowGraph(Result):
    """Places are (stage, position); every edge enters a stage from the one below, so an edge is a row of columns.

    stage    index into `stages` of the place that the edge enters
    kind     index into KINDS
    head     which head of the layer; -1 for MLP and residual edges
    source   position that the edge comes from; `target` that it enters
    share    of the place it enters; the shares into a place sum to one
    flow     share times the flow of the place: what of the prediction passes here
    at       the position of the prediction, at the last stage
    """

    KINDS: ClassVar[tuple[str, ...]] = ("head", "mlp", "residual")

    stage: Column
    kind: Column
    head: Column
    source: Column
    target: Column
    share: Float[Tensor, " edge"]
    flow: Float[Tensor, " edge"]
    stages: tuple[str, ...]
    labels: tuple[str, ...]
    at: int
    threshold: float
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def places(self) -> Float[Tensor, "stage pos"]:
        """The flow of every place: 1 at the prediction, at each stage 1 altogether, 0 where nothing reaches."""
        found = self.flow.new_zeros(len(self.stages), len(self.labels))
        found[-1, self.at] = 1
        return found.index_put((self.stage - 1, self.source), self.flow, accumulate=True)

    def tokens(self) -> Float[Tensor, " pos"]:
        """Share of the prediction that comes from each token: the flow at the input."""
        return self.places[0]

    def df(self) -> pd.DataFrame:
        """One row per edge, the largest flow first."""
        import pandas as pd

        columns = {
            "stage": [self.stages[i] for i in self.stage.tolist()],
            "kind": [self.KINDS[i] for i in self.kind.tolist()],
            "head": pd.array([None if head < 0 else head for head in self.head.tolist()], dtype="Int64"),
        }
        for name in ("source", "target"):
            at = getattr(self, name).tolist()
            columns |= {name: at, f"{name}_token": [self.labels[i] for i in at]}
        columns |= {"share": self.share.tolist(), "flow": self.flow.tolist()}
        return pd.DataFrame(columns).sort_values("flow", ascending=False, kind="stable", ignore_index=True)

    def save(self, path: str | Path) -> Path:
        """Write one JSON file, atomically."""
        require_suffix(path, ".json", "a flow graph")
        columns = {
            name: getattr(self, name).tolist() for name in ("stage", "head", "source", "target", "share", "flow")
        }
        content = FlowGraphFile(
            kind=KIND, schema_version=SCHEMA_VERSION, stages=list(self.stages), labels=list(self.labels), at=self.at,
            threshold=self.threshold, edges=FlowColumns(kind=[self.KINDS[i] for i in self.kind.tolist()], **columns),
            provenance=dict(self.provenance),
        )  # fmt: skip
        write_json(path, content.model_dump())
        return Path(path)

    @classmethod
    def load(cls, path: str | Path) -> FlowGraph:
        """Read one. Raises NotFoundError, or FileFormatError when the file is broken, newer, or no flow graph."""
        content, name = read_json(path), Path(path).name
        require_schema(content, KIND, SCHEMA_VERSION, name)
        try:
            file = FlowGraphFile.model_validate(content)
        except ValidationError as error:
            raise FileFormatError(
                f"{name!r} does not follow the schema of flow graphs: {first_problem(error)}; write it again."
            ) from None
        edges = file.edges
        _require_fit(file, name)
        whole = {k: torch.tensor(getattr(edges, k), dtype=torch.long) for k in ("stage", "head", "source", "target")}
        parts = {k: torch.tensor(getattr(edges, k), dtype=torch.float64) for k in ("share", "flow")}
        return cls(
            **whole, **parts, kind=torch.tensor([cls.KINDS.index(kind) for kind in edges.kind], dtype=torch.long),
            stages=tuple(file.stages), labels=tuple(file.labels), at=file.at, threshold=file.threshold,
            provenance=file.provenance,
        )  # fmt: skip

    def __repr__(self) -> str:
        reached = int((self.places > 0).sum())
        return (
            f"FlowGraph(of token {self.at}, {self.labels[self.at]!r}, threshold {self.threshold:g}: "
            f"{len(self.share):,} edges, {reached:,} of {len(self.stages) * len(self.labels):,} places)"
        )


class FlowColumns(BaseModel):
    """One entry per edge in each."""

    model_config = ConfigDict(extra="forbid")

    stage: list[int]
    kind: list[Literal["head", "mlp", "residual"]]
    head: list[int]
    source: list[int]
    target: list[int]
    share: list[float]
    flow: list[float]


class FlowGraphFile(BaseModel):
    """A flow graph on disk."""

    model_config = ConfigDict(extra="forbid")

    kind: str
    schema_version: int
    stages: list[str]
    labels: list[str]
    at: int
    threshold: float
    edges: FlowColumns
    provenance: dict[str, Any]


def flow_graph_json_schema() -> dict[str, Any]:
    """The JSON Schema of a saved `FlowGraph`."""
    return FlowGraphFile.model_json_schema()


def _require_fit(file: FlowGraphFile, name: str) -> None:
    """Columns of one length, and indices that exist."""
    edges, last = file.edges, len(file.labels)
    lengths = {len(column) for column in edges.model_dump().values()}
    inside = all(1 <= i < len(file.stages) for i in edges.stage) and all(
        0 <= i < last for i in (*edges.source, *edges.target, file.at)
    )
    if len(lengths) > 1 or not inside:
        raise FileFormatError(
            f"Expected edges between the stages and tokens of {name!r}, got columns of lengths {sorted(lengths)} or an "
            "index outside; write it again."
        )
