"""EAP-IG's graph as tensors in a `.pt` file, which MIB reads too; for large models a tenth of the JSON.

    {"cfg", "src_nodes", "dst_nodes", "edges_scores", "edges_in_graph", "nodes_in_graph"}        matrices [source, port]

Read with `torch.load(weights_only=True)`: nothing but tensors and plain values. What can be named, and what is
refused: `eap_ig_graph`.
"""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any
from warnings import catch_warnings, simplefilter

import torch
from torch import Tensor

from llmtrace.circuits.circuit import Circuit
from llmtrace.circuits.formats.sharing.eap_ig_graph import (
    circuit_of,
    config_of,
    graph_of,
    head_matrices,
    live_nodes,
    require_edge_level,
    require_keys,
    shape_of,
)
from llmtrace.circuits.formats.sharing.head_form import HeadForm
from llmtrace.circuits.formats.sharing.stamp import KEY, Stamp, read_stamp
from llmtrace.circuits.graph import Graph
from llmtrace.errors import FileFormatError, NotFoundError
from llmtrace.files import write_bytes

KEYS = ("cfg", "src_nodes", "dst_nodes", "edges_scores", "edges_in_graph", "nodes_in_graph")


def write(circuit: Circuit, path: str | Path, *, d_model: int | None = None) -> Path:
    """One `.pt` file of plain tensors, lists and strings, which `torch.load(weights_only=True)` reads."""
    form, mask, scores = head_matrices(circuit)
    content = {
        "cfg": config_of(circuit, d_model),
        "src_nodes": list(map(str, circuit.graph.nodes)),
        "dst_nodes": list(map(str, form.ports)),
        "edges_scores": scores,
        "edges_in_graph": mask,
        "nodes_in_graph": live_nodes(form, mask),
        KEY: Stamp.of(circuit).model_dump_json(),
    }
    file = BytesIO()
    torch.save(content, file)
    write_bytes(path, file.getvalue())
    return Path(path)


def read(path: str | Path, *, graph: Graph | None = None, n_kv_heads: int | None = None) -> Circuit:
    """As the JSON form, of a `.pt` file; nothing but tensors, lists and strings is ever unpickled."""
    content, name = load_plain(path), Path(path).name
    require_keys(content, KEYS, name)
    require_edge_level("neurons_in_graph" in content, name)
    mask, scores = content["edges_in_graph"], content["edges_scores"]
    layers, heads, _ = shape_of(content["cfg"], name)
    shape = (1 + layers * (heads + 1), layers * (3 * heads + 1) + 1)
    for matrix in (mask, scores):
        if not isinstance(matrix, Tensor) or tuple(matrix.shape) != shape:
            got = tuple(matrix.shape) if isinstance(matrix, Tensor) else type(matrix).__name__
            raise FileFormatError(
                f"Expected tensors of {shape} (sources x ports) in {name!r}, got {got}; export again."
            )
    stamp = read_stamp(content.get(KEY), name)
    form = HeadForm(graph_of(content["cfg"], stamp, graph, n_kv_heads, name))
    order = [list(map(str, form.graph.nodes)), list(map(str, form.ports))]
    if [content[key] if isinstance(content[key], list) else [] for key in ("src_nodes", "dst_nodes")] != order:
        raise FileFormatError(
            f"Expected rows and columns of {name!r} in the order input, a0.h0, ..., m0, ... and a0.h0<q>, ..., logits, "
            "got another order; export it again."
        )
    return circuit_of(
        form,
        mask.bool(),
        scores if scores.is_floating_point() else scores.float(),
        stamp,
        content.get("nodes_scores") is not None,
        name,
        content,
    )


def load_plain(path: str | Path) -> dict[str, Any]:
    """A dictionary of tensors and plain values. Raises FileFormatError for anything that would need unpickling code."""
    path = Path(path)
    if not path.is_file():
        raise NotFoundError(f"Expected the file {path.name!r}, found none at that path; check the path.")
    file = BytesIO(path.read_bytes())
    try:
        with catch_warnings():
            simplefilter("ignore")
            content = torch.load(file, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception:  # a broken file makes the restricted unpickler fail in any way there is
        raise FileFormatError(
            f"Expected tensors and plain values in {path.name!r}, got a broken file or one that holds code; "
            "export it again."
        ) from None
    if not isinstance(content, dict):
        raise FileFormatError(
            f"Expected a dictionary of tensors in {path.name!r}, got {type(content).__name__}; give another file."
        )
    return content
