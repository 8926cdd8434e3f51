"""Hugging Face configuration -> `HookedTransformerConfig`, decided by the architecture and by nothing else.

TransformerLens decides by the *name* of a model (`"llama" in name`), which is wrong for a folder called anything and
impossible for Gemma. Here each family is a function of its configuration; the weight conversions are TransformerLens'.
What a family cannot express (a bias, a scaled rotary embedding of another kind) is refused: those models load as a
`TransformerBridge`. A wrong entry cannot pass: every load is compared with its source (`check.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llmtrace.errors import UnsupportedError

Config = Any
Options = dict[str, Any]

ACTIVATIONS = {  # Hugging Face name -> TransformerLens name
    "gelu": "gelu", "gelu_new": "gelu_new", "gelu_fast": "gelu_fast", "gelu_pytorch_tanh": "gelu_pytorch_tanh",
    "relu": "relu", "relu2": "relu2", "silu": "silu", "swish": "silu",
}  # fmt: skip


def gpt2(c: Config) -> Options:
    _refuse(c, "add_cross_attention", "cross-attention")
    return _layer_norm(c, c.n_positions, c.activation_function, c.layer_norm_epsilon, c.n_inner) | {
        "use_attn_scale": c.scale_attn_weights,
        "scale_attn_by_inverse_layer_idx": c.scale_attn_by_inverse_layer_idx,
    }


def gpt_neo(c: Config) -> Options:
    return _layer_norm(
        c, c.max_position_embeddings, c.activation_function, c.layer_norm_epsilon, c.intermediate_size
    ) | {
        "use_attn_scale": False,
        "use_local_attn": True,
        "window_size": c.window_size,
        "attn_types": list(c.attention_layers),
    }


def gptj(c: Config) -> Options:
    return _layer_norm(c, c.n_positions, c.activation_function, c.layer_norm_epsilon, c.n_inner) | {
        "parallel_attn_mlp": True,
        "positional_embedding_type": "rotary",
        "rotary_dim": c.rotary_dim or c.n_embd // c.n_head,
        "rotary_adjacent_pairs": True,
    }


def gpt_neox(c: Config) -> Options:
    if not getattr(c, "attention_bias", True):
        raise _unsupported("GPT-NeoX without attention biases")
    rope = _rope(c)
    head = c.hidden_size // c.num_attention_heads
    return (
        _layer_norm(c, c.max_position_embeddings, c.hidden_act, c.layer_norm_eps, c.intermediate_size)
        | {
            "parallel_attn_mlp": c.use_parallel_residual,
            "positional_embedding_type": "rotary",
            "rotary_adjacent_pairs": False,
            "default_prepend_bos": False,
        }
        | rope
        | {"rotary_dim": int(head * _partial_rotary(c, default=0.25))}
    )


def opt(c: Config) -> Options:
    if not c.do_layer_norm_before or c.word_embed_proj_dim != c.hidden_size or not c.enable_bias:
        raise _unsupported("OPT with norms after the blocks, projected embeddings or no biases")
    return _layer_norm(c, c.max_position_embeddings, c.activation_function, 1e-5, c.ffn_dim)


def bloom(c: Config) -> Options:
    _refuse(c, "apply_residual_connection_post_layernorm", "post-LayerNorm residual connections")
    return _layer_norm(c, 2048, "gelu_fast", c.layer_norm_epsilon, 4 * c.hidden_size) | {
        "post_embedding_ln": True,
        "positional_embedding_type": "alibi",
        "default_prepend_bos": False,
    }


def phi(c: Config) -> Options:
    _refuse(c, "qk_layernorm", "normed queries and keys")
    head = c.hidden_size // c.num_attention_heads
    return (
        _layer_norm(c, c.max_position_embeddings, c.hidden_act, c.layer_norm_eps, c.intermediate_size)
        | {
            "parallel_attn_mlp": True,
            "positional_embedding_type": "rotary",
            "rotary_adjacent_pairs": False,
            "default_prepend_bos": False,
        }
        | _rope(c)
        | {"rotary_dim": int(head * _partial_rotary(c, default=0.5))}
    )


def phi3(c: Config) -> Options:
    if _partial_rotary(c, default=1.0) != 1.0:
        raise _unsupported("Phi-3 with a partial rotary embedding")
    return _rms_norm(c)


def llama(c: Config) -> Options:
    _refuse(c, "attention_bias", "attention biases")
    _refuse(c, "mlp_bias", "MLP biases")
    return _rms_norm(c)


def mistral(c: Config) -> Options:
    return _rms_norm(c) | {"n_key_value_heads": c.num_key_value_heads}


def qwen2(c: Config) -> Options:
    return _rms_norm(c) | {"n_key_value_heads": c.num_key_value_heads, "default_prepend_bos": False}


def qwen3(c: Config) -> Options:
    _refuse(c, "attention_bias", "attention biases")
    return _rms_norm(c) | {"use_qk_norm": True, "default_prepend_bos": False}


def gemma(c: Config) -> Options:
    _refuse(c, "attention_bias", "attention biases")
    # its hidden_act says "gelu" on the hub and means the tanh form, which is what hidden_activation is for
    activation = getattr(c, "hidden_activation", None) or "gelu_pytorch_tanh"
    return _rms_norm(c, activation) | {"n_key_value_heads": c.num_key_value_heads}


def gemma2(c: Config) -> Options:
    return gemma(c) | {
        "attn_scale": c.query_pre_attn_scalar**0.5,
        "attn_scores_soft_cap": c.attn_logit_softcapping or -1.0,
        "output_logits_soft_cap": c.final_logit_softcapping or -1.0,
        "use_normalization_before_and_after": True,
    }


def gemma3(c: Config) -> Options:
    _refuse(c, "use_bidirectional_attention", "bidirectional attention")
    return gemma2(c) | {"use_qk_norm": True}


FAMILIES: dict[
    str, tuple[Callable[[Config], Options], str]
] = {  # architecture: configuration, TransformerLens' weights
    "GPT2LMHeadModel": (gpt2, "convert_gpt2_weights"),
    "GPTNeoForCausalLM": (gpt_neo, "convert_neo_weights"),
    "GPTJForCausalLM": (gptj, "convert_gptj_weights"),
    "GPTNeoXForCausalLM": (gpt_neox, "convert_neox_weights"),
    "OPTForCausalLM": (opt, "convert_opt_weights"),
    "BloomForCausalLM": (bloom, "convert_bloom_weights"),
    "LlamaForCausalLM": (llama, "convert_llama_weights"),
    "GraniteForCausalLM": (llama, "convert_llama_weights"),  # its multipliers are folded first (multipliers.py)
    "MistralForCausalLM": (mistral, "convert_mistral_weights"),
    "Qwen2ForCausalLM": (qwen2, "convert_qwen2_weights"),
    "Qwen3ForCausalLM": (qwen3, "convert_qwen3_weights"),
    "PhiForCausalLM": (phi, "convert_phi_weights"),
    "Phi3ForCausalLM": (phi3, "convert_phi3_weights"),
    "GemmaForCausalLM": (gemma, "convert_gemma_weights"),
    "Gemma2ForCausalLM": (gemma2, "convert_gemma_weights"),
    "Gemma3ForCausalLM": (gemma3, "convert_gemma_weights"),
}


def hooked_options(architecture: str, config: Config) -> Options:
    """Keyword arguments of `HookedTransformerConfig`.

    Raises:
        UnsupportedError: `HookedTransformer` cannot compute this model; it names what stands in the way.
    """
    if architecture not in FAMILIES:
        raise _unsupported(architecture)
    return FAMILIES[architecture][0](config) | {"original_architecture": architecture}


def _layer_norm(c: Config, n_ctx: int, activation: str, eps: float, d_mlp: int | None) -> Options:
    """What the LayerNorm families share: plain MLP, as many key-value heads as heads."""
    return {
        "n_layers": c.num_hidden_layers,
        "n_heads": c.num_attention_heads,
        "d_model": c.hidden_size,
        "d_head": c.hidden_size // c.num_attention_heads,
        "d_mlp": d_mlp or 4 * c.hidden_size,
        "n_ctx": n_ctx,
        "eps": eps,
        "act_fn": _activation(activation),
        "normalization_type": "LN",
    }


def _rms_norm(c: Config, activation: str | None = None) -> Options:
    """What the RMSNorm families share: gated MLP, rotary positions, grouped-query attention, sliding windows."""
    d_head = getattr(c, "head_dim", None) or c.hidden_size // c.num_attention_heads
    grouped = c.num_key_value_heads != c.num_attention_heads
    return (
        {
            "n_layers": c.num_hidden_layers,
            "n_heads": c.num_attention_heads,
            "n_key_value_heads": c.num_key_value_heads if grouped else None,
            "d_model": c.hidden_size,
            "d_head": d_head,
            "d_mlp": c.intermediate_size,
            "n_ctx": c.max_position_embeddings,
            "eps": c.rms_norm_eps,
            "act_fn": _activation(activation or c.hidden_act),
            "normalization_type": "RMS",
            "final_rms": True,
            "gated_mlp": True,
            "positional_embedding_type": "rotary",
            "rotary_adjacent_pairs": False,
            "rotary_dim": d_head,
        }
        | _rope(c)
        | _windows(c)
    )


def _rope(c: Config) -> Options:
    """Rotary frequencies: one base, or one for local and one for global layers (Gemma 3)."""
    parameters = getattr(c, "rope_parameters", None) or {}
    if "full_attention" in parameters:
        local = parameters["sliding_attention"]
        if local.get("rope_type", "default") != "default":
            raise _unsupported(f"scaled rotary embeddings ({local['rope_type']}) in local layers")
        return _rope_of(parameters["full_attention"]) | {"rotary_base_local": local["rope_theta"]}
    return _rope_of(parameters)


def _rope_of(rope: dict[str, Any]) -> Options:
    base = {"rotary_base": rope.get("rope_theta", 10000.0)}
    match rope.get("rope_type", "default"):
        case "default":
            return base
        case "linear":
            return base | {"rotary_scaling_factor": float(rope["factor"])}
        case "llama3":
            return base | {
                "use_NTK_by_parts_rope": True,
                "NTK_by_parts_factor": rope["factor"],
                "NTK_by_parts_low_freq_factor": rope["low_freq_factor"],
                "NTK_by_parts_high_freq_factor": rope["high_freq_factor"],
                "NTK_original_ctx_len": rope["original_max_position_embeddings"],
            }
        case other:
            raise _unsupported(f"rotary embeddings of type {other!r}")


def _windows(c: Config) -> Options:
    """Sliding-window layers, if any."""
    window = getattr(c, "sliding_window", None)
    types = getattr(c, "layer_types", None) or ["sliding_attention"] * c.num_hidden_layers
    if not window or not getattr(c, "use_sliding_window", True) or "sliding_attention" not in types:
        return {}
    local = ["local" if kind == "sliding_attention" else "global" for kind in types]
    return {"use_local_attn": True, "window_size": window, "attn_types": local}


def _partial_rotary(c: Config, default: float) -> float:
    parameters = getattr(c, "rope_parameters", None) or {}
    return float(parameters.get("partial_rotary_factor", getattr(c, "partial_rotary_factor", None) or default))


def _activation(name: str) -> str:
    if name not in ACTIVATIONS:
        raise _unsupported(f"the activation {name!r}")
    return ACTIVATIONS[name]


def _refuse(c: Config, flag: str, what: str) -> None:
    if getattr(c, flag, False):
        raise _unsupported(what)


def _unsupported(what: str) -> UnsupportedError:
    return UnsupportedError(
        f"HookedTransformer does not compute {what}; load the model with backend='bridge', or one of "
        f"{', '.join(sorted(FAMILIES))}."
    )
