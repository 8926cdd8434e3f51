"""Families beyond the table of tiny models, whose structure no name tells: it is asked of their blocks and activations.

What is held against the model itself is right, or is refused by name.
"""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from slow_twins import read
from tiny import BACKENDS, GROUPED, HEADS, LLAMA_SHAPE, UNPROCESSED, VOCAB, WIDTH, close, hugging_face, prompts

from llmtrace import circuits, influence, interventions, models, signals
from llmtrace.circuits import Circuit, Graph
from llmtrace.errors import UnsupportedError
from llmtrace.models import describe, provenance
from llmtrace.nodes import Head

HEAD = {"head_dim": WIDTH // HEADS}
WINDOWS = {"sliding_window": 3, "layer_types": ["sliding_attention", "full_attention"]}
LATENT = {"kv_lora_rank": 8, "qk_nope_head_dim": 8, "qk_rope_head_dim": 2, "v_head_dim": 4, "q_lora_rank": 12}
MAKERS = {
    # norms behind the blocks, beside those before them (GLM 4) or instead of them (EXAONE 4, OLMo 3)
    "Glm4": {**GROUPED, **HEAD, "attention_bias": True},
    "Exaone4": {**GROUPED, **HEAD, **WINDOWS},
    "Olmo3": {**GROUPED, **WINDOWS},
    # every layer reads an embedding of the tokens again
    "Gemma4": {
        **GROUPED, **HEAD, **WINDOWS, "global_head_dim": 8, "hidden_size_per_layer_input": 4,
        "vocab_size_per_layer_input": VOCAB, "num_kv_shared_layers": 0,
    },
    # its LayerNorm's file keeps weight - 1
    "Nemotron": {**GROUPED, **HEAD},
    # heads that are not as wide where they write as where they look
    # values are clamped before they are used
    "Olmo": {**GROUPED, "clip_qkv": 1.0},
    "DeepseekV3": {
        **LATENT, "num_key_value_heads": HEADS, "first_k_dense_replace": 2, "n_routed_experts": 4, "n_group": 1,
        "topk_group": 1, "num_experts_per_tok": 2, "moe_intermediate_size": 8, "n_shared_experts": 1,
    },
}  # fmt: skip
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 8}
ERNIE = {"moe_num_experts": 4, "moe_k": 2, "moe_intermediate_size": 8, "moe_layer_start_index": 1}
ROPE = {
    "rope_type": "yarn", "rope_theta": 150000.0, "factor": 4.0, "original_max_position_embeddings": 16,
    "beta_fast": 32.0, "beta_slow": 1.0, "truncate": False,
}  # fmt: skip
SINKS = {"num_local_experts": 4, "num_experts_per_tok": 2, "rope_parameters": ROPE}
XGLM = {"d_model": WIDTH, "num_layers": 2, "attention_heads": HEADS, "ffn_dim": 24, "max_position_embeddings": 32}
MULTIPLIERS = {
    "embedding_multiplier": 2.0, "residual_multiplier": 0.6, "attention_multiplier": 0.4, "logits_scaling": 3.0
}  # fmt: skip
POST_NORM = ("Glm4", "Exaone4", "Olmo3")


@functools.cache
def model_of(name: str) -> Any:
    config = "Gemma4TextConfig" if name == "Gemma4" else None
    hf = hugging_face(name, config, **LLAMA_SHAPE, **MAKERS[name])(3)
    return models.load(hf.eval(), dtype="float64", backend="bridge", check=False, **UNPROCESSED)


@functools.cache
def mixture() -> Any:
    """In float32: transformers multiplies experts in nothing wider."""
    hf = hugging_face("Qwen3Moe", **LLAMA_SHAPE, **GROUPED, **HEAD, **EXPERTS)(3)
    return models.load(hf.float().eval(), backend="bridge")


@pytest.mark.parametrize("name", POST_NORM)
def test_norms_behind_the_blocks_are_asked_of_the_blocks(name: str) -> None:
    assert describe(model_of(name)).post_norm
    for method in (interventions.path_patch, influence.neuron_attribution, influence.decompx):
        with pytest.raises(UnsupportedError, match="post-norm"):
            method(model_of(name), prompts())


@pytest.mark.parametrize("name", POST_NORM)
def test_direct_effects_through_frozen_norms_sum_to_the_metric(name: str) -> None:
    """Law 6, where norms stand behind the blocks: a head's write is what the residual stream receives of it."""
    p = prompts(padded=True)
    found = influence.direct_logit_attribution(model_of(name), p)
    close(found.values.sum(0), found.total, 1e-5)
    logits = models.logits(model_of(name), p.clean)[torch.arange(len(p)), p.lengths - 1]
    close(found.total, p.metric("logit_diff")(logits[:, None].expand(-1, p.clean.shape[1], -1)), 1e-5)


@pytest.mark.parametrize("name", ["Nemotron", "Gemma4", "Olmo3"])
def test_a_norm_is_what_its_module_computes(name: str) -> None:
    """Whether a file keeps weight - 1 no name tells: the module is asked, and the logits are the model's own."""
    model, tokens = model_of(name), prompts().clean
    close(models.logits(model, tokens), model(tokens), 1e-5)
    assert (models.final_norm(model).weight - 1).abs().max() > 1e-2


def test_a_restarted_pass_reads_the_tokens_of_its_run_again() -> None:
    """Law 15 where layers read the tokens too: the stream of the other run gives the other run, with its tokens."""
    model, p = model_of("Gemma4"), prompts()
    other = models.final_residual(model, p.corrupted)
    for layer in range(2):
        name = f"blocks.{layer}.hook_resid_pre"
        stream = read(model, p.corrupted, [name])[name]
        close(models.resume(model, stream, layer, tokens=p.corrupted), other, 1e-5)
        twice = models.resume(model, stream.repeat(2, 1, 1), layer, tokens=p.corrupted)
        close(twice, other.repeat(2, 1, 1), 1e-5)
        assert (models.resume(model, stream, layer, tokens=p.clean) - other).abs().max() > 1e-3


def test_a_head_that_is_something_else_is_refused() -> None:
    """Latent attention: what the bridge shows is not [batch pos head d_head], and half a head is no head."""
    model, p = model_of("DeepseekV3"), prompts()
    with pytest.raises(UnsupportedError, match=r"Expected blocks\.0\.attn\.hook_z as \[batch pos head d_head\]"):
        interventions.ablate(model, p, ["0.1"])
    with pytest.raises(UnsupportedError, match="Expected W_Q in layer 0 of this model, got a layer of another kind"):
        influence.direct_logit_attribution(model, p)
    assert interventions.patch_sweep(model, p, "attn_out").change.abs().max() > 1e-4


@pytest.mark.parametrize("backend", BACKENDS)
def test_multipliers_fold_into_the_weights(backend: str) -> None:
    """Granite is a Llama, equal to its source, whose writes add up."""
    hf = hugging_face("Granite", **LLAMA_SHAPE, **GROUPED, **MULTIPLIERS)(3).double().eval()
    model: Any = models.load(hf, dtype="float64", backend=backend)
    assert provenance(model).flags["fold_multipliers"] and hf.config.residual_multiplier == 0.6
    ours = models.logits(model, prompts().clean).log_softmax(-1)
    close(ours, hf(prompts().clean, use_cache=False).logits.log_softmax(-1).detach(), 1e-6)
    found = influence.decompx(model, prompts())
    close(found.values.sum(-1), found.total, 1e-5)


def test_what_stands_between_values_and_their_use_is_refused() -> None:
    """OLMo's clamp: no token of the probe need reach it, values made large do. What runs whole passes works."""
    model, p = model_of("Olmo"), prompts()
    for method in (influence.decompx, influence.alti, influence.source_token_attribution):
        with pytest.raises(UnsupportedError, match="something between its values and what its heads write"):
            method(model, p)
    found = influence.direct_logit_attribution(model, p)
    close(found.values.sum(0), found.total, 1e-5)


def test_a_mixture_of_experts_has_all_that_does_not_read_through_an_mlp() -> None:
    model, p = mixture(), prompts(padded=True)
    found = influence.direct_logit_attribution(model, p)
    close(found.values.sum(0), found.total, 1e-4)
    sources = influence.source_token_attribution(model, p)
    close(sources.values.sum(-1), found.values[[found.nodes.index(head) for head in sources.nodes]], 1e-4)
    close(influence.token_attribution(model, p).values.sum(-1), influence.token_attribution(model, p).total, 1e-4)
    for method in (influence.alti, influence.value_weighted_norms, influence.flow_routes):
        assert method(model, p) is not None
    straight = interventions.path_patch(model, p, convention="all_frozen")
    moved = interventions.ablate(model, p, ["1.0"], ablation="resample")
    assert moved.direct is not None
    close(straight.change[straight.nodes.index((Head(1, 0),))], moved.direct[0] - moved.before, 1e-4)
    for method in (interventions.path_patch, influence.decompx, influence.neuron_attribution, lambda m, _: Graph.of(m)):
        with pytest.raises(UnsupportedError, match="mixture of experts"):
            method(model, p)


def test_attention_sinks_take_their_share() -> None:
    """gpt-oss: rows of a pattern sum to less than 1, so a value's bias is not folded; writes add up all the same."""
    hf = hugging_face("GptOss", **LLAMA_SHAPE, **GROUPED, **HEAD, **WINDOWS, **SINKS)(3).float().eval()
    model, p = models.load(hf, backend="bridge"), prompts(padded=True)
    assert not provenance(model).flags["fold_value_biases"] and describe(model).sinks
    rows = signals.attention_pattern(signals.capture(model, p, what="pattern"), 0).sum(-1)
    assert rows.max() < 1 and rows.min() > 0
    found = influence.direct_logit_attribution(model, p)
    close(found.values.sum(0), found.total, 1e-4)
    assert not influence.rollout(model, p).rows_sum_to_one


def test_a_model_whose_weights_do_not_stand_processing_is_loaded_as_it_is() -> None:
    hf = hugging_face("Ernie4_5_Moe", **LLAMA_SHAPE, **GROUPED, **ERNIE)(3).float().eval()
    with pytest.warns(UserWarning, match="is loaded with its weights as they are"):
        model: Any = models.load(hf, backend="bridge")
    assert not any(provenance(model).flags.values())
    ours = models.logits(model, prompts().clean).log_softmax(-1)
    close(ours, hf(prompts().clean, use_cache=False).logits.log_softmax(-1).detach(), 1e-4)


def test_an_mlp_that_is_no_module_of_its_own_is_run_by_itself() -> None:
    """XGLM's (and OPT's) two products are modules of the layer: running the module that the bridge names ran it all."""
    hf = hugging_face("XGLM", **XGLM)(3)
    model, p = models.load(hf.float().eval(), backend="bridge"), prompts()  # it runs in no wider type
    assert describe(model).d_mlp == XGLM["ffn_dim"]
    whole = circuits.run_circuit(model, p, Circuit.full(Graph.of(model)))
    logits = models.logits(model, p.clean)
    close(whole, p.metric("logit_diff")(logits), 1e-4)


def test_layers_that_show_no_pattern_are_refused_by_what_reads_it() -> None:
    hf = hugging_face("Lfm2", **LLAMA_SHAPE, **GROUPED, layer_types=["conv", "full_attention"])(3)
    model = models.load(hf.float().eval(), backend="bridge")
    with pytest.raises(
        UnsupportedError,
        match=r"layer 0, got a layer|shows no blocks\.0",
    ):
        influence.rollout(model, prompts())


def test_multipliers_of_a_mixture_fold_too() -> None:
    """transformers multiplies experts in float32 at most."""
    experts = {"num_local_experts": 4, "num_experts_per_tok": 2}
    hf = hugging_face("GraniteMoe", **LLAMA_SHAPE, **GROUPED, **MULTIPLIERS, **experts)(3).eval()
    model: Any = models.load(hf.float(), backend="bridge")
    ours = models.logits(model, prompts().clean).log_softmax(-1)
    close(ours, hf(prompts().clean, use_cache=False).logits.log_softmax(-1).detach(), 1e-5)
