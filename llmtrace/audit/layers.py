"""At which layer the classes are furthest apart, asked of kinds of prompts that were left out.

    score(layer) = mean over kinds k of AUROC on k of the direction between the classes of all other kinds

Where there is one kind only, or no kind has both classes, every second row stands for a kind.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from llmtrace.audit.evidence.roc import auroc
from llmtrace.audit.labelled import LabelledPrompts
from llmtrace.audit.seen import Seen, look
from llmtrace.models import TraceModel, describe


def streams(
    model: TraceModel, labelled: LabelledPrompts, layer: int | None
) -> dict[int, Float[Tensor, "batch d_model"]]:
    """What leaves each layer (or the one that was asked for) at the last token. Cost: 1 F."""
    arch = describe(model)
    layers = arch.require_layers(None if layer is None else [layer])
    seen: Seen = look(model, labelled.prompts, labelled.spans, [("resid_post", one) for one in layers])
    return {one: seen.stream(one).double().cpu() for one in layers}


def between(x: Float[Tensor, "batch d"], labels: Bool[Tensor, " batch"]) -> Float[Tensor, " d"]:
    """The way from the mean of the False to the mean of the True."""
    return x[labels].mean(0) - x[~labels].mean(0)


def best_layer(found: Mapping[int, Float[Tensor, "batch d_model"]], labelled: LabelledPrompts) -> int:
    """The layer of the highest score; of equal ones the first."""
    folds = _folds(labelled)
    labels = labelled.labels
    scores = {
        layer: sum(auroc(x[left] @ between(x[~left], labels[~left]), labels[left]) for left in folds)
        if folds
        else auroc(x @ between(x, labels), labels)  # too few rows to leave any out
        for layer, x in found.items()
    }
    return max(scores, key=lambda layer: (scores[layer], -layer))


def sign_of(values: Float[Tensor, " batch"], labels: Bool[Tensor, " batch"]) -> float:
    """+1 where True prompts have the larger values, else -1."""
    return 1.0 if auroc(values, labels) >= 0.5 else -1.0


def _folds(labelled: LabelledPrompts) -> list[Bool[Tensor, " batch"]]:
    kinds = labelled.kinds
    by_kind = [torch.tensor([kind == left for kind in kinds]) for left in sorted({*kinds})]
    halves = [torch.arange(len(labelled)) % 2 == side for side in (0, 1)]
    both = [fold for fold in by_kind if _has_both(labelled.labels, fold)]
    halves = [fold for fold in halves if _has_both(labelled.labels, fold)]
    return both or halves


def _has_both(labels: Bool[Tensor, " batch"], left: Bool[Tensor, " batch"]) -> bool:
    return all(bool(some.any()) and not bool(some.all()) for some in (labels[left], labels[~left]))
