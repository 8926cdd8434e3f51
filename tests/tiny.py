"""One list of tiny random float64 models, and random prompts for them. Every law is stated over this list.

`MODELS` are pytest parameters; `MODELS.where(condition)` keeps those on which a law holds, and the condition's name
says why it stops elsewhere (`tests/laws/README.md`, under "Stops"). Under transformer-lens 3.9 each model comes as a
HookedTransformer and as a TransformerBridge, under 4.x as a TransformerBridge.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import pytest
import torch
from torch import Tensor

from llmtrace import models
from llmtrace.models.hand_built.from_weights import Shape, bridge_from_weights, hooked_from_weights
from llmtrace.nodes import Head, Mlp
from llmtrace.prompts import PromptSet

VOCAB, WIDTH, HIDDEN, CONTEXT = 40, 16, 24, 32
LAYERS, HEADS, KV_HEADS = 2, 4, 2
UNPROCESSED = dict.fromkeys(("fold_ln", "center_writing_weights", "center_unembed", "fold_value_biases"), False)
HOOKED_EXISTS = int(version("transformer-lens").split(".")[0]) < 4
EXACT, FLOAT32_SOFTMAX = 1e-9, 1e-5


@dataclass(frozen=True)
class Family:
    """A kind of architecture. `source` makes the weights from a seed: a Hugging Face model or a dict of weights."""

    name: str
    source: Callable[[int], Any]
    norm: str | None
    gated: bool = False
    parallel: bool = False
    rotary: bool = False
    kv_heads: int = HEADS
    n_layers: int = LAYERS
    n_heads: int = HEADS
    attn_only: bool = False
    post_norm: bool = False
    soft_cap: bool = False
    value_bias: bool = False


@dataclass(frozen=True)
class Tiny:
    """One model of the list: a family, a backend, and whether its weights were processed at load."""

    family: Family
    backend: str
    processed: bool

    @property
    def name(self) -> str:
        kind = "" if self.family.norm is None else "-folded" if self.processed else "-raw"
        return f"{self.family.name}{kind}-{self.backend}"

    @property
    def atol(self) -> float:
        """How exactly a law holds: some bridges compute softmax (and RMSNorm) in float32."""
        return EXACT if self.backend == "hooked" else FLOAT32_SOFTMAX

    @property
    def model(self) -> Any:
        return loaded(self)

    def build(self, source: Any, **options: Any) -> Any:
        """A model from given weights, loaded as this one is."""
        if isinstance(source, dict):
            return from_weights(self.family, self.backend, source)
        flags = {} if self.processed else UNPROCESSED
        return models.load(source, device="cpu", backend=self.backend, **({"dtype": "float64"} | flags | options))


@functools.cache
def loaded(tiny: Tiny) -> Any:
    """Each model once per session. Tests must leave it as they found it."""
    return tiny.build(tiny.family.source(0))


# --- weights -----------------------------------------------------------------------------------------------------


def randomise(model: torch.nn.Module, seed: int) -> torch.nn.Module:
    """Every parameter drawn from N(0, .3), norm weights around 1: biases, gains and patterns are all non-trivial."""
    generator = torch.Generator().manual_seed(seed)
    model = model.double().eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = 0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            is_gain = parameter.ndim == 1 and name.endswith("weight")
            parameter.copy_(1 + noise if is_gain else noise)
    return model


def hugging_face(name: str, config_class: str | None = None, **options: Any) -> Callable[[int], Any]:
    """A maker of a tiny random Hugging Face model of a family."""

    def make(seed: int) -> Any:
        import transformers

        config = getattr(transformers, config_class or f"{name}Config")(
            **{"vocab_size": VOCAB, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0} | options
        )
        kind = "LMHeadModel" if name == "GPT2" else "ForCausalLM"
        return randomise(getattr(transformers, name + kind)(config), seed)

    return make


GPT2_SHAPE = {"n_embd": WIDTH, "n_layer": LAYERS, "n_head": HEADS, "n_positions": CONTEXT, "n_inner": HIDDEN}
LLAMA_SHAPE = {
    "hidden_size": WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "intermediate_size": HIDDEN,
    "max_position_embeddings": CONTEXT,
}  # fmt: skip
GROUPED = {"num_key_value_heads": KV_HEADS}


def no_norm_shape(family: Family) -> Shape:
    hidden = 0 if family.attn_only else HIDDEN
    return Shape(family.n_layers, family.n_heads, WIDTH, WIDTH // family.n_heads, hidden, VOCAB, CONTEXT)


def random_weights(n_layers: int, n_heads: int, *, mlp: bool) -> Callable[[int], dict[str, Tensor]]:
    """A maker of weights, by HookedTransformer name, of a transformer without norms."""

    def make(seed: int) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(seed)
        d_head = WIDTH // n_heads
        sizes: dict[str, tuple[int, ...]] = {
            "embed.W_E": (VOCAB, WIDTH), "pos_embed.W_pos": (CONTEXT, WIDTH), "unembed.W_U": (WIDTH, VOCAB)
        }  # fmt: skip
        for layer in range(n_layers):
            attn, hidden = f"blocks.{layer}.attn.", f"blocks.{layer}.mlp."
            sizes |= {attn + f"W_{slot}": (n_heads, WIDTH, d_head) for slot in "QKV"}
            sizes |= {attn + f"b_{slot}": (n_heads, d_head) for slot in "QKV"}
            sizes |= {attn + "W_O": (n_heads, d_head, WIDTH), attn + "b_O": (WIDTH,)}
            if mlp:
                sizes |= {hidden + "W_in": (WIDTH, HIDDEN), hidden + "b_in": (HIDDEN,)}
                sizes |= {hidden + "W_out": (HIDDEN, WIDTH), hidden + "b_out": (WIDTH,)}
        return {n: 0.3 * torch.randn(size, generator=generator, dtype=torch.float64) for n, size in sizes.items()}

    return make


def from_weights(family: Family, backend: str, weights: dict[str, Tensor]) -> Any:
    make = hooked_from_weights if backend == "hooked" else bridge_from_weights
    model = make(family.name, no_norm_shape(family), weights, None, torch.float64).eval()
    return model.requires_grad_(False)


# --- the list ----------------------------------------------------------------------------------------------------

GPT2 = Family("gpt2", hugging_face("GPT2", **GPT2_SHAPE), "LN", value_bias=True)
LLAMA = Family(
    "llama", hugging_face("Llama", **LLAMA_SHAPE, **GROUPED), "RMS", gated=True, rotary=True, kv_heads=KV_HEADS
)
QWEN2 = Family(
    "qwen2", hugging_face("Qwen2", **LLAMA_SHAPE, **GROUPED), "RMS",
    gated=True, rotary=True, kv_heads=KV_HEADS, value_bias=True,
)  # fmt: skip
NEOX = Family(
    "neox", hugging_face("GPTNeoX", **LLAMA_SHAPE, rotary_pct=0.5), "LN", parallel=True, rotary=True, value_bias=True
)
# one norm for attention and MLP, rotary of adjacent pairs, no attention biases
GPTJ = Family("gptj", hugging_face("GPTJ", **GPT2_SHAPE, rotary_dim=2), "LN", parallel=True, rotary=True)
PLAIN = Family("plain", random_weights(LAYERS, HEADS, mlp=True), None, value_bias=True)
ATTN_ONLY = Family(
    "attn-only", random_weights(3, 2, mlp=False), None, n_layers=3, n_heads=2, kv_heads=2, attn_only=True,
    value_bias=True,
)  # fmt: skip
# norms after the blocks and soft caps: what splits the residual stream refuses it
GEMMA2 = Family(
    "gemma2", hugging_face("Gemma2", **LLAMA_SHAPE, **GROUPED, head_dim=WIDTH // HEADS), "RMS",
    gated=True, rotary=True, kv_heads=KV_HEADS, post_norm=True, soft_cap=True,
)  # fmt: skip

# other kinds of attention and of positions: ALiBi with a norm after the embedding, a local window that is shorter than
# the prompts, a sliding window, a norm of queries and keys
BLOOM = Family("bloom", hugging_face("Bloom", hidden_size=WIDTH, n_layer=LAYERS, n_head=HEADS), "LN", value_bias=True)
GPT_NEO = Family(
    "gpt-neo",
    hugging_face(
        "GPTNeo", hidden_size=WIDTH, num_layers=LAYERS, num_heads=HEADS, intermediate_size=HIDDEN, window_size=3,
        max_position_embeddings=CONTEXT, attention_types=[[["global", "local"], LAYERS // 2]],
    ),
    "LN",
)  # fmt: skip
MISTRAL = Family(
    "mistral", hugging_face("Mistral", **LLAMA_SHAPE, **GROUPED, sliding_window=3, head_dim=WIDTH // HEADS), "RMS",
    gated=True, rotary=True, kv_heads=KV_HEADS,
)  # fmt: skip
QWEN3 = Family(
    "qwen3", hugging_face("Qwen3", **LLAMA_SHAPE, **GROUPED, head_dim=WIDTH // HEADS), "RMS",
    gated=True, rotary=True, kv_heads=KV_HEADS,
)  # fmt: skip

# the other families that HookedTransformer computes; what they consist of is above, but not together: positions with an
# offset and ReLU; biases beside partial rotation, in parallel; fused projections; scaled embeddings; norms of queries
# and keys with norms after the blocks, and rotary bases that differ between local and global layers
OPT = Family(
    "opt",
    hugging_face(
        "OPT", hidden_size=WIDTH, word_embed_proj_dim=WIDTH, num_hidden_layers=LAYERS, num_attention_heads=HEADS,
        ffn_dim=HIDDEN, max_position_embeddings=CONTEXT,
    ),
    "LN", value_bias=True,
)  # fmt: skip
PHI = Family("phi", hugging_face("Phi", **LLAMA_SHAPE), "LN", parallel=True, rotary=True, value_bias=True)
PHI3 = Family("phi3", hugging_face("Phi3", **LLAMA_SHAPE, **GROUPED), "RMS", gated=True, rotary=True, kv_heads=KV_HEADS)
GEMMA = Family(
    "gemma", hugging_face("Gemma", **LLAMA_SHAPE, **GROUPED, head_dim=WIDTH // HEADS), "RMS",
    gated=True, rotary=True, kv_heads=KV_HEADS,
)  # fmt: skip
GEMMA3 = Family(
    "gemma3",
    hugging_face(
        "Gemma3", "Gemma3TextConfig", **LLAMA_SHAPE, **GROUPED, head_dim=WIDTH // HEADS, sliding_window=3,
        layer_types=["sliding_attention", "full_attention"],
    ),
    "RMS", gated=True, rotary=True, kv_heads=KV_HEADS, post_norm=True,
)  # fmt: skip

GRANITE = Family(
    "granite",
    hugging_face(
        "Granite", **LLAMA_SHAPE, **GROUPED, embedding_multiplier=2.0, residual_multiplier=0.6, logits_scaling=3.0,
        attention_multiplier=0.4,
    ),
    "RMS", gated=True, rotary=True, kv_heads=KV_HEADS,
)  # fmt: skip

# On these the laws check every annotation: plain, grouped and gated, without MLPs, and a bridge
SHAPES = ((GPT2, "hooked"), (LLAMA, "hooked"), (ATTN_ONLY, "hooked"), (LLAMA, "bridge"))

FAMILIES = (GPT2, LLAMA, QWEN2, NEOX, GPTJ, PLAIN, ATTN_ONLY)
BACKENDS = ("hooked", "bridge") if HOOKED_EXISTS else ("bridge",)
# Processed and raw weights differ most for LayerNorm with everything in it and for RMSNorm with groups: both of those
KINDS = (
    (GPT2, True), (GPT2, False), (LLAMA, True), (LLAMA, False), (QWEN2, True), (NEOX, False), (GPTJ, True),
    (PLAIN, False), (ATTN_ONLY, False),
)  # fmt: skip
# Beside the HookedTransformer of 3.9 a bridge is the second way to load: one of each kind of difference is enough there
SECOND = ((GPT2, False), (LLAMA, True), (NEOX, False), (GPTJ, True), (ATTN_ONLY, False))

Condition = Callable[[Tiny], bool]


def tinies(kinds: Iterable[tuple[Family, bool]], second: Iterable[tuple[Family, bool]]) -> list[Tiny]:
    """Under transformer-lens 3.9 `kinds` are HookedTransformers and `second` bridges; under 4.x `kinds` are bridges."""
    if not HOOKED_EXISTS:
        return [Tiny(family, "bridge", processed) for family, processed in kinds]
    first = [Tiny(family, "hooked", processed) for family, processed in kinds]
    return first + [Tiny(family, "bridge", processed) for family, processed in second]


ALL = tinies(KINDS, SECOND)
POST_NORM = tinies([(GEMMA2, True)], [(GEMMA2, True)])
# for laws of whatever depends on the kind of attention
WIDE = tinies([(BLOOM, True), (GPT_NEO, True), (MISTRAL, True), (QWEN3, True)], [(QWEN3, False)])
# for one law at least: with these, every family of `models.families` is stood on
REST = tinies([(OPT, True), (PHI, True), (PHI3, True), (GEMMA, True), (GRANITE, True), (GEMMA3, True)], [])
# for laws that compare processed with raw weights of one family
PROCESSED = tinies([(family, True) for family in (GPT2, LLAMA, QWEN2, NEOX, GPTJ)], [(GPT2, True), (LLAMA, True)])


def over(*conditions: Condition, among: Iterable[Tiny] = ALL) -> pytest.MarkDecorator:
    """`@over(sequential)`: run the test on every model that meets the conditions, as argument `tiny`."""
    kept = [tiny for tiny in among if all(condition(tiny) for condition in conditions)]
    assert kept, "a law that holds nowhere is no law"
    return pytest.mark.parametrize("tiny", kept, ids=[tiny.name for tiny in kept])


# TransformerLens' own small model discards changed attention scores as a bridge, and hand-built models are of it
hand_built_scores_are_live = pytest.mark.skipif(
    not HOOKED_EXISTS, reason="transformer-lens 4 has no HookedTransformer, and its own small model's scores are dead"
)


def over_hooked(*conditions: Condition, among: Iterable[Tiny] = ALL) -> pytest.MarkDecorator:
    """The same on HookedTransformers alone, for laws that need float64 throughout."""
    if not HOOKED_EXISTS:
        return pytest.mark.skip(reason="transformer-lens 4 has no HookedTransformer")
    return over(hooked, *conditions, among=among)


def sequential(tiny: Tiny) -> bool:
    """Parallel attention + MLP blocks have no resid_mid (laws 1, 51)."""
    return not tiny.family.parallel


def has_mlp(tiny: Tiny) -> bool:
    """Attention-only models have nothing to say about MLPs."""
    return not tiny.family.attn_only


def has_norm(tiny: Tiny) -> bool:
    """Where there is no norm, processing and the algebra of norms are empty."""
    return tiny.family.norm is not None


def no_norm(tiny: Tiny) -> bool:
    """Writes reach the logits linearly only where no norm stands before them (laws 26, 31)."""
    return tiny.family.norm is None


def no_rotary(tiny: Tiny) -> bool:
    """A rotation of W_Q and W_K does not commute with the rotary one (law 45)."""
    return not tiny.family.rotary


def has_value_bias(tiny: Tiny) -> bool:
    """Without value biases there is nothing to fold (law 13)."""
    return tiny.family.value_bias


def hooked(tiny: Tiny) -> bool:
    """Only a HookedTransformer computes in float64 throughout."""
    return tiny.backend == "hooked"


def ungrouped(tiny: Tiny) -> bool:
    """With grouped queries k and v are shared: one head alone has none to patch (laws 16, 25)."""
    return tiny.family.kv_heads == tiny.family.n_heads


def patterns_are_live(tiny: Tiny) -> bool:
    """Bridges whose attention is computed by the wrapped module discard a changed pattern: GPT-J, GPT-Neo and OPT, and
    under transformer-lens 3.9 TransformerLens' own small model (law 16)."""
    delegates = tiny.family.name in ("gptj", "gpt-neo", "opt") or (tiny.family.norm is None and HOOKED_EXISTS)
    return tiny.backend == "hooked" or not delegates


def scores_are_live(tiny: Tiny) -> bool:
    """The same of attention scores, which TransformerLens' own small model discards as a bridge in any version."""
    return patterns_are_live(tiny) and (tiny.backend == "hooked" or tiny.family.norm is not None)


def dot_products_are_seen(tiny: Tiny) -> bool:
    """Some bridges do not show the queries that they turn, or scale scores in a way of their own; norms of queries and
    keys and caps of scores are no dot products at all."""
    unseen = tiny.backend == "bridge" and tiny.family.name in ("neox", "gptj", "phi3", "gpt-neo")
    return not unseen and not tiny.family.soft_cap and tiny.family.name not in ("qwen3", "gemma3")


def one_of_each(tiny: Tiny) -> bool:
    """For laws that run every method several times: each family once, and as a bridge what no other bridge has."""
    extra = (GPT2, True), (LLAMA, False), (QWEN2, True), (PLAIN, False)
    as_second = HOOKED_EXISTS and tiny.backend == "bridge" and tiny.family in (NEOX, ATTN_ONLY, GPT2)
    return (tiny.family, tiny.processed) not in extra and not as_second


def of_each_shape(tiny: Tiny) -> bool:
    """For what batches, padding and dtypes may not change: that is code which models of one shape share."""
    return one_of_each(tiny) and (tiny.backend, tiny.family) in [
        *((BACKENDS[0], family) for family in (GPT2, LLAMA, ATTN_ONLY)), ("bridge", LLAMA)
    ]  # fmt: skip


def some_nodes(tiny: Tiny) -> list[Head | Mlp]:
    """First and last layer, first and last head, and the MLPs: enough for loops that run the model once per node."""
    last = tiny.family.n_layers - 1
    heads = [Head(0, 0), Head(0, tiny.family.n_heads - 1), Head(last, 1)]
    return [*heads, Mlp(0), Mlp(last)] if has_mlp(tiny) else [*heads]


# --- prompts -----------------------------------------------------------------------------------------------------

FIRST_DIFFERENCE = 2


@functools.cache
def prompts(*, padded: bool = False) -> PromptSet:
    """Five random prompts in two groups; clean and corrupted differ at positions 2 and 4. `padded`: two lengths."""
    generator = torch.Generator().manual_seed(1)
    width, n = 7, 5
    clean = torch.randint(1, VOCAB, (n, width), generator=generator)
    corrupted = clean.clone()
    for position in (FIRST_DIFFERENCE, 4):
        corrupted[:, position] = (clean[:, position] + 1 + torch.arange(n) * 3) % VOCAB
    lengths = torch.tensor([7, 5, 7, 5, 5] if padded else [width] * n)
    mask = torch.arange(width) < lengths[:, None]
    return PromptSet(
        name="random",
        clean=clean.where(mask, 0),
        corrupted=corrupted.where(mask, 0),
        lengths=lengths,
        correct=((3,), (5, 7), (11,), (2, 4), (9,)),
        wrong=((4,), (6,), (12, 13), (1, 3), (10,)),
        positions={"END": lengths - 1, "MID": torch.full((n,), 3)},
        groups=torch.tensor([0, 0, 1, 0, 1]),
        group_names=("A", "B"),
        texts=tuple(f"clean {i}" for i in range(n)),
        corrupted_texts=tuple(f"corrupted {i}" for i in range(n)),
        seed=1,
        prepend_bos=False,
        pad_id=0,
        corruption="random",
    )


def close(got: Tensor, expected: Tensor, atol: float) -> None:
    """Equal to `atol`, relative for numbers over 1."""
    torch.testing.assert_close(got, expected.to(got), atol=atol, rtol=atol)
    assert not math.isnan(float(got.sum()))
