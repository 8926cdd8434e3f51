"""One head: what it adds directly, what it sees on this prompt, and which tokens its output at END raises."""

from __future__ import annotations

import torch

from llmtrace.console.behaviour import behaviour, top_pairs
from llmtrace.console.live.attention import pattern
from llmtrace.console.live.run import LiveRun
from llmtrace.console.live.token_text import token_of
from llmtrace.console.schemas import HeadCard
from llmtrace.errors import LLMTraceError
from llmtrace.influence import direct_logit_attribution
from llmtrace.models import TraceModel, describe, final_norm
from llmtrace.nodes import Head
from llmtrace.signals import node_writes

RAISED = 10  # tokens


@torch.no_grad()
def head_card(model: TraceModel, run: LiveRun, layer: int, head: int) -> HeadCard:
    arch, node = describe(model), Head(layer, head)
    arch.require(node)
    seen = pattern(model, run, layer)[head].numpy()
    direct, rank, writes, refused = None, None, list[tuple[str, float]](), None
    try:
        with run.on(model):
            scores, writes = direct_logit_attribution(model, run.prompts), raised(model, run, node)
        direct = scores.of(node).item()
        rank = 1 + sum(abs(scores.of(other).item()) > abs(direct) for other in arch.heads)
    except LLMTraceError as refusal:
        refused = str(refusal)
    return HeadCard(
        run=run.id, layer=layer, head=head, key_value_head=head // arch.group, direct=direct, rank=rank,
        behaviour=behaviour(seen, run.prompts.clean[0].tolist()), top_pairs=top_pairs(seen), writes=writes,
        refused=refused,
        python=run.program.of(
            f"head = lt.Head({layer}, {head})",
            "direct = lt.influence.direct_logit_attribution(model, prompts).of(head).item()",
            'writes = lt.signals.node_writes(model, prompts.clean, prompts.positions["END"][:, None])',
            "norm = lt.models.final_norm(model)",
            "logits = norm.frozen(writes.of(head)[0, 0], norm.scale(writes.final[0, 0])) @ model.W_U",
            f"raised = (logits - logits.mean()).topk(min({RAISED}, len(logits))).values.tolist()",
            "result = [direct, *raised]",
        ),
    )  # fmt: skip


def raised(model: TraceModel, run: LiveRun, node: Head) -> list[tuple[str, float]]:
    """The tokens whose logit the head's write at END raises most, over the mean of all tokens."""
    writes = node_writes(model, run.prompts.clean, run.prompts.positions["END"][:, None])
    norm = final_norm(model)
    logits = norm.frozen(writes.of(node)[0, 0], norm.scale(writes.final[0, 0])) @ model.W_U
    best = (logits - logits.mean()).topk(min(RAISED, len(logits)))
    return [
        (token_of(model, token).text, value)
        for token, value in zip(best.indices.tolist(), best.values.tolist(), strict=True)
    ]
