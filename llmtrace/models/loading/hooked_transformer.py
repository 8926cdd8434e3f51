"""A Hugging Face model -> `HookedTransformer` (transformer-lens 3.9), with the weights laid out for speed."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from llmtrace.errors import UnsupportedError
from llmtrace.models.loading.families import FAMILIES, hooked_options
from llmtrace.models.loading.memory_layout import lay_out
from llmtrace.models.loading.quiet_libraries import hooked_transformer_is_welcome


def hooked_transformer_exists() -> bool:
    """True under transformer-lens 3.9, False under 4.x, which removed the class."""
    try:
        from transformer_lens import HookedTransformer  # noqa: F401
    except ImportError:
        return False
    return True


def require_hooked_transformer() -> None:
    """Refuse backend='hooked' where the class is gone."""
    if not hooked_transformer_exists():
        raise UnsupportedError(
            "backend='hooked' needs HookedTransformer, which transformer-lens 4 removed; use backend='auto' or "
            "'bridge', or install transformer-lens 3.9."
        )


def hooked_from_hugging_face(
    hf: Any,
    architecture: str,
    *,
    name: str,
    tokenizer: Any | None,
    dtype: torch.dtype,
    device: torch.device,
    n_ctx: int | None,
    flags: dict[str, bool],
) -> Any:
    """Build, fill and process a HookedTransformer. The Hugging Face model is read, never changed, never aliased.

    Cost: the processed weights stand beside the source, so about twice the weights at the peak, on the CPU; the result
    alone goes to `device`.

    Raises:
        UnsupportedError: `HookedTransformer` cannot compute this architecture.
    """
    from transformer_lens import HookedTransformer, HookedTransformerConfig
    from transformer_lens.pretrained import weight_conversions
    from transformer_lens.weight_processing import ProcessWeights

    options = hooked_options(architecture, hf.config)
    folded = options["normalization_type"] + ("Pre" if flags["fold_ln"] else "")
    cfg = HookedTransformerConfig.from_dict(
        {"default_prepend_bos": True}
        | options
        | {
            "n_ctx": min(n_ctx or options["n_ctx"], options["n_ctx"]),
            "d_vocab": hf.get_output_embeddings().weight.shape[0],
            "normalization_type": folded,
            "model_name": name,
            "dtype": dtype,
            "device": "cpu",
            "init_weights": False,
            "tokenizer_name": None,
        }
    )
    convert = getattr(weight_conversions, FAMILIES[architecture][1])
    with torch.no_grad():
        with hooked_transformer_is_welcome():
            model = HookedTransformer(cfg, tokenizer=tokenizer, move_to_device=False)
        state = {key: value.detach().to("cpu", dtype) for key, value in convert(hf, cfg).items()}
        state = ProcessWeights.process_weights(model.fill_missing_keys(state), cfg, **flags)
        # assigned, not copied: `load_and_process_state_dict` would copy, key by key over all modules
        model.load_state_dict(state, strict=False, assign=True)
        del state
        _part_from(hf, model)
        model.to(device)
        lay_out(model)
    return model


def _part_from(hf: nn.Module, model: nn.Module) -> None:
    """Weights that processing left alone still live in the source's memory: give them their own."""
    theirs = {parameter.untyped_storage().data_ptr() for parameter in hf.parameters()}
    for parameter in model.parameters():
        if parameter.untyped_storage().data_ptr() in theirs:
            parameter.data = parameter.data.clone(memory_format=torch.contiguous_format)
