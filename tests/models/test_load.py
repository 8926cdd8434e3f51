"""`load`: every source on both classes computes what its source computes, and every bad source gets its sentence."""

from __future__ import annotations

import importlib.util
import json
import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from einops import rearrange

from llmtrace.errors import (
    CheckError,
    FileFormatError,
    InputError,
    LimitError,
    LLMTraceError,
    NotFoundError,
    NoWeightsError,
    UnsupportedError,
)
from llmtrace.models import load
from llmtrace.models.loading import families, hooked_transformer as hooked, model_names as names
from llmtrace.models.loading.check import reference_of
from llmtrace.models.loading.gguf import open_gguf
from llmtrace.models.provenance import provenance
from llmtrace.prompts import from_texts

BACKENDS = ("hooked", "bridge") if importlib.util.find_spec("transformer_lens.HookedTransformer") else ("bridge",)
CLASSES = {"hooked": "HookedTransformer", "bridge": "TransformerBridge"}
VOCAB = 50
OFF = dict.fromkeys(("fold_ln", "center_writing_weights", "center_unembed", "fold_value_biases"), False)
IDS = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0, "vocab_size": VOCAB}
GPT = IDS | {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 40}
SHAPE = IDS | {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48,
    "max_position_embeddings": 64,
}  # fmt: skip
GROUPED = {"num_key_value_heads": 2}
OWN_HEADS = {"head_dim": 12, "query_pre_attn_scalar": 20}
LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 1e4, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}  # fmt: skip
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": ("GPT2Config", GPT),
    "gpt2-variant": ("GPT2Config", GPT | {"n_inner": 50, "scale_attn_by_inverse_layer_idx": True}),
    "gpt-neo": ("GPTNeoConfig", IDS | {
        "hidden_size": 32, "num_layers": 2, "num_heads": 4, "attention_types": [[["global", "local"], 1]],
        "window_size": 4, "max_position_embeddings": 40,
    }),
    "gpt-j": ("GPTJConfig", GPT | {"rotary_dim": 4}),
    "neox": ("GPTNeoXConfig", SHAPE),
    "neox-sequential": ("GPTNeoXConfig", SHAPE | {"use_parallel_residual": False}),
    "opt": ("OPTConfig", IDS | {
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "ffn_dim": 48,
        "max_position_embeddings": 40, "word_embed_proj_dim": 32,
    }),
    "bloom": ("BloomConfig", IDS | {"hidden_size": 32, "n_layer": 2, "n_head": 4}),
    "llama": ("LlamaConfig", SHAPE | GROUPED),
    "llama-tied": ("LlamaConfig", SHAPE | {"tie_word_embeddings": True}),
    "llama-3": ("LlamaConfig", SHAPE | GROUPED | {"rope_parameters": LLAMA3}),
    "llama-linear": ("LlamaConfig", SHAPE | {
        "rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0}
    }),
    "mistral": ("MistralConfig", SHAPE | GROUPED | {"sliding_window": 4}),
    "qwen2": ("Qwen2Config", SHAPE | GROUPED),
    "qwen2-windows": ("Qwen2Config", SHAPE | GROUPED | {
        "use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1
    }),
    "qwen3": ("Qwen3Config", SHAPE | GROUPED | {"head_dim": 12}),
    "phi": ("PhiConfig", SHAPE),
    "phi3": ("Phi3Config", SHAPE | GROUPED),
    "gemma": ("GemmaConfig", SHAPE | GROUPED | {"head_dim": 12}),
    "gemma2": ("Gemma2Config", SHAPE | GROUPED | OWN_HEADS | {"sliding_window": 4}),
    "gemma3": ("Gemma3TextConfig", SHAPE | GROUPED | OWN_HEADS | {"sliding_window": 4}),
}  # fmt: skip

backends = pytest.mark.parametrize("backend", BACKENDS)


def with_hooked_transformer(test: Callable[..., None]) -> Callable[..., None] | None:
    """Under transformer-lens 4 there is nothing to state about a HookedTransformer: the test does not exist."""
    return test if "hooked" in BACKENDS else None


def random_hf(family: str, **options: Any) -> Any:
    """A tiny Hugging Face model in which no weight is a default."""
    kind, given = FAMILIES[family]
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        hf = transformers.AutoModelForCausalLM.from_config(getattr(transformers, kind)(**(given | options)))
        for parameter in hf.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    return hf.eval()


def folder_of(family: str, where: Path, **options: Any) -> Path:
    """Saved under a name that says something else."""
    folder = where / "llama-gemma-gpt2-bert"
    random_hf(family, **options).save_pretrained(folder)
    return folder


def word_tokenizer() -> Any:
    from llmtrace.models.hand_built.designs import word_tokenizer

    return word_tokenizer(("<bos>", "<unk>", *(f"w{i}" for i in range(VOCAB - 2))))


def log_probs(model: Any, tokens: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        out = model(tokens)
    return getattr(out, "logits", out).double().log_softmax(-1)


TOKENS = torch.randint(VOCAB, (2, 20), generator=torch.Generator().manual_seed(1))


# --- what is loaded ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
@backends
def test_a_folder_of_each_family_computes_what_hugging_face_computes(family: str, backend: str, tmp_path: Path) -> None:
    folder = folder_of(family, tmp_path)
    model: Any = load(folder, backend=backend)
    hf = transformers.AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager")
    torch.testing.assert_close(log_probs(model, TOKENS), log_probs(hf, TOKENS), rtol=0, atol=1e-4)
    assert type(model).__name__ == CLASSES[backend]
    assert provenance(model).model == folder.name
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


@pytest.mark.parametrize("family", ["gpt2", "neox", "qwen2", "gemma2"])
@pytest.mark.parametrize("dtype, tolerance", [("float64", 1e-6), ("bfloat16", 0.2)])
@backends
def test_other_dtypes(family: str, dtype: str, tolerance: float, backend: str) -> None:
    hf = random_hf(family)
    model: Any = load(hf, backend=backend, dtype=dtype)
    assert {parameter.dtype for parameter in model.parameters()} == {getattr(torch, dtype)}
    torch.testing.assert_close(log_probs(model, TOKENS), log_probs(hf.double(), TOKENS), rtol=0, atol=tolerance)


@pytest.mark.parametrize("family", ["gpt2", "llama", "qwen2"])
@backends
def test_without_processing_the_weights_are_those_of_the_source(family: str, backend: str) -> None:
    hf = random_hf(family)
    model: Any = load(hf, backend=backend, **OFF)
    with torch.no_grad():
        torch.testing.assert_close(model(TOKENS), hf(TOKENS).logits, rtol=0, atol=1e-5)
    torch.testing.assert_close(model.W_E, hf.get_input_embeddings().weight, rtol=0, atol=0)
    assert provenance(model).flags == OFF


@pytest.mark.parametrize(
    "family, left_out",
    [("gpt2", set()), ("llama", {"center_writing_weights"}), ("gemma2", {"center_writing_weights", "center_unembed"})],
)
@backends
def test_the_flags_in_force_are_recorded(family: str, left_out: set[str], backend: str) -> None:
    """Centring of writes does nothing under RMSNorm; centring of the unembedding is wrong under a soft cap."""
    flags = provenance(load(random_hf(family), backend=backend)).flags
    assert flags is not None
    assert {flag for flag, in_force in flags.items() if not in_force} == left_out


@pytest.mark.parametrize("family", ["gpt2", "llama-tied", "gemma"])
@pytest.mark.parametrize("flags", [{}, OFF], ids=["processed", "raw"])
@backends
def test_a_hugging_face_model_is_neither_changed_nor_shared(family: str, flags: dict[str, bool], backend: str) -> None:
    hf = random_hf(family).train()
    before = {name: value.clone() for name, value in hf.state_dict().items()}
    attention = hf.config._attn_implementation
    model: Any = load(hf, backend=backend, **flags)
    after = hf.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert hf.training
    assert hf.config._attn_implementation == attention
    assert all(parameter.requires_grad for parameter in hf.parameters())
    theirs = {parameter.untyped_storage().data_ptr() for parameter in hf.parameters()}
    assert not theirs & {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}


@pytest.mark.parametrize("name", names.embedded_names())
@backends
def test_embedded_models_need_no_network(name: str, backend: str) -> None:
    model: Any = load(name.upper(), backend=backend)
    assert provenance(model).model == name
    assert model.to_tokens("w1")[0, 0] == model.tokenizer.bos_token_id
    assert model.tokenizer.padding_side == "right"


def test_auto_prefers_a_hooked_transformer_and_bridges_what_it_cannot_compute() -> None:
    assert type(load(random_hf("gpt2"))).__name__ == CLASSES[BACKENDS[0]]
    biased = load(random_hf("llama", attention_bias=True))
    assert type(biased).__name__ == "TransformerBridge"
    olmo: Any = transformers.AutoModelForCausalLM.from_config(transformers.Olmo2Config(**(SHAPE | GROUPED)))
    assert provenance(load(olmo)).flags == OFF | {"center_unembed": True, "fold_value_biases": True}


def test_both_classes_agree_on_every_activation_they_both_name() -> None:
    for family in ("gpt2", "llama", "gemma2"):
        caches = [load(random_hf(family), backend=backend).run_with_cache(TOKENS)[1] for backend in BACKENDS]
        shared = [name for name in caches[0] if name in caches[-1]]
        assert len(shared) > 30
        for name in shared:
            torch.testing.assert_close(caches[-1][name], caches[0][name], rtol=1e-4, atol=1e-4, msg=name)


@backends
def test_a_shorter_context(backend: str) -> None:
    assert load(random_hf("llama"), backend=backend).cfg.n_ctx == 64
    assert load(random_hf("llama"), backend=backend, n_ctx=16).cfg.n_ctx == 16
    with pytest.raises(LimitError, match="Expected n_ctx up to 40, the model's context, got 999"):
        load(random_hf("gpt2"), backend=backend, n_ctx=999)
    assert load(random_hf("gpt2", n_positions=8), backend=backend).cfg.n_ctx == 8  # shorter than the check text


# --- tokenizers --------------------------------------------------------------------------------------------------


@backends
def test_a_tokenizer_beside_the_weights_pads_right_and_starts_with_bos(backend: str, tmp_path: Path) -> None:
    folder = folder_of("llama", tmp_path)
    tokenizer = word_tokenizer()
    tokenizer.padding_side = "left"
    tokenizer.save_pretrained(folder)
    model: Any = load(folder, backend=backend)
    assert model.tokenizer.padding_side == "right"
    assert model.to_tokens(["w1 w2", "w1"]).tolist() == [[0, 3, 4], [0, 3, 0]]
    assert model.to_tokens("w1 w2", prepend_bos=False).tolist() == [[3, 4]]


@backends
def test_a_tokenizer_without_bos_of_its_own_is_made_to_start_with_it(backend: str) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = Tokenizer(models.WordLevel({"<bos>": 0, "a": 1, "b": 2}, unk_token="<bos>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    given = transformers.PreTrainedTokenizerFast(tokenizer_object=words, bos_token="<bos>", eos_token="<bos>")
    model: Any = load(random_hf("gpt2"), backend=backend, tokenizer=given)
    assert model.to_tokens("a b").tolist() == [[0, 1, 2]]
    assert given.encode("a b") == [1, 2]  # the caller's own is as it was


@backends
@pytest.mark.parametrize("unknown", ["<unk>", None])
def test_what_is_no_bos_is_put_before_no_prompt(backend: str, unknown: str | None) -> None:
    """A tokenizer without BOS, EOS and padding, whose unknown token TransformerLens would take for it, or an id past
    the vocabulary where it has none of these."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = Tokenizer(models.WordLevel({"<unk>": 0, "a": 1, "b": 2}, **({"unk_token": unknown} if unknown else {})))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    given = transformers.PreTrainedTokenizerFast(tokenizer_object=words, **({"unk_token": unknown} if unknown else {}))
    model: Any = load(random_hf("gpt2", vocab_size=3), backend=backend, tokenizer=given)
    assert model.tokenizer.bos_token is None and model.to_tokens("a b").tolist() == [[1, 2]]
    prompts = from_texts(model, ["a b", "b"])
    assert prompts.clean.tolist() == [[1, 2], [2, 0]] and not prompts.prepend_bos and "no BOS" in repr(prompts)
    with pytest.raises(InputError, match="Expected a tokenizer with a BOS token"):
        from_texts(model, ["a b"], prepend_bos=True)
    assert model(prompts.clean).shape == (2, 2, 3)


@backends
def test_no_tokenizer_is_no_obstacle(backend: str, tmp_path: Path) -> None:
    model: Any = load(folder_of("gpt2", tmp_path), backend=backend)
    assert model.tokenizer is None
    assert model(TOKENS).shape == (2, 20, VOCAB)


# --- layout ------------------------------------------------------------------------------------------------------


@with_hooked_transformer
@pytest.mark.parametrize("family", ["gpt2", "llama", "qwen2", "gemma2"])
def test_the_copies_of_every_forward_pass_are_views(family: str) -> None:
    model: Any = load(random_hf(family), backend="hooked")
    attn, mlp = model.blocks[1].attn, model.blocks[1].mlp
    per_head = [attn.W_Q] + ([attn._W_K, attn._W_V] if hasattr(attn, "_W_K") else [attn.W_K, attn.W_V])
    made = [(w, rearrange(w, "head d_model d_head -> (head d_head) d_model")) for w in per_head]
    made += [(attn.W_O, rearrange(attn.W_O, "head d_head d_model -> d_model (head d_head)").contiguous())]
    gated = [mlp.W_in, mlp.W_gate, mlp.W_out] if model.cfg.gated_mlp else []
    made += [(w, w.T.contiguous()) for w in [model.unembed.W_U, *gated]]
    for parameter, used in made:
        assert used.data_ptr() == parameter.data_ptr()


@with_hooked_transformer
def test_layout_changes_no_logit_and_parts_tied_weights() -> None:
    from llmtrace.models.loading.memory_layout import lay_out

    model: Any = load(random_hf("llama-tied"), backend="hooked", **OFF)
    before = model(TOKENS)
    for parameter in model.parameters():
        parameter.data = parameter.data.contiguous()  # as TransformerLens has them
    lay_out(model)
    assert torch.equal(model(TOKENS), before)
    assert torch.equal(model.W_U, model.W_E.T)
    assert model.W_U.data_ptr() != model.W_E.data_ptr()


# --- GGUF --------------------------------------------------------------------------------------------------------


def write_gguf(path: Path) -> Any:
    """A tiny Llama in llama.cpp's format: its names, its metadata, rotary rows interleaved. Gives back the source."""
    import gguf

    hf = random_hf("llama-tied", tie_word_embeddings=False, num_key_value_heads=2)
    c, state = hf.config, hf.state_dict()
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(c.num_hidden_layers)
    writer.add_context_length(c.max_position_embeddings)
    writer.add_embedding_length(c.hidden_size)
    writer.add_feed_forward_length(c.intermediate_size)
    writer.add_head_count(c.num_attention_heads)
    writer.add_head_count_kv(c.num_key_value_heads)
    writer.add_layer_norm_rms_eps(c.rms_norm_eps)
    writer.add_rope_freq_base(1e4)
    writer.add_rope_dimension_count(c.hidden_size // c.num_attention_heads)
    writer.add_vocab_size(VOCAB)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(["<s>", "AB", *(chr(ord("!") + i) for i in range(VOCAB - 2))])
    writer.add_token_types([3] + [1] * (VOCAB - 1))
    writer.add_token_merges(["A B"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    parts = {
        "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
    }  # fmt: skip
    outer = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
    inner = {f"model.layers.{i}.{a}": f"blk.{i}.{b}" for i in range(c.num_hidden_layers) for a, b in parts.items()}
    for theirs, ours in (outer | inner).items():
        weight = state[f"{theirs}.weight"]
        if ours.endswith(("attn_q", "attn_k")):
            heads = c.num_attention_heads if ours.endswith("q") else c.num_key_value_heads
            weight = rearrange(weight, "(head two half) d -> (head half two) d", head=heads, two=2)
        writer.add_tensor(f"{ours}.weight", weight.contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return hf


@backends
def test_a_gguf_file(backend: str, tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    hf = write_gguf(path)
    model: Any = load(path, backend=backend)
    torch.testing.assert_close(log_probs(model, TOKENS), log_probs(hf, TOKENS), rtol=0, atol=1e-4)
    assert provenance(model).model == "tiny.gguf"
    assert model.to_str_tokens("ABC") == ["<s>", "AB", "C"]


def test_smollm2_from_its_gguf_file(smollm2_gguf: Path, smollm2: Any) -> None:
    """Within 1e-4 of Hugging Face, and what it was measured to say of Mary and John."""
    tokens = smollm2.to_tokens("When Mary and John went to the store, John gave a drink to")
    assert tokens.shape == (1, 15)
    source = open_gguf(smollm2_gguf, torch.float32)
    got = log_probs(smollm2, tokens)
    torch.testing.assert_close(got, log_probs(source.hf, tokens), rtol=0, atol=1e-4)
    mary, john = (got[0, -1, smollm2.to_single_token(name)].exp() for name in (" Mary", " John"))
    assert mary.item() == pytest.approx(0.836, abs=2e-3)
    assert john.item() == pytest.approx(0.004, abs=1e-3)


# --- the check ---------------------------------------------------------------------------------------------------


@with_hooked_transformer
@pytest.mark.parametrize("wrong", [{"eps": 0.1}, {"act_fn": "relu"}, {"use_attn_scale": False}])
def test_a_wrong_conversion_is_an_error(wrong: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    convert = families.gpt2
    monkeypatch.setitem(families.FAMILIES, "GPT2LMHeadModel", (lambda c: convert(c) | wrong, "convert_gpt2_weights"))
    with pytest.raises(CheckError, match=r"log-probabilities of its source within 0\.0001, got a difference"):
        load(random_hf("gpt2"))
    with pytest.raises(CheckError):
        load(random_hf("gpt2"), dtype="bfloat16")
    load(random_hf("gpt2"), check=False)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@backends
def test_weights_that_are_no_numbers_are_refused(bad: float, backend: str) -> None:
    hf = random_hf("gpt2")
    with torch.no_grad():
        hf.transformer.h[1].mlp.c_fc.weight[3, 4] = bad
    with pytest.raises(CheckError, match=r"finite weights.*transformer\.h\.1\.mlp\.c_fc\.weight"):
        load(hf, backend=backend)


def test_the_reference_is_taken_on_a_text_the_model_can_read() -> None:
    hf = random_hf("gpt2")
    assert reference_of(hf, None, None).tokens.shape == (1, 32)
    assert reference_of(hf, word_tokenizer(), 10).tokens.shape == (1, 10)  # "<unk>" alone says nothing: random tokens


# --- manners -----------------------------------------------------------------------------------------------------


@backends
def test_loading_prints_nothing_and_leaves_logging_as_it_was(
    backend: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = folder_of("gpt2", tmp_path)
    capfd.readouterr()
    root = logging.getLogger()
    before = list(root.handlers), list(root.filters), logging.getLogger("transformers").level
    load(folder, backend=backend)
    load("tiny-english", backend=backend)
    assert capfd.readouterr() == ("", "")
    assert (list(root.handlers), list(root.filters), logging.getLogger("transformers").level) == before


@with_hooked_transformer
def test_the_deprecation_of_hooked_transformer_is_silent_in_load_and_nowhere_else() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cfg = load("or-gate").cfg
    from transformer_lens import HookedTransformer

    with pytest.warns(DeprecationWarning, match="HookedTransformer is deprecated"):
        HookedTransformer(cfg)


@backends
def test_nothing_is_unpickled(backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = folder_of("gpt2", tmp_path)
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04 not for us")

    def refuse(*args: Any, **options: Any) -> None:
        raise AssertionError("torch.load was called")

    monkeypatch.setattr(torch, "load", refuse)
    load(folder, backend=backend)


# --- names and errors --------------------------------------------------------------------------------------------


def test_names() -> None:
    known = names.known_names()
    assert known[: len(names.embedded_names())] == names.embedded_names()
    assert {"gpt2", "gpt2-small", "pythia-70m", "EleutherAI/pythia-70m"} <= set(known)
    assert names.resolve("Pythia-70M") == "EleutherAI/pythia-70m"
    assert names.resolve("gpt2-small") == "gpt2"
    assert names.resolve("someone/something") == "someone/something"
    assert names.resolve("OR-gate") == "or-gate"


def without(folder: Path, file: str) -> Path:
    (folder / file).unlink()
    return folder


def truncated(path: Path) -> Path:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def rewritten(folder: Path, **changes: Any) -> Path:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({k: v for k, v in (config | changes).items() if v is not None}))
    return folder


def pickled(folder: Path) -> Path:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    return folder


def incomplete(folder: Path) -> Path:
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    del weights["transformer.h.0.mlp.c_fc.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def half_gguf(path: Path) -> Path:
    write_gguf(path)
    return truncated(path)


BAD_FILES: dict[str, tuple[Callable[[Path], Path], type[LLMTraceError], str]] = {
    "no such folder": (lambda p: p / "nowhere", NotFoundError, "does not exist"),
    "no config.json": (lambda p: without(folder_of("gpt2", p), "config.json"), FileFormatError, "config.json"),
    "config.json is no JSON": (
        lambda p: written(folder_of("gpt2", p) / "config.json", b"{").parent, FileFormatError, "JSON"),
    "config.json of something else": (
        lambda p: written(folder_of("gpt2", p) / "config.json", b"{}").parent, FileFormatError, "model_type"),
    "pickled weights only": (lambda p: pickled(folder_of("gpt2", p)), FileFormatError, "never read"),
    "truncated weights": (
        lambda p: truncated(folder_of("gpt2", p) / "model.safetensors").parent, FileFormatError, "whole weights"),
    "a weight is missing": (lambda p: incomplete(folder_of("gpt2", p)), FileFormatError, "h.0.mlp.c_fc.weight"),
    "another shape": (lambda p: rewritten(folder_of("gpt2", p), n_embd=64), FileFormatError, "fit config.json"),
    "broken tokenizer": (
        lambda p: written(folder_of("gpt2", p) / "tokenizer.json", b"[").parent, FileFormatError, "tokenizer"),
    "unknown architecture": (
        lambda p: rewritten(folder_of("gpt2", p), model_type="wombat", architectures=["WombatForCausalLM"]),
        UnsupportedError, "wombat"),
    "an encoder-decoder": (
        lambda p: rewritten(folder_of("gpt2", p), model_type="t5", is_encoder_decoder=True),
        UnsupportedError, "encoder-decoder"),
    "quantised": (
        lambda p: rewritten(folder_of("gpt2", p), quantization_config={"quant_method": "gptq", "bits": 4}),
        UnsupportedError, "quantised"),
    "code of its own": (
        lambda p: rewritten(folder_of("gpt2", p), model_type="mine", auto_map={"AutoConfig": "mine.Config"}),
        UnsupportedError, "trust_remote_code=True"),
    "not a GGUF file": (lambda p: written(p / "x.gguf", b"GGML1234"), FileFormatError, "GGUF"),
    "truncated GGUF file": (lambda p: half_gguf(p / "x.gguf"), FileFormatError, "truncated"),
    "a file of another kind": (lambda p: written(p / "model.pth", b""), InputError, "give its folder"),
}  # fmt: skip


@pytest.mark.parametrize("bad", BAD_FILES)
def test_bad_files_are_refused_with_a_sentence(bad: str, tmp_path: Path) -> None:
    make, error, sentence = BAD_FILES[bad]
    with pytest.raises(error, match=sentence) as caught:
        load(make(tmp_path))
    assert str(caught.value).endswith((".", "?"))


BAD_CALLS: dict[str, tuple[Callable[[], Any], type[LLMTraceError], str]] = {
    "misspelt": (lambda: load("gtp2-small"), NotFoundError, "Did you mean 'gpt2-small'"),
    "misspelt, embedded": (lambda: load("tiny-inglish"), NotFoundError, "Did you mean 'tiny-english'"),
    "misspelt, with its organisation": (
        lambda: load("EleutherAI/pythia-70mm"), NoWeightsError, "Did you mean 'EleutherAI/pythia-70m'"),
    "no network": (lambda: load("gpt2"), NoWeightsError, "local folder, a .gguf file or an embedded model"),
    "pickled on the hub": (lambda: load("gelu-1l"), NoWeightsError, "never reads"),
    "no such path": (lambda: load("./gpt2/model.gguf"), NotFoundError, "does not exist"),
    "backend": (lambda: load("or-gate", backend="jax"), InputError, "auto, hooked, bridge"),
    "device": (lambda: load("or-gate", device="abacus"), InputError, "'auto', 'cpu' or 'cuda:0'"),
    "dtype": (lambda: load("or-gate", dtype="int8"), InputError, "float32"),
    "context": (lambda: load("or-gate", n_ctx=0), InputError, "at least 1"),
    "tokenizer": (lambda: load(random_hf("gpt2"), tokenizer="gpt2"), InputError, "AutoTokenizer"),
    "loaded already": (lambda: load(load("or-gate")), InputError, "needs no load"),
    "another module": (lambda: load(torch.nn.Linear(2, 2)), InputError, "Linear"),
    "no unembedding": (lambda: load(random_hf("gpt2").transformer), InputError, "GPT2Model"),
}  # fmt: skip


@pytest.mark.parametrize("bad", BAD_CALLS)
def test_bad_calls_are_refused_with_a_sentence(bad: str) -> None:
    call, error, sentence = BAD_CALLS[bad]
    with pytest.raises(error, match=sentence) as caught:
        call()
    assert str(caught.value).endswith((".", "?"))


@pytest.mark.parametrize(
    "problem, error, sentence",
    [
        ("GatedRepoError", NoWeightsError, "accept its licence and set HF_TOKEN"),
        ("RepositoryNotFoundError", NotFoundError, "is not there"),
    ],
)
def test_what_the_hub_says(problem: str, error: Any, sentence: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def answer(*args: Any, **options: Any) -> None:
        kind = getattr(huggingface_hub.errors, problem)
        raise kind.__new__(kind)

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", answer)
    with pytest.raises(error, match=sentence):
        load("gpt2")


def test_hooked_needs_the_class(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hooked, "hooked_transformer_exists", lambda: False)
    with pytest.raises(UnsupportedError, match="which transformer-lens 4 removed"):
        load("or-gate", backend="hooked")


def test_hooked_says_what_it_cannot_compute() -> None:
    with pytest.raises(
        UnsupportedError, match="does not compute attention biases; load the model with backend='bridge'"
    ):
        families.hooked_options("LlamaForCausalLM", transformers.LlamaConfig(attention_bias=True))
    with pytest.raises(UnsupportedError, match="MambaForCausalLM"):
        families.hooked_options("MambaForCausalLM", transformers.MambaConfig())


# --- text parts, and the hub's cache ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Gemma3ForConditionalGeneration", "Mistral3ForConditionalGeneration"])
def test_the_text_part_of_a_model_that_sees_loads_from_its_folder(name: str, tmp_path: Path) -> None:
    """As the hub has them: transformers knows Mistral 3 as no language model at all."""
    from families import source

    whole, tokens = source(name), TOKENS % 30
    whole.save_pretrained(tmp_path / "it")
    found: Any = load(tmp_path / "it")
    expected = whole(tokens, use_cache=False).logits.log_softmax(-1)
    torch.testing.assert_close(found(tokens).log_softmax(-1), expected.detach(), rtol=0, atol=1e-4)


def test_a_name_that_transformerlens_does_not_list_loads_from_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TinyLlama: its name is in no list, its shape is known. The hub is never asked for what lies in the cache."""
    import huggingface_hub

    name, snapshot = "TinyLlama/TinyLlama-1.1B-Chat-v1.0", "0" * 40
    assert name not in names.hub_names()
    repository = tmp_path / "models--TinyLlama--TinyLlama-1.1B-Chat-v1.0"
    random_hf("llama").save_pretrained(repository / "snapshots" / snapshot)
    word_tokenizer().save_pretrained(repository / "snapshots" / snapshot)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(snapshot)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", None)  # asking ends in a TypeError
    model: Any = load(name)
    expected = random_hf("llama")(TOKENS).logits.log_softmax(-1)
    torch.testing.assert_close(model(TOKENS).log_softmax(-1), expected.detach(), rtol=0, atol=1e-4)
    assert provenance(model).model == name
