"""`Stamp`: what other tools' files have no place for, kept beside what they have, so that our own come back whole.

Other programs ignore it: it is one extra key. What they do read - edges, membership, scores - is read from their keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor

from llmtrace.circuits.circuit import Circuit
from llmtrace.circuits.graph import Graph
from llmtrace.errors import FileFormatError, InputError, LLMTraceError
from llmtrace.files import first_problem
from llmtrace.nodes import Node, parse_node

KEY, VERSION = "llmtrace", 1
FLAGS = ("parallel", "attn_only", "split_embed", "post_norm")
DTYPES = {"float64": torch.float64, "float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


class Stamp(BaseModel):
    """`scores` is their dtype, or null where the circuit has none and the zeros in the file mean nothing."""

    model_config = ConfigDict(extra="forbid")

    version: int
    graph: dict[str, Any]
    scores: str | None
    roles: dict[str, list[str]] = {}
    provenance: dict[str, Any] = {}
    options: dict[str, Any] = {}

    @classmethod
    def of(cls, circuit: Circuit) -> Stamp:
        return cls(
            version=VERSION,
            graph=circuit.graph.as_dict(),
            scores=None if circuit.scores is None else str(circuit.scores.dtype).removeprefix("torch."),
            roles={name: [str(node) for node in nodes] for name, nodes in circuit.roles.items()},
            provenance=dict(circuit.provenance),
            options=dict(circuit.options),
        )

    def model_graph(self) -> Graph:
        return Graph.from_dict(self.graph)

    def fields(self) -> dict[str, Any]:
        """Of the circuit, beside graph, mask and scores."""
        roles: dict[str, tuple[Node, ...]] = {name: tuple(map(parse_node, nodes)) for name, nodes in self.roles.items()}
        return {"roles": roles, "provenance": self.provenance, "options": self.options}

    @property
    def dtype(self) -> torch.dtype:
        return DTYPES[self.scores or "float32"]


def read_stamp(content: Any, name: str) -> Stamp | None:
    """The stamp of a file, checked whole; None where another program wrote the file."""
    if content is None:
        return None
    try:
        stamp = Stamp.model_validate_json(content) if isinstance(content, str) else Stamp.model_validate(content)
        if stamp.version > VERSION or stamp.scores not in (None, *DTYPES):
            raise InputError("it is newer than this llmtrace, or its scores are of an unknown type")
        if not all(isinstance(stamp.graph.get(flag, False), bool) for flag in FLAGS):
            raise InputError("its graph says neither yes nor no where it should")
        stamp.model_graph()
        stamp.fields()
    except (ValidationError, TypeError, LLMTraceError) as error:
        raise FileFormatError(
            f"What llmtrace wrote into {name!r} beside the circuit is damaged ({first_problem(error).rstrip('.')}); "
            "export it again."
        ) from None
    return stamp


def foreign_fields(name: str, format: str) -> Mapping[str, Any]:
    """Of a circuit that another program wrote: where it is from is all that is known of it."""
    return {"provenance": {"format": format, "file": name}}


def require_finite(scores: Float[Tensor, "*shape"], name: str) -> None:
    """Refuse what a file says is a score and no score is."""
    if not bool(scores.isfinite().all()):
        raise FileFormatError(f"Expected finite scores of edges in {name!r}, got NaN or infinity; score them again.")


def finite_scores(circuit: Circuit) -> Float[Tensor, "node port"] | None:
    """The scores on the CPU. Raises InputError for NaN and infinity, which these files do not have."""
    if circuit.scores is None:
        return None
    scores = circuit.scores.detach().cpu()
    if not bool(scores[circuit.graph.real].isfinite().all()):
        raise InputError("Expected finite scores to export, got NaN or infinity; look for them in circuit.scores.")
    return scores
