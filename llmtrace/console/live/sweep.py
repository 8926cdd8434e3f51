"""A patch sweep: activations of the clean run replaced by the other prompt's, one at a time, a row for each layer."""

from __future__ import annotations

from collections.abc import Callable

from llmtrace.console.live.run import LiveRun
from llmtrace.console.schemas import Sweep
from llmtrace.errors import not_one_of
from llmtrace.interventions import patch_sweep
from llmtrace.models import TraceModel, describe
from llmtrace.progress import track

SITES = {
    "resid_pre": "the stream that enters a layer, at one token",
    "attn_out": "what a layer's attention writes, at one token",
    "mlp_out": "what a layer's MLP writes, at one token",
    "z": "one head, at all tokens",
}
CALLS = 8
Emit = Callable[[int, list[float]], None]


def blocks(n_layers: int) -> list[list[int]]:
    """Layers that are patched in one call: each call runs both prompts again, and brings its rows at its end."""
    step = -(-n_layers // CALLS)
    return [[*range(first, min(first + step, n_layers))] for first in range(0, n_layers, step)]


def sweep(model: TraceModel, run: LiveRun, site: str, *, emit: Emit) -> Sweep:
    if site not in SITES:
        raise not_one_of("site", SITES, site[:40])
    arch, values, effects = describe(model), list[list[float]](), None
    for layers in track(blocks(arch.n_layers), f"patching {site}"):
        effects = patch_sweep(model, run.prompts, site, layers=layers, direction="noising")
        for layer, row in zip(layers, effects.mean().unflatten(0, (len(layers), -1)).tolist(), strict=True):
            values.append(row)
            emit(layer, row)
    assert effects is not None and effects.other is not None
    tokens = [token.text for token in run.about.clean.tokens]
    return Sweep(
        run=run.id, site=site, rows=[str(layer) for layer in range(arch.n_layers)],
        columns=[f"h{head}" for head in range(arch.n_heads)] if site == "z" else tokens, values=values,
        before=effects.before.mean().item(), against=effects.other.mean().item(),
        passes=patch_sweep.declare(model, run.prompts, site, direction="noising").plan.passes,  # type: ignore[attr-defined]
        python=run.program.of(
            f"effects = lt.patch_sweep(model, prompts, {site!r}, direction='noising')",
            "result = effects.mean().tolist()",
        ),
    )  # fmt: skip
