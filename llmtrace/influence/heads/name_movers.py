"""Name movers: heads that look at the answer, where it stands in the prompt, and write it to the logits.

    attention_to_answer   sum_j A[END, j] over tokens j that are a correct answer; _to_wrong over the wrong ones
    name_mover            sum_j A[END, j] (v_j W_O) / sigma . direction over the same j, in logits
    direct                the same over all j: the head's direct logit attribution

`name_mover` is looking and copying in one number: the part of the metric that the head reads off the answer itself. A
negative name mover has a score below zero; a head that pushes the wrong name down shows in `direct` alone.

Source: Wang et al. 2022. Cost: two forward passes. Law: `direct` is `direct_logit_attribution`. Metrics linear in the
logits only. Sign: positive raises the metric.
Known failure: the direct path only, at one position (`direct_logit_attribution` says more).

    >>> [head.label for head, _ in lt.influence.name_movers(model, prompts).top("name_mover", 3)]
    ['3.5', '3.1', '3.3']
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from llmtrace.errors import InputError
from llmtrace.influence.direct_logit_attribution import source_token_attribution
from llmtrace.influence.heads.head_table import HeadTable
from llmtrace.influence.rows import columns_of
from llmtrace.metrics import Metric
from llmtrace.models import TraceModel, describe
from llmtrace.prompts import PromptSet, metric_of
from llmtrace.signals import attention_pattern, capture

COLUMNS = columns_of("llmtrace.influence.heads.name_movers:name_movers")


@torch.no_grad()
def name_movers(model: TraceModel, prompts: PromptSet, *, metric: str | Metric = "logit_diff") -> HeadTable:
    """Every head on prompts that contain their answer, such as `ioi(model)`. Means over prompts.

    Raises InputError where an answer does not stand in its prompt, and what direct_logit_attribution raises.
    """
    answer, wrong = (_stands_at(prompts.clean, prompts.lengths, tokens) for tokens in (prompts.correct, prompts.wrong))
    if not bool(answer.any(1).all()):
        missing = int((~answer.any(1)).nonzero()[0])
        raise InputError(
            f"Expected prompts that contain their correct answer, and prompt {missing} "
            f"({prompts.texts[missing][:40]!r}) does not; name movers are scored on prompts such as ioi(model)."
        )
    arch, metric = describe(model), metric_of(model, prompts, metric)
    by_source = source_token_attribution(model, prompts, metric=metric)
    trace = capture(model, prompts, what="pattern", positions=metric.positions[:, None])
    looks = torch.cat([attention_pattern(trace, layer)[:, :, 0] for layer in range(arch.n_layers)], 1)
    columns = [_over(looks.transpose(0, 1), answer), _over(looks.transpose(0, 1), wrong)]
    columns += [_over(by_source.values, answer), by_source.values.sum(-1).mean(1)]
    return HeadTable(
        arch.heads, COLUMNS, torch.stack(columns, 1), "name_movers", by_source.provenance,
        {"metric": metric.name, "prompts": prompts.name, "n_prompts": len(prompts)},
    )  # fmt: skip


def _over(values: Float[Tensor, "head batch key"], at: Bool[Tensor, "batch key"]) -> Float[Tensor, " head"]:
    return (values * at.to(values)).sum(-1).mean(1)


def _stands_at(
    tokens: Int[Tensor, "batch pos"], lengths: Int[Tensor, " batch"], wanted: tuple[tuple[int, ...], ...]
) -> Bool[Tensor, "batch pos"]:
    """Where a prompt has one of its wanted tokens; padding is nowhere."""
    found = torch.stack([torch.isin(row, torch.tensor(some)) for row, some in zip(tokens, wanted, strict=True)])
    return found & (torch.arange(tokens.shape[1]) < lengths[:, None])
