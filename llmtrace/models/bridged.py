"""A Hugging Face model -> `TransformerBridge` in compatibility mode: the same named activations, 3.9 and 4.x alike."""

from __future__ import annotations

from typing import Any

from torch import nn

from llmtrace.errors import UnsupportedError


def bridge_from_hugging_face(
    hf: nn.Module,
    architecture: str,
    *,
    name: str,
    tokenizer: Any | None,
    n_ctx: int | None,
    flags: dict[str, bool],
) -> Any:
    """Wrap `hf` in place: its weights are processed and its modules replaced, so hand over a copy you can spare.

    Raises:
        UnsupportedError: TransformerLens has no bridge for this architecture.
    """
    from transformer_lens.factories.architecture_adapter_factory import SUPPORTED_ARCHITECTURES
    from transformer_lens.model_bridge.sources import build_bridge_from_module

    if architecture not in SUPPORTED_ARCHITECTURES:
        raise UnsupportedError(
            f"TransformerLens has no TransformerBridge for {architecture}; expected a language model of one of its "
            f"{len(SUPPORTED_ARCHITECTURES)} architectures, such as GPT2LMHeadModel or LlamaForCausalLM."
        )
    # fused attention returns no pattern, so the hooks on it would never fire
    hf.set_attn_implementation("eager")
    hf.config.architectures = [architecture]
    bridge = build_bridge_from_module(hf, architecture, hf_config=hf.config, tokenizer=tokenizer, model_name=name)
    if n_ctx is not None:
        bridge.cfg.n_ctx = min(n_ctx, bridge.cfg.n_ctx)
    bridge.enable_compatibility_mode(disable_warnings=True, no_processing=not any(flags.values()), **flags)
    return bridge
