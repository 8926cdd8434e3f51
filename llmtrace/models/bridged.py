"""A Hugging Face model -> `TransformerBridge` in compatibility mode: the same named activations, 3.9 and 4.x alike."""

from __future__ import annotations

from typing import Any

from llmtrace.errors import UnsupportedError
from llmtrace.models.tokenizers import starts_with_bos

POST_NORM = ("Gemma2ForCausalLM", "Gemma3ForCausalLM")


def bridge_from_hugging_face(
    hf: Any,
    architecture: str,
    *,
    name: str,
    tokenizer: Any | None,
    n_ctx: int | None,
    flags: dict[str, bool],
) -> tuple[Any, dict[str, bool]]:
    """The bridge, and the flags in force: those asked for, less what this architecture cannot bear.

    `hf` is wrapped in place: its weights are processed and its modules replaced, so hand over a copy you can spare.

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
    if tokenizer is not None:
        bridge.cfg.tokenizer_prepends_bos = starts_with_bos(bridge.tokenizer)
    if n_ctx is not None:
        bridge.cfg.n_ctx = min(n_ctx, bridge.cfg.n_ctx)
    flags = flags | {
        flag: flags[flag] and getattr(bridge.adapter, f"supports_{flag}", True)
        for flag in ("fold_ln", "center_writing_weights")
    }
    bridge.enable_compatibility_mode(disable_warnings=True, no_processing=not any(flags.values()), **flags)
    _one_dtype(bridge)
    _complete_configuration(bridge.cfg, architecture, hf.config)
    return bridge, flags


def _one_dtype(bridge: Any) -> None:
    """Biases that folding creates are float32 in 3.9, whatever the model is; give them the dtype of the model."""
    for parameter in bridge.original_model.parameters():
        if parameter.is_floating_point() and parameter.dtype != bridge.cfg.dtype:
            parameter.data = parameter.data.to(bridge.cfg.dtype)


def _complete_configuration(cfg: Any, architecture: str, config: Any) -> None:
    """Facts that a bridge's configuration leaves out or gets wrong."""
    cfg.original_architecture = architecture
    if architecture in POST_NORM:
        cfg.use_normalization_before_and_after = True
    if architecture == "OPTForCausalLM":
        cfg.d_mlp = config.ffn_dim
