"""Path patching to the logits: what if they heard from a head or an MLP what it would say on the other prompt?"""

from __future__ import annotations

from llmtrace.console.live.overview import on_map
from llmtrace.console.live.run import LiveRun
from llmtrace.console.live.sweep import Emit, blocks
from llmtrace.console.schemas import HeadMap, PathMap
from llmtrace.interventions import path_patch
from llmtrace.models import TraceModel, describe
from llmtrace.nodes import Node
from llmtrace.progress import track

WHAT = (
    "How the logit difference changes when the logits hear from one head or MLP what it says on the other prompt, "
    "heads held, MLPs reacting: negative carried the answer. An intervention; what backs it up is not seen."
)


def paths(model: TraceModel, run: LiveRun, *, emit: Emit) -> PathMap:
    arch, values = describe(model), dict[Node, float]()
    for layers in track(blocks(arch.n_layers), "patching paths"):
        of_layer: dict[int, list[Node]] = {
            layer: [*(head for head in arch.heads if head.layer == layer), *arch.mlps[layer : layer + 1]]
            for layer in layers
        }
        senders = [node for nodes in of_layer.values() for node in nodes]
        values |= dict(zip(senders, path_patch(model, run.prompts, senders=senders).mean().tolist(), strict=True))
        for layer, nodes in of_layer.items():
            emit(layer, [values[node] for node in nodes])
    heads, mlps = on_map(model, [*values], [*values.values()])
    return PathMap(
        run=run.id,
        map=HeadMap(
            title="Path patching to the logits", unit="logits", what=WHAT, heads=heads, mlps=mlps,
            python=run.program.of(
                "arch = lt.describe(model)",
                "effects = lt.path_patch(model, prompts, senders=[*arch.heads, *arch.mlps])",
                "result = dict(zip([str(nodes[0]) for nodes in effects.nodes], effects.mean().tolist()))",
            ),
        ),
    )  # fmt: skip
