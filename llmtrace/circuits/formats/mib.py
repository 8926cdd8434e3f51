"""MIB submissions: one folder per task and model, named `task_model` (`ioi_gpt2`, `arc-easy_llama3`).

    importances   one EAP-IG file with a score for every edge: MIB cuts its circuits from it
    membership    nine EAP-IG files, the circuits at .1 .2 .5 1 2 5 10 20 50 % of the edges (at most)

Percentages are of the edges in head form, which is what MIB counts. The nine are the edges of largest |score| that fit,
nested, without dead ends. Importances rank every edge, so a circuit whose scores are kept for its own edges only (what
`circuit.json` holds) is refused. `mib` writes JSON, `mib_pt` tensors; either is read.

MIB: Mueller et al., "MIB: A Mechanistic Interpretability Benchmark" (2025), https://github.com/hannamw/MIB-circuit-track
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from jaxtyping import Bool
from torch import Tensor

from llmtrace.circuits.circuit import Circuit
from llmtrace.circuits.formats import eap_ig_json, eap_ig_tensors
from llmtrace.circuits.formats.format import Format
from llmtrace.circuits.formats.sharing.eap_ig_graph import require_nameable
from llmtrace.circuits.formats.sharing.head_form import HeadForm
from llmtrace.circuits.formats.sharing.stamp import finite_scores
from llmtrace.circuits.graph import Graph
from llmtrace.circuits.rows import FORMATS
from llmtrace.errors import FileFormatError, InputError, NotFoundError
from llmtrace.files import atomic_folder

PER_MILLE = {"0.1": 1, "0.2": 2, "0.5": 5, "1": 10, "2": 20, "5": 50, "10": 100, "20": 200, "50": 500}
TASKS = ("ioi", "mcqa", "arithmetic-addition", "arithmetic-subtraction", "arc-easy", "arc-challenge")
READERS: dict[str, Callable[..., Circuit]] = {".json": eap_ig_json.read, ".pt": eap_ig_tensors.read}


def write(circuit: Circuit, path: str | Path, *, membership: bool = False, d_model: int | None = None) -> Path:
    """A new folder of JSON files: one of importances, or nine circuits. It appears whole or not at all."""
    return _write(circuit, Path(path), FORMATS["eap_ig"], membership, d_model)


def write_tensors(circuit: Circuit, path: str | Path, *, membership: bool = False, d_model: int | None = None) -> Path:
    """As `write`, of `.pt` files."""
    return _write(circuit, Path(path), FORMATS["eap_ig_pt"], membership, d_model)


def _write(circuit: Circuit, path: Path, form: Format, membership: bool, d_model: int | None) -> Path:
    require_folder_name(path.name)
    require_nameable(circuit.graph)
    _require_ranking(circuit)
    with atomic_folder(path) as draft:
        if not membership:
            form.function(circuit, draft / f"importances{form.suffix}", d_model=d_model)
        for percent, smaller in circuits_at_sizes(circuit).items() if membership else ():
            form.function(smaller, draft / f"{percent}{form.suffix}", d_model=d_model)
    return path


def circuits_at_sizes(circuit: Circuit) -> dict[str, Circuit]:
    """By percentage: the edges of largest |score| of which no more than that share of MIB's edges is made."""
    form, scores = HeadForm(circuit.graph), finite_scores(circuit)
    assert scores is not None, "asked for only after _require_ranking"
    cost = torch.bincount(form.columns)  # a shared key is as many edges as it has query heads
    ranked = scores.abs().masked_fill(~circuit.graph.real, -torch.inf).flatten().argsort(descending=True, stable=True)
    ranked = ranked[: circuit.graph.n_edges]
    spent, total = cost[ranked % len(circuit.graph.ports)].cumsum(0), int(form.real.sum())
    found = {}
    for percent, share in PER_MILLE.items():
        mask = torch.zeros_like(circuit.mask, device="cpu").flatten()
        mask[ranked[: int((spent <= total * share // 1000).sum())]] = True
        found[percent] = replace(circuit, mask=mask.view(circuit.mask.shape), scores=None).pruned()
    return found


def require_folder_name(name: str) -> None:
    """MIB finds task and model in the folder's name and leaves out what it does not know."""
    task, _, model = name.partition("_")
    if task not in TASKS or not model:
        raise InputError(
            f"Expected a folder named task_model, such as 'ioi_gpt2', with a task of {', '.join(TASKS)}; got {name!r}."
        )


def _require_ranking(circuit: Circuit) -> None:
    if circuit.scores is None:
        raise InputError("MIB ranks edges, and this circuit has no scores; discover it, or import scores.")
    scores, outside = circuit.scores.cpu(), circuit.graph.real & ~circuit.mask.cpu()
    if bool(outside.any()) and not bool(scores[outside].any()):
        raise InputError(
            f"MIB ranks all {circuit.graph.n_edges:,} edges, and of this circuit only its own {circuit.n_edges:,} have "
            "scores (circuit.json keeps no others); export what discover returned, or import a file of all scores."
        )


def read(
    path: str | Path, *, graph: Graph | None = None, n_kv_heads: int | None = None, percent: int | float | None = None
) -> Circuit:
    """The importances of a folder, or of nine circuits the one at `percent`.

    The nine are told apart by their size, whatever their names.
    """
    path = Path(path)
    if not path.is_dir():
        raise NotFoundError(f"Expected the folder {path.name!r} of an MIB submission, found none; check the path.")
    files = sorted(file for file in path.iterdir() if file.suffix in READERS)
    if len(files) not in (1, len(PER_MILLE)):
        raise FileFormatError(
            f"Expected one file of importances or nine of membership (.json or .pt) in {path.name!r}, "
            f"got {len(files)}; give one task_model folder of a submission."
        )
    if (percent is None) != (len(files) == 1) or (percent is not None and f"{percent:g}" not in PER_MILLE):
        raise InputError(
            f"Expected percent, one of {', '.join(PER_MILLE)}, for the nine circuits of a folder and for no other; "
            f"{path.name!r} has {len(files)} and percent is {percent!r}."
        )
    circuits = [READERS[file.suffix](file, graph=graph, n_kv_heads=n_kv_heads) for file in files]
    if percent is None:
        return circuits[0]
    return _by_size(circuits, path.name)[f"{percent:g}"]


def _by_size(circuits: list[Circuit], name: str) -> dict[str, Circuit]:
    """Raises FileFormatError where one is larger than MIB allows."""
    form = HeadForm(circuits[0].graph)
    total = int(form.real.sum())
    ordered = sorted(circuits, key=lambda circuit: _size(form, circuit.mask))
    found = dict(zip(PER_MILLE, ordered, strict=True))
    for percent, circuit in found.items():
        if (size := _size(form, circuit.mask)) > total * PER_MILLE[percent] // 1000:
            raise FileFormatError(
                f"Expected at most {total * PER_MILLE[percent] // 1000:,} edges ({percent} %) in a circuit of "
                f"{name!r}, got {size:,}; MIB's nine sizes are at most {', '.join(PER_MILLE)} %."
            )
    return found


def _size(form: HeadForm, mask: Bool[Tensor, "node port"]) -> int:
    return int(form.spread(mask).sum())
