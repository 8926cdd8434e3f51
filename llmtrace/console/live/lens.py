"""The logit lens: what the stream would say at every position, as it enters each layer and at the end."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from llmtrace.console.live.run import AT_ONCE, LiveRun
from llmtrace.console.live.token_text import token_of
from llmtrace.console.schemas import Lens
from llmtrace.influence.stages import stream_stages
from llmtrace.models import TraceModel, describe, require_readout, unembed
from llmtrace.signals import capture


@torch.no_grad()
def lens(model: TraceModel, run: LiveRun) -> Lens:
    """One stage at a time: the logits of all stages and positions would not fit."""
    require_readout(model)
    stages = {stage: name for stage, name in stream_stages(describe(model)).items() if not stage.endswith("_mid")}
    trace = capture(model, run.prompts, what=tuple(stages.values()))
    answers = (run.prompts.correct[0][0], run.prompts.wrong[0][0])
    top, probability = [], []
    said: list[list[float]] = [[], []]
    ranks: list[list[int]] = [[], []]
    for name in stages.values():
        found = [_said(model, some) for some in trace[name][0].split(AT_ONCE)]
        log_p = torch.cat([end for *_, end in found])[-1]
        top.append([token_of(model, token) for token in torch.cat([best for best, *_ in found]).tolist()])
        probability.append(torch.cat([p for _, p, _ in found]).tolist())
        for which, token in enumerate(answers):
            said[which].append(log_p[token].item())
            ranks[which].append(1 + int((log_p > log_p[token]).sum()))
    return Lens(
        run=run.id, stages=["embed", *(f"after {layer}" for layer in range(len(stages) - 1))], top=top,
        probability=probability, correct=said[0], wrong=said[1], correct_rank=ranks[0], wrong_rank=ranks[1],
        python=run.program.of(
            "lens = lt.influence.token_lens(model, prompts, positions=None)",
            'stages = [i for i, stage in enumerate(lens.stages) if not stage.endswith("_mid")]',
            "result = lens.top_probability[stages, 0].tolist()",
        ),
    )  # fmt: skip


def _said(
    model: TraceModel, stream: Float[Tensor, "pos d_model"]
) -> tuple[Int[Tensor, " pos"], Float[Tensor, " pos"], Float[Tensor, "1 d_vocab"]]:
    """The likeliest token at each position, its probability, and all log-probabilities at the last."""
    log_p = unembed(model, stream[:, None])[:, 0].double().log_softmax(-1).cpu()
    best = log_p.max(-1)
    return best.indices, best.values.exp(), log_p[-1:]
