"""One pass that hands over the activations of a layer when they are all there, and keeps none of them.

What goes layer by layer - products of maps, per-layer scores - needs no trace of the whole model: at 1,024 tokens the
patterns of GPT-2 small alone are 600 MB. Cost: one forward pass without the unembedding. Memory: one layer's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from jaxtyping import Float, Int
from torch import Tensor

from llmtrace.errors import UnsupportedError
from llmtrace.models import TraceModel, describe, final_residual, require_live_hooks
from llmtrace.models.hook_names import site_name

Layer = dict[str, Tensor]  # the activations of one layer, by kind


def each_layer(
    model: TraceModel,
    tokens: Int[Tensor, "batch pos"],
    what: Sequence[str],
    use: Callable[[int, Layer], None],
    layers: Sequence[int] | None = None,
) -> Float[Tensor, "batch pos d_model"]:
    """Run `tokens`; call `use(layer, activations)` for each of `layers` (default: all), in order.

    what   kinds of SITES. `use` must not change what it is given: the pass goes on with it.

    Returns the final residual stream. Raises UnsupportedError for a layer that does not show them all (a hybrid's).
    """
    require_live_hooks(model)
    found: Layer = {}
    seen: list[int] = []

    def keep(kind: str, layer: int) -> Callable[[Tensor], None]:
        def collect(value: Tensor) -> None:
            found[kind] = value.detach()
            if len(found) == len(what):
                use(layer, dict(found))
                found.clear()
                seen.append(layer)

        return collect

    chosen = range(describe(model).n_layers) if layers is None else layers
    hooks = [(site_name(kind, layer), keep(kind, layer)) for layer in chosen for kind in what]
    final = final_residual(model, tokens, hooks)
    if lacking := [layer for layer in chosen if layer not in seen]:
        raise UnsupportedError(
            f"Expected {', '.join(what)} of layer {lacking[0]}, got a layer that does not show them all (one without "
            "attention?); use a method that does not read them."
        )
    return final
