"""The walk of information flow routes: from predictions down through the layers, over positions that are reached.

Places are (stage, position): what enters the first layer, then after attention ("3_mid") and after the MLP ("3_post")
of each layer; a block with one step (parallel, or attention alone) has its "post" only. A place is a sum of parts -
each head's write from each source, the MLP's write, the residual stream - and passes its flow on to where the parts
come from, by their proximity to the sum (`proximity.py`), small parts dropped. Biases are no part.

The streams of all layers are kept; patterns, which grow with the square of the prompt, only while they are small
together: else the walk runs each layer's attention again when it comes there (a third of a pass for all of them).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from llmtrace.errors import InputError
from llmtrace.influence.tokens.attention.head_proximity import head_proximity
from llmtrace.influence.tokens.attention.proximity import dropped_below, proximity
from llmtrace.models import (
    Architecture,
    Hook,
    TraceModel,
    attention_weights,
    describe,
    is_bridge,
    looks_back_only,
    require_additive,
    resume,
)
from llmtrace.models.forward import Stop
from llmtrace.models.hook_names import site_name
from llmtrace.signals.each_layer import Layer, each_layer

STREAMS, ATTENTION = ("resid_pre", "resid_mid", "mlp_out"), ("v", "pattern")
KEPT = 2**25  # numbers in the patterns of all layers (128 MiB in float32): more are not kept, but on a bridge

Shares = Float[Tensor, " reached"]


@dataclass(frozen=True, eq=False)
class FlowStep:
    """What flows into the reached positions of a stage: shares of each place's parts, which sum to one."""

    stage: str
    at: Int[Tensor, " reached"]
    flow: Float[Tensor, "target reached"]  # what of each prediction passes here
    heads: Float[Tensor, "reached source head"] | None
    mlp: Shares | None
    residual: Shares


def stages(arch: Architecture) -> tuple[str, ...]:
    """The input and every stage above it, upward."""
    kinds = ("post",) if arch.parallel or arch.attn_only else ("mid", "post")
    return ("input", *(f"{layer}_{kind}" for layer in range(arch.n_layers) for kind in kinds))


def flow_steps(
    model: TraceModel, tokens: Int[Tensor, " pos"], targets: Int[Tensor, " target"], threshold: float
) -> Iterator[FlowStep]:
    """The steps of one prompt from the last stage down, for all `targets` together. Cost: one forward pass at once, and
    a step's distances when it is asked for. The last step yielded has the input of the model below it."""
    if not isinstance(threshold, int | float) or not 0 <= threshold < 1:
        raise InputError(
            f"Expected a threshold from 0 to below 1, got {threshold!r}; shares sum to one at every place."
        )
    require_additive(model, "Information flow routes", reads=(), recomputes=("z",))
    arch = describe(model)
    kept, above = _run(model, tokens[: int(targets.max()) + 1] if looks_back_only(model) else tokens)
    flow = torch.zeros(len(targets), len(above), dtype=above.dtype, device=above.device)
    flow[torch.arange(len(targets)), targets.to(flow.device)] = 1
    for layer in reversed(range(arch.n_layers)):
        found = kept.pop()
        stream = found["resid_pre"]
        if "resid_mid" in found:
            yield _mlp_step(f"{layer}_post", flow, above, found, threshold)
            above = found["resid_mid"]
        at = flow.any(0).nonzero()[:, 0]
        seen = found if "pattern" in found else _look_again(model, tokens, layer, stream)
        near = head_proximity(
            seen["pattern"][:, at], seen["v"], attention_weights(model, layer).W_O, above[at]
        ).flatten(1)
        if arch.parallel:
            near = torch.cat([near, proximity(found["mlp_out"][at], above[at])[:, None]], 1)
        shares, residual = _shares(near, proximity(stream[at], above[at]), threshold)
        heads = (shares[:, :-1] if arch.parallel else shares).unflatten(1, (len(above), arch.n_heads))
        kind = "mid" if "resid_mid" in found else "post"
        step = FlowStep(f"{layer}_{kind}", at, flow[:, at], heads, shares[:, -1] if arch.parallel else None, residual)
        yield step
        flow, above = passed_on(step, len(above)), stream


def passed_on(step: FlowStep, width: int) -> Float[Tensor, "target pos"]:
    """The flow at the stage below: through heads to their sources, through the MLP and the residual stream straight."""
    straight = step.residual if step.mlp is None else step.residual + step.mlp
    below = step.flow.new_zeros(len(step.flow), width)
    below[:, step.at] = step.flow * straight
    return below if step.heads is None else below + step.flow @ step.heads.sum(-1)


def _run(model: TraceModel, tokens: Int[Tensor, " pos"]) -> tuple[list[Layer], Float[Tensor, "pos d_model"]]:
    """Activations of one prompt, layer by layer, and the final residual stream."""
    arch, kept = describe(model), list[Layer]()
    kinds = ("resid_pre",) if arch.attn_only else ("resid_pre", "mlp_out") if arch.parallel else STREAMS
    if is_bridge(model) or arch.n_layers * arch.n_heads * len(tokens) ** 2 <= KEPT:
        kinds = (*kinds, *ATTENTION)
    final = each_layer(
        model, tokens[None], kinds, lambda _, found: kept.append({kind: x[0] for kind, x in found.items()})
    )
    return kept, final[0]


def _look_again(
    model: TraceModel, tokens: Int[Tensor, " pos"], layer: int, stream: Float[Tensor, "read d_model"]
) -> Layer:
    """A layer's attention once more, from the stream that enters it, up to the pattern."""
    found = Layer()

    def keep(kind: str) -> Hook:
        def take(value: Tensor) -> None:
            found[kind] = value[0]
            if len(found) == len(ATTENTION):
                raise Stop(value)

        return site_name(kind, layer), take

    read = tokens[None, : len(stream)]
    try:
        resume(model, stream[None], layer, [keep(kind) for kind in ATTENTION], tokens=read, until=layer + 1)
    except Stop:
        return found
    raise AssertionError("attention ran past its pattern")


def _mlp_step(
    stage: str, flow: Float[Tensor, "target pos"], above: Tensor, found: dict[str, Tensor], threshold: float
) -> FlowStep:
    at = flow.any(0).nonzero()[:, 0]
    near = proximity(found["mlp_out"][at], above[at])[:, None]
    mlp, residual = _shares(near, proximity(found["resid_mid"][at], above[at]), threshold)
    return FlowStep(stage, at, flow[:, at], None, mlp[:, 0], residual)


def _shares(
    near: Float[Tensor, "reached part"], residual: Shares, threshold: float
) -> tuple[Float[Tensor, "reached part"], Shares]:
    """Shares of the parts and of the residual. Where no part points along the sum, all is the residual's."""
    near, residual = near.clamp_(min=0), residual.clamp(min=0)
    total = residual + near.sum(-1)
    residual = residual.where(total > 0, torch.ones_like(residual))
    total = total.where(total > 0, torch.ones_like(total))
    return dropped_below(threshold, near.div_(total[:, None]), residual / total)
