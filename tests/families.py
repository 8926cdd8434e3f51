"""What works on which family of Hugging Face models: a tiny random one of each, loaded, and asked for everything.

    python tests/families.py [names...]      # measures under the installed TransformerLens, and writes the table

The table is `llmtrace/models/family_table.json`, which `llmtrace models --families` prints and whose page is
`tutorials/manual/families.md`. An entry is "" where a use works *and* gives what the model itself gives in whole hooked
passes (`slow_twins.py`), else the sentence that refuses it. Nothing else is possible: another ending, or a number that
is off, is an error of this script and of the test that measures a part of the table again.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable
from typing import Any

import torch
from slow_twins import ablated, activation_patched, metric_of_run, path_patched
from tiny import CONTEXT, GROUPED, HEADS, HIDDEN, LAYERS, LLAMA_SHAPE, VOCAB, WIDTH, prompts
from torch import Tensor

from llmtrace import circuits, influence, interventions, models, signals
from llmtrace.errors import LLMTraceError
from llmtrace.interventions.engine.changes import Site
from llmtrace.models.family_table import TABLE, USES, release
from llmtrace.nodes import Head

TOLERANCE = 5e-4  # of float32, relative to the metric or its change
GPT2 = {"n_embd": WIDTH, "n_layer": LAYERS, "n_head": HEADS, "n_positions": CONTEXT, "n_inner": HIDDEN}
EVERY_HEAD = {"num_key_value_heads": HEADS}
HEAD = {"head_dim": WIDTH // HEADS}
WINDOW = {"sliding_window": 3}
LAYERS_OF_TWO = {**WINDOW, "layer_types": ["sliding_attention", "full_attention"]}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 8}
LOCAL_EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
LATENT = {
    "kv_lora_rank": 8, "qk_nope_head_dim": 8, "qk_rope_head_dim": 2, "v_head_dim": 4, "q_lora_rank": 12,
    "n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 8, "n_shared_experts": 1,
    "first_k_dense_replace": 1, "n_group": 1, "topk_group": 1,
}  # fmt: skip
MULTIPLIERS = {
    "embedding_multiplier": 2.0, "residual_multiplier": 0.6, "attention_multiplier": 0.4, "logits_scaling": 3.0
}  # fmt: skip
YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 16}
TWO_ROPES = {
    "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
    "full_attention": {"rope_type": "default", "rope_theta": 1e6},
}


EYES = {
    "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 28,
    "patch_size": 14,
}  # fmt: skip


def seeing(text: dict[str, Any], **options: Any) -> dict[str, Any]:
    """One that reads images too: what is asked for is its text part."""
    special = {"vocab_size": VOCAB, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    return {"text_config": special | text, "vision_config": EYES, "image_token_index": VOCAB - 1} | options


def falcon(**options: Any) -> dict[str, Any]:
    shape = {"hidden_size": WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "ffn_hidden_size": HIDDEN}
    return shape | {"bias": False, "alibi": False, "multi_query": False, "parallel_attn": True} | options


# Class of the model without its ending -> options of its configuration.
FAMILIES: dict[str, dict[str, Any]] = {
    "GPT2LMHead": GPT2,
    "GPTBigCode": GPT2,
    "OpenAIGPTLMHead": {**GPT2, "afn": "gelu"},
    "GPTNeo": {
        "hidden_size": WIDTH, "num_layers": LAYERS, "num_heads": HEADS, "intermediate_size": HIDDEN, "window_size": 4,
        "max_position_embeddings": CONTEXT, "attention_types": [[["global", "local"], 1]],
    },
    "GPTJ": {**GPT2, "rotary_dim": 2},
    "CodeGen": {**GPT2, "rotary_dim": 2},
    "GPTNeoX": {**LLAMA_SHAPE, "rotary_pct": 0.5},
    "OPT": {
        "hidden_size": WIDTH, "word_embed_proj_dim": WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
        "ffn_dim": HIDDEN, "max_position_embeddings": CONTEXT,
    },
    "XGLM": {
        "d_model": WIDTH, "num_layers": LAYERS, "attention_heads": HEADS, "ffn_dim": HIDDEN,
        "max_position_embeddings": CONTEXT,
    },
    "Bloom": {"hidden_size": WIDTH, "n_layer": LAYERS, "n_head": HEADS},
    "Falcon": falcon(multi_query=True),
    "Falcon, new decoder": falcon(new_decoder_architecture=True, num_kv_heads=2),
    "Falcon, RW": falcon(parallel_attn=False, bias=True, alibi=True),
    "Mpt": {"d_model": WIDTH, "n_layers": LAYERS, "n_heads": HEADS, "expansion_ratio": 2, "max_seq_len": CONTEXT},
    "Phi": {**LLAMA_SHAPE, **EVERY_HEAD, "partial_rotary_factor": 0.5},
    "Phi3": {**LLAMA_SHAPE, **GROUPED},
    "Phimoe": {**LLAMA_SHAPE, **GROUPED, **LOCAL_EXPERTS, "lm_head_bias": True, "attention_bias": True},
    "Llama": {**LLAMA_SHAPE, **GROUPED},
    "Llama, YaRN": {**LLAMA_SHAPE, **GROUPED, "rope_parameters": YARN},
    "Mistral": {**LLAMA_SHAPE, **GROUPED, **HEAD, **WINDOW},
    "Mixtral": {**LLAMA_SHAPE, **GROUPED, **LOCAL_EXPERTS, "sliding_window": None},
    "Ministral": {**LLAMA_SHAPE, **GROUPED, **HEAD, **LAYERS_OF_TWO},
    "Qwen2": {**LLAMA_SHAPE, **GROUPED},
    "Qwen2Moe": {**LLAMA_SHAPE, **GROUPED, **EXPERTS, "shared_expert_intermediate_size": 8},
    "Qwen3": {**LLAMA_SHAPE, **GROUPED, "head_dim": 8},
    "Qwen3Moe": {**LLAMA_SHAPE, **GROUPED, **HEAD, **EXPERTS},
    "Qwen3Next": {
        **LLAMA_SHAPE, **GROUPED, **EXPERTS, "head_dim": 8, "num_hidden_layers": 4, "full_attention_interval": 4,
        "shared_expert_intermediate_size": 8, "linear_num_value_heads": 4, "linear_num_key_heads": 2,
        "linear_key_head_dim": 4, "linear_value_head_dim": 4,
    },
    "Gemma": {**LLAMA_SHAPE, **GROUPED, **HEAD},
    "Gemma2": {**LLAMA_SHAPE, **GROUPED, **HEAD, **WINDOW, "query_pre_attn_scalar": 6},
    "Gemma3": {**LLAMA_SHAPE, **GROUPED, **HEAD, **LAYERS_OF_TWO, "rope_parameters": TWO_ROPES},
    "Gemma4": {
        **LLAMA_SHAPE, **GROUPED, **HEAD, **LAYERS_OF_TWO, "global_head_dim": 8, "hidden_size_per_layer_input": 0,
        "vocab_size_per_layer_input": VOCAB, "num_kv_shared_layers": 0,
    },
    "VaultGemma": {**LLAMA_SHAPE, **GROUPED, **HEAD, **WINDOW},
    "Olmo": {**LLAMA_SHAPE, **GROUPED, "clip_qkv": 1.0},
    "Olmo2": {**LLAMA_SHAPE, **GROUPED},
    "Olmo3": {**LLAMA_SHAPE, **GROUPED, **LAYERS_OF_TWO},
    "SmolLM3": {**LLAMA_SHAPE, **GROUPED, "no_rope_layers": [1, 0]},
    "Granite": {**LLAMA_SHAPE, **GROUPED, **MULTIPLIERS},
    "Cohere": {**LLAMA_SHAPE, **GROUPED, "logit_scale": 0.25},
    "StableLm": {**LLAMA_SHAPE, **GROUPED, "use_qkv_bias": True, "partial_rotary_factor": 0.5},
    "Starcoder2": {**LLAMA_SHAPE, **GROUPED, **WINDOW},
    "GptOss": {**LLAMA_SHAPE, **GROUPED, **HEAD, **LAYERS_OF_TWO, **LOCAL_EXPERTS, "rope_parameters": YARN},
    "DeepseekV2": {**LLAMA_SHAPE, **EVERY_HEAD, **LATENT},
    "Glm": {**LLAMA_SHAPE, **GROUPED, **HEAD, "attention_bias": True},
    "Glm4": {**LLAMA_SHAPE, **GROUPED, **HEAD, "attention_bias": True},
    "Exaone4": {**LLAMA_SHAPE, **GROUPED, **HEAD, **LAYERS_OF_TWO},
    "Helium": {**LLAMA_SHAPE, **GROUPED, **HEAD},
    "Nemotron": {**LLAMA_SHAPE, **GROUPED, **HEAD},
    "Ernie4_5": {**LLAMA_SHAPE, **GROUPED, **HEAD},
    "Lfm2": {**LLAMA_SHAPE, **GROUPED, "layer_types": ["conv", "full_attention"]},
    "Mamba": {"hidden_size": WIDTH, "num_hidden_layers": LAYERS, "state_size": 4, "expand": 2, "time_step_rank": 4},
    "Apertus": {**LLAMA_SHAPE, **GROUPED},
    "Arcee": {**LLAMA_SHAPE, **GROUPED, **HEAD},
    "BitNet": {**LLAMA_SHAPE, **GROUPED},
    "DiffLlama": {**LLAMA_SHAPE, **GROUPED, **HEAD},
    "Persimmon": {**LLAMA_SHAPE, **EVERY_HEAD},
    "Gemma3ForConditionalGeneration": seeing(
        {**LLAMA_SHAPE, **GROUPED, **HEAD, **LAYERS_OF_TWO}, mm_tokens_per_image=4, image_token_id=VOCAB - 1
    ),
    "Gemma4ForConditionalGeneration": {
        "text_config": {
            **LLAMA_SHAPE, **GROUPED, **HEAD, **LAYERS_OF_TWO, "global_head_dim": 8, "hidden_size_per_layer_input": 0,
            "vocab_size_per_layer_input": VOCAB, "num_kv_shared_layers": 0, "vocab_size": VOCAB, "pad_token_id": 0,
        }
    },
    "Mistral3ForConditionalGeneration": seeing(
        {**LLAMA_SHAPE, **GROUPED, **HEAD, "model_type": "mistral", "sliding_window": None}
    ),
    "LlavaForConditionalGeneration": seeing({**LLAMA_SHAPE, **GROUPED, "model_type": "llama"}),
    "Cwm": {**LLAMA_SHAPE, **GROUPED, **HEAD, **LAYERS_OF_TWO},
}  # fmt: skip


def source(name: str) -> Any:
    """A random Hugging Face model in float32: gains around what the file calls one, everything else around zero."""
    import transformers

    stem = name.partition(",")[0]
    kind = f"{stem}Model" if stem.endswith("LMHead") else stem if "For" in stem else f"{stem}ForCausalLM"
    found = getattr(transformers, kind)
    special = {"vocab_size": VOCAB, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    options = FAMILIES[name]
    config = found.config_class(**options if "text_config" in options else special | options)
    model = found._from_config(config, attn_implementation="eager").float().eval()
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for path, weight in model.named_parameters():
            noise = 0.3 * torch.randn(weight.shape, generator=generator)
            is_norm = weight.ndim == 1 and path.endswith("weight") and ("norm" in path.lower() or "ln" in path)
            if not path.endswith(("A_log", "dt_bias")):
                weight.copy_(weight.mean().round() + noise if is_norm else noise)
    return model


# --- what is asked, each against the model itself --------------------------------------------------------------------


def close(found: Tensor, expected: Tensor, scale: float) -> None:
    worst = (found - expected).abs().max().item()
    assert worst <= TOLERANCE * max(1.0, scale), f"off by {worst:.2g} at {scale:.2g}"


def streams(model: Any) -> None:
    trace = signals.capture(model, prompts(), what="resid_post")
    assert len(list(trace)) == models.describe(model).n_layers


def patterns(model: Any) -> None:
    trace = signals.capture(model, prompts(), what="pattern", layers=_attention(model))
    for name in trace:
        assert trace[name].sum(-1).max() < 1 + TOLERANCE


def direct_attribution(model: Any) -> None:
    found = influence.direct_logit_attribution(model, prompts())
    close(found.values.sum(0), found.total, found.values.abs().sum(0).max().item())


def decompx(model: Any) -> None:
    found = influence.decompx(model, prompts())
    close(found.values.sum(-1), found.total, found.values.abs().sum(-1).max().item())


def alti(model: Any) -> None:
    found = influence.alti(model, prompts()).values
    assert (found >= 0).all()
    close(found.sum(-1), torch.ones(found.shape[:-1]), 1.0)


def gradients(model: Any) -> None:
    found = influence.METHODS["integrated_gradients"](model, prompts(), steps=64)
    assert found.values.isfinite().all() and found.values.abs().max() > 0


def head_ablation(model: Any) -> None:
    found = interventions.ablate(model, prompts(), _heads(model), ablation="zero").after
    twins = [ablated(model, prompts(), [head], ablation="zero") for head in _heads(model)]
    close(found, torch.stack(twins), found.abs().max().item())


def patching(model: Any) -> None:
    layers = _attention(model)
    found = interventions.patch_sweep(model, prompts(), "attn_out", by="layer", layers=layers)
    twins = [activation_patched(model, prompts(), [Site("attn_out", layer)], "denoising") for layer in layers]
    close(found.after, torch.stack(twins), found.after.abs().max().item())


def path_patching(model: Any) -> None:
    found = interventions.path_patch(model, prompts(), senders=_heads(model), convention="heads_frozen").after
    twins = [path_patched(model, prompts(), head, convention="heads_frozen") for head in _heads(model)]
    close(found, torch.stack(twins), found.abs().max().item())


def edges(model: Any) -> None:
    p, graph = prompts(), circuits.Graph.of(model)
    whole = circuits.run_circuit(model, p, circuits.Circuit(graph, graph.real))
    close(whole, metric_of_run(model, p), whole.abs().max().item())
    assert circuits.eap(model, p).per_prompt.abs().max() > 0


def _attention(model: Any) -> list[int]:
    """The layers that have attention; every one where none does, so that it is said."""
    layers = range(models.describe(model).n_layers)
    return [layer for layer in layers if f"blocks.{layer}.attn.hook_pattern" in model.hook_dict] or list(layers)


def _heads(model: Any) -> list[Head]:
    layers = _attention(model)
    return [Head(layers[0], 1), Head(layers[-1], 2)]


ASKED: dict[str, Callable[[Any], None]] = dict(
    zip(
        USES,
        (streams, patterns, direct_attribution, decompx, alti, gradients, head_ablation, patching, path_patching,
         edges),
        strict=True,
    )
)  # fmt: skip


def measured(name: str) -> dict[str, Any]:
    """The row of one family: how it loads, and for each use "" or why not."""
    try:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            model = models.load(source(name))
    except LLMTraceError as refused:
        return {"loads": "", "refused": _sentence(refused)}
    row: dict[str, Any] = {"loads": "TransformerBridge" if models.is_bridge(model) else "HookedTransformer"}
    if raw := [str(warning.message) for warning in told if "unprocessed" in str(warning.message)]:
        row["loads"] += ", unprocessed"
        row["why"] = raw[0].splitlines()[0]
    for use, ask in ASKED.items():
        try:
            with torch.no_grad() if use != "gradients" else torch.enable_grad(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                ask(model)
        except LLMTraceError as refused:
            row[use] = _sentence(refused)
        except Exception as raw:
            raise RuntimeError(f"{name}, {use}: {type(raw).__name__}") from raw
        else:
            row[use] = ""
    return row


def _sentence(error: LLMTraceError) -> str:
    return str(error).splitlines()[0]


def main(names: list[str]) -> None:
    import transformers

    transformers.logging.set_verbosity_error()
    known = json.loads(TABLE.read_text()) if TABLE.exists() else {}
    rows = known.setdefault(release(), {})
    for name in names or FAMILIES:
        rows[name] = measured(name)
        print(name, rows[name]["loads"], *(use for use in USES if rows[name].get(use)), sep=" | ", flush=True)
    known[release()] = {name: rows[name] for name in FAMILIES if name in rows}
    TABLE.write_text(json.dumps(dict(sorted(known.items())), indent=1) + "\n")
    print("Written; now: llmtrace models --families --markdown > tutorials/manual/families.md")


if __name__ == "__main__":
    main(sys.argv[1:])
