"""`capture`: one forward pass that keeps the activations asked for and nothing else.

Cost: one forward pass without the unembedding. Memory: the asked tensors (at the asked positions) plus that pass.

    >>> lt.signals.capture(model, prompts, what=("pattern", "z"))
    Trace(ioi, clean: 4 prompts x 15 tokens, 8 activations of tiny-english)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from llmtrace.errors import InputError, NotFoundError, did_you_mean
from llmtrace.models import TraceModel, describe, final_residual, provenance, require_live_hooks, token_labels
from llmtrace.models.hook_names import SITES, query_axis, resolve
from llmtrace.models.memory import Memory, in_one_pass
from llmtrace.progress import track
from llmtrace.prompts import PromptSet, as_prompts
from llmtrace.prompts.choice import Choice
from llmtrace.signals.trace import Trace


@torch.no_grad()
def capture(
    model: TraceModel,
    prompts: PromptSet | str | Sequence[str],
    *,
    what: str | Sequence[str] = ("pattern", "z"),
    layers: Sequence[int] | None = None,
    positions: Choice | Int[Tensor, "batch n"] | None = None,
    side: str = "clean",
    memory: Memory = "auto",
) -> Trace:
    """Run `prompts` and keep `what`.

    what        kinds ("pattern", "scores", "q", "k", "v", "z", "resid_pre", "resid_mid", "resid_post", "attn_out",
                "mlp_pre", "mlp_post", "mlp_out", "embed", "pos_embed") or full TransformerLens names
    layers      which layers of the kinds (default: all)
    positions   keep only these: names of the prompt set ("END", "S2"), indices, or an array of `n` indices per prompt;
                of attention, the query axis
    side        "clean" or "corrupted"
    memory      for a pass beside what is kept: bytes, "300MB" or "auto"

    Raises NotFoundError for an unknown kind or position, UnsupportedError for a site the architecture lacks,
    LimitError over the context length.
    """
    prompts = as_prompts(model, prompts)
    arch = describe(model)
    layers = arch.require_layers(layers)
    names = resolve((what,) if isinstance(what, str) else tuple(what), layers, arch)
    _require_names(model, names)
    require_live_hooks(model)
    kept, kept_names = _kept_positions(prompts, positions)
    tokens = prompts.side(side)
    parts: dict[str, list[Tensor]] = {name: [] for name in names}
    at_once = in_one_pass(arch, tokens.shape[1], memory, model.W_E)
    for chunk in track(prompts.batches(at_once), "capturing"):
        where = None if kept is None else kept[chunk]
        final_residual(model, tokens[chunk], [(n, _keeper(parts[n], where, query_axis(n))) for n in names])
    _require_all_fired(parts)
    return Trace(
        activations={name: torch.cat(found) if len(found) > 1 else found[0] for name, found in parts.items()},
        tokens=tokens,
        lengths=prompts.lengths,
        labels=token_labels(model, tokens),
        kept=kept,
        kept_names=kept_names,
        side=side,
        prompts=prompts.name,
        seed=prompts.seed,
        provenance=provenance(model).as_dict(),
    )


def _keeper(into: list[Tensor], positions: Tensor | None, axis: int) -> Callable[[Tensor], None]:
    def keep(value: Tensor) -> None:
        # Selecting copies, so the pass's full tensor is freed; keeping all of it shares the pass's own tensor.
        into.append(value.detach() if positions is None else select_positions(value.detach(), positions, axis))

    return keep


def select_positions(value: Tensor, positions: Int[Tensor, "batch n"], axis: int) -> Tensor:
    """`value` at `n` positions per prompt along its position `axis`; copies."""
    if value.shape[0] != len(positions):  # position embeddings may come once for all prompts
        value = value.expand(len(positions), *value.shape[1:])
    index = positions.to(value.device)
    index = index.view(len(index), *(1,) * (axis - 1), -1, *(1,) * (value.ndim - axis - 1))
    shape = list(value.shape)
    shape[axis] = positions.shape[1]
    return torch.gather(value, axis, index.expand(shape))


def _kept_positions(
    prompts: PromptSet, positions: Choice | Int[Tensor, "batch n"] | None
) -> tuple[Int[Tensor, "batch n"] | None, tuple[str, ...]]:
    if positions is None:
        return None, ()
    if isinstance(positions, np.ndarray | Tensor) and positions.ndim == 2 and positions.dtype not in (bool, torch.bool):
        positions = torch.as_tensor(positions)
        if len(positions) != len(prompts):
            raise InputError(
                f"Expected positions of shape [{len(prompts)}, n], n indices per prompt, got {list(positions.shape)}; "
                "write at[:, None] for one index each."
            )
        if positions.numel() and not 0 <= int(positions.min()) <= int(positions.max()) < prompts.clean.shape[1]:
            raise InputError(
                f"Expected positions from 0 to {prompts.clean.shape[1] - 1}, got {int(positions.min())} to "
                f"{int(positions.max())}; count from BOS."
            )
        if bool((positions < 0).any() | (positions.cpu() >= prompts.lengths[:, None]).any()):
            raise InputError("Expected positions inside every prompt, got some in its padding; count from BOS.")
        return positions, tuple(f"#{i}" for i in range(positions.shape[1]))
    asked = prompts.chosen(positions)
    return prompts.places(asked), tuple(map(str, asked))


def _require_names(model: TraceModel, names: Sequence[str]) -> None:
    if not names:
        raise InputError("Expected at least one activation to keep, got none; say what='pattern', for instance.")
    known = list(model.hook_dict)
    for name in names:
        if name not in known:
            raise NotFoundError(
                f"Expected the name of an activation of this model, got {name!r}."
                + (did_you_mean(name, known) or f" Kinds such as {', '.join(list(SITES)[2:6])} are shorter to write.")
            )


def _require_all_fired(parts: dict[str, list[Tensor]]) -> None:
    silent = [name for name, found in parts.items() if not found]
    if silent:
        raise InputError(f"The model ran but {silent[0]!r} never fired; it is not computed before the final norm.")
