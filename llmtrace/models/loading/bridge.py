"""A Hugging Face model -> `TransformerBridge` in compatibility mode: the same named activations, 3.9 and 4.x alike."""

from __future__ import annotations

from typing import Any

from llmtrace.errors import UnsupportedError
from llmtrace.models.blocks import block_of, mlp_width
from llmtrace.models.tokenizers import starts_with_bos


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

    # Hugging Face spells some classes otherwise than the files on the hub, which TransformerLens has them from (PhiMoE)
    spelt = {known.casefold(): known for known in SUPPORTED_ARCHITECTURES}
    known = architecture if architecture in SUPPORTED_ARCHITECTURES else spelt.get(architecture.casefold())
    if known is None:
        raise UnsupportedError(
            f"TransformerLens has no TransformerBridge for {architecture}; expected a language model of one of its "
            f"{len(SUPPORTED_ARCHITECTURES)} architectures, such as GPT2LMHeadModel or LlamaForCausalLM."
        )
    # fused attention returns no pattern, so the hooks on it would never fire
    hf.set_attn_implementation("eager")
    hf.config.architectures = [known]
    bridge = build_bridge_from_module(hf, known, hf_config=hf.config, tokenizer=tokenizer, model_name=name)
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
    _complete_configuration(bridge, architecture)
    return bridge, flags


def _one_dtype(bridge: Any) -> None:
    """Biases that folding creates are float32 in 3.9, whatever the model is; give them the dtype of the model."""
    for parameter in bridge.original_model.parameters():
        if parameter.is_floating_point() and parameter.dtype != bridge.cfg.dtype:
            parameter.data = parameter.data.to(bridge.cfg.dtype)


def has_sinks(hf: Any) -> bool:
    """Whether attention may go to a sink (gpt-oss): a row of a pattern then sums to less than 1, and a value's bias is
    not added whole."""
    return any(name.endswith("sinks") for name, _ in hf.named_parameters())


def _complete_configuration(bridge: Any, architecture: str) -> None:
    """Facts that a bridge's configuration leaves out or gets wrong."""
    cfg = bridge.cfg
    cfg.original_architecture = architecture
    cfg.use_attention_sinks = has_sinks(bridge.original_model)
    widths = {width for layer in range(cfg.n_layers) if (width := mlp_width(block_of(bridge, layer)))}
    if len(widths) == 1:  # the configuration says 4 d_model where it finds no name for it
        (cfg.d_mlp,) = widths
