"""The stages of the residual stream: before each layer, between attention and MLP where that point exists, final."""

from __future__ import annotations

from llmtrace.models import Architecture
from llmtrace.models.hook_names import site_name


def stream_stages(arch: Architecture) -> dict[str, str]:
    """The hook name of each stage by its own name: `0_pre`, `0_mid`, `1_pre`, ..., `final`."""
    kinds = ("resid_pre",) if arch.parallel or arch.attn_only else ("resid_pre", "resid_mid")
    stages = {f"{layer}_{kind.removeprefix('resid_')}": site_name(kind, layer)
              for layer in range(arch.n_layers) for kind in kinds}  # fmt: skip
    return stages | {"final": site_name("resid_post", arch.n_layers - 1)}


def stage_label(stage: str) -> str:
    """`0_mid` as it is read: `mid 0`."""
    layer, _, kind = stage.partition("_")
    return f"{kind} {layer}" if kind else stage
