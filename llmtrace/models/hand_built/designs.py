"""Three models whose weights were set by hand, so that every edge of their circuits is known.

They are the ground truth for discovery: a method must find these edges and no others, and fail where theory says that
it fails (the OR gate). Read the docstring of each design: it says what every weight does.
Source: the induction head of Elhage et al. (2021) and Olsson et al. (2022); the gates are the saturation examples by
which attribution patching is criticised (Kramar et al., 2024).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from llmtrace.models.hand_built.from_weights import Shape, bridge_from_weights, hooked_from_weights
from llmtrace.models.hook_names import in_block
from llmtrace.shapes import Tensor

BOS, UNKNOWN = "<bos>", "<unk>"


@dataclass(frozen=True, eq=False)
class Design:
    """A shape, its weights by HookedTransformer name (float64; what is not named is zero) and its vocabulary."""

    name: str
    shape: Shape
    weights: dict[str, Tensor]
    vocabulary: tuple[str, ...]


@dataclass(frozen=True)
class KnownCircuit:
    """The truth about a design under one pair of prompts. Metric: logit(correct) - logit(wrong) at the last token.

    `alone`: exact change of the metric when this one edge carries its corrupted value; every edge not named: 0.
    `eap`: the first-order estimate of the same change (edge attribution patching at the clean run); not named: 0.
    """

    model: str
    clean: str
    corrupted: str
    correct: str
    wrong: str
    clean_metric: float
    corrupted_metric: float
    edges: tuple[str, ...]
    alone: dict[str, float] = field(default_factory=dict)
    eap: dict[str, float] = field(default_factory=dict)


def induction() -> Design:
    """Two attention-only layers of one head: "... A B ... A" -> B, by K-composition.

    Residual stream: [token, 32 | previous token, 32 | position, 64], all one-hot, no norm.
    * layer 0, the previous-token head: position i asks for position i-1 (score 60), and copies its token into
      "previous token". <bos> is not copied, so that nothing looks for it.
    * layer 1, the induction head: token x asks for positions whose *previous token* is x (score 60), and adds three
      times *their* token. Where nothing matches, it looks everywhere alike.
    * logits: the token block. The current token counts 1, what the induction head found counts 3.

    Scores are divided by sqrt(d_head), so W_Q carries 60 sqrt(d_head).
    """
    words, n_ctx, beta, strength = 32, 64, 60.0, 3.0
    d_head = max(words, n_ctx)
    token = torch.arange(words)
    previous, position = token + words, torch.arange(n_ctx) + 2 * words
    shape = Shape(2, 1, 2 * words + n_ctx, d_head, 0, words, n_ctx)
    w = _zeros(shape)
    w["embed.W_E"][token, token] = 1
    w["pos_embed.W_pos"][torch.arange(n_ctx), position] = 1
    # previous-token head: query e_i, key e_(j+1)
    w[in_block(0, "attn.W_Q")][0, position, torch.arange(n_ctx)] = beta * d_head**0.5
    w[in_block(0, "attn.W_K")][0, position[:-1], torch.arange(1, n_ctx)] = 1
    w[in_block(0, "attn.W_V")][0, token[1:], token[1:]] = 1
    w[in_block(0, "attn.W_O")][0, token, previous] = 1
    # induction head: query = my token, key = the token before you
    w[in_block(1, "attn.W_Q")][0, token, token] = beta * d_head**0.5
    w[in_block(1, "attn.W_K")][0, previous, token] = 1
    w[in_block(1, "attn.W_V")][0, token, token] = 1
    w[in_block(1, "attn.W_O")][0, token, token] = strength
    w["unembed.W_U"][token, token] = 1
    return Design("induction", shape, w, (BOS, UNKNOWN, *(f"w{i}" for i in range(1, words - 1))))


def or_gate() -> Design:
    """ "a b =" with a, b in {0, 1} -> a OR b, as out = 1 - relu(1 - (a + b)).

    See `_gate` for the parts that both gates share. The neuron computes relu(1 - a - b) and writes -1 times it; the
    output bias of the MLP is 1. With a = b = 1 the neuron is dead (1 - 2 < 0): no gradient reaches the heads, and
    switching off one of them changes nothing. First-order methods (EAP, attribution patching) score both heads 0,
    exact patching of one head at a time too; integrated gradients give each a half.
    """
    return _gate("or-gate", slope=-1.0, offset=1.0, write=-1.0, constant=1.0)


def and_gate() -> Design:
    """ "a b =" with a, b in {0, 1} -> a AND b, as out = relu(a + b - 1).

    See `_gate`. With a = b = 1 the neuron is alive: switching off either head takes the output from 1 to 0, and each
    gets the full effect from first-order methods, so that their sum (2) overshoots the change when both go (1).
    """
    return _gate("and-gate", slope=1.0, offset=-1.0, write=1.0, constant=0.0)


def _gate(name: str, *, slope: float, offset: float, write: float, constant: float) -> Design:
    """One layer, two scalar heads (d_head 1), one ReLU neuron: out = constant + write relu(slope (a + b) + offset).

    Residual stream: [token, 5 | position, 4 | a | b | out], no norm. Prompt: <bos> a b =.
    * head 0 at "=" looks at position 1 (score 1000: the rest underflows to exactly 0) and writes a = [its token is
      "1"]; head 1 looks at position 2 and writes b. Queries and keys read positions only, so no prompt moves a pattern.
    * the MLP reads a and b and writes out.
    * logits at "=": "1" gets out - 1/4, "0" gets 1/4 (the constants come from the position of "="), so the logit
      difference is out - 1/2 and its changes are those of out.
    """
    vocabulary = (BOS, UNKNOWN, "0", "1", "=")
    words, n_ctx, beta = len(vocabulary), 4, 1000.0
    a, b, out = words + n_ctx, words + n_ctx + 1, words + n_ctx + 2
    one, zero, end = vocabulary.index("1"), vocabulary.index("0"), words + 3
    shape = Shape(1, 2, words + n_ctx + 3, 1, 1, words, n_ctx)
    w = _zeros(shape)
    w["embed.W_E"][range(words), range(words)] = 1
    w["pos_embed.W_pos"][range(n_ctx), range(words, words + n_ctx)] = 1
    for head, (looks_at, writes) in enumerate(((words + 1, a), (words + 2, b))):
        w[in_block(0, "attn.W_Q")][head, end, 0] = beta
        w[in_block(0, "attn.W_K")][head, looks_at, 0] = 1
        w[in_block(0, "attn.W_V")][head, one, 0] = 1
        w[in_block(0, "attn.W_O")][head, 0, writes] = 1
    w[in_block(0, "mlp.W_in")][[a, b], 0] = slope
    w[in_block(0, "mlp.b_in")][0] = offset
    w[in_block(0, "mlp.W_out")][0, out] = write
    w[in_block(0, "mlp.b_out")][out] = constant
    w["unembed.W_U"][out, one] = 1
    w["unembed.W_U"][end, one] = -0.25
    w["unembed.W_U"][end, zero] = 0.25
    return Design(name, shape, w, vocabulary)


GATE_EDGES = ("input->a0.h0<v>", "input->a0.h1<v>", "a0.h0->m0", "a0.h1->m0", "m0->logits")
DESIGNS: dict[str, Callable[[], Design]] = {"induction": induction, "or-gate": or_gate, "and-gate": and_gate}
CIRCUITS = {
    # two repeated sequences without a common word. Losing the match leaves attention alike over 9 positions: 3 / 9
    "induction": KnownCircuit(
        "induction",
        clean="w1 w2 w3 w4 w5 w1 w2 w3",
        corrupted="w6 w7 w8 w9 w10 w6 w7 w8",
        correct="w4",
        wrong="w9",
        clean_metric=3.0,
        corrupted_metric=-3.0,
        edges=(
            "input->a0.h0<v>", "a0.h0->a1.h0<k>", "input->a1.h0<q>", "input->a1.h0<v>", "a1.h0->logits",
        ),
        alone={
            "input->a0.h0<v>": -8 / 3, "a0.h0->a1.h0<k>": -8 / 3, "input->a1.h0<q>": -8 / 3,
            "input->a1.h0<v>": -6.0, "a1.h0->logits": -6.0,
        },
        # attention is saturated: what goes through queries and keys has a slope of about exp(-60)
        eap={"input->a1.h0<v>": -6.0, "a1.h0->logits": -6.0},
    ),
    "or-gate": KnownCircuit(
        "or-gate", "1 1 =", "0 0 =", "1", "0", 0.5, -0.5, GATE_EDGES,
        alone={"m0->logits": -1.0},
        eap={"m0->logits": -1.0},
    ),
    "and-gate": KnownCircuit(
        "and-gate", "1 1 =", "0 0 =", "1", "0", 0.5, -0.5, GATE_EDGES,
        alone=dict.fromkeys(GATE_EDGES, -1.0),
        eap=dict.fromkeys(GATE_EDGES, -1.0),
    ),
}  # fmt: skip


def known_circuit(name: str) -> KnownCircuit:
    """What is true of a hand-built model."""
    return CIRCUITS[name]


def build(name: str, *, hooked: bool, dtype: torch.dtype) -> Any:
    """The named model on the CPU, with its tokenizer."""
    design = DESIGNS[name]()
    make = hooked_from_weights if hooked else bridge_from_weights
    return make(name, design.shape, design.weights, word_tokenizer(design.vocabulary), dtype)


def word_tokenizer(vocabulary: tuple[str, ...]) -> Any:
    """A tokenizer in memory: words between spaces, <bos> first, which is also what pads."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    ids = {word: i for i, word in enumerate(vocabulary)}
    words = Tokenizer(WordLevel(ids, unk_token=UNKNOWN))
    words.pre_tokenizer = WhitespaceSplit()
    words.post_processor = TemplateProcessing(single=f"{BOS} $A", special_tokens=[(BOS, ids[BOS])])
    from llmtrace.models.tokenizers import prepare

    special = {"bos_token": BOS, "eos_token": BOS, "pad_token": BOS, "unk_token": UNKNOWN}
    return prepare(PreTrainedTokenizerFast(tokenizer_object=words, **special))


def _zeros(shape: Shape) -> dict[str, Tensor]:
    """Every weight of that shape, zero."""
    heads = (shape.n_heads, shape.d_model, shape.d_head)
    sizes: dict[str, tuple[int, ...]] = {
        "embed.W_E": (shape.d_vocab, shape.d_model),
        "pos_embed.W_pos": (shape.n_ctx, shape.d_model),
        "unembed.W_U": (shape.d_model, shape.d_vocab),
    }
    for layer in range(shape.n_layers):
        sizes |= {in_block(layer, f"attn.{name}"): heads for name in ("W_Q", "W_K", "W_V")}
        sizes[in_block(layer, "attn.W_O")] = (shape.n_heads, shape.d_head, shape.d_model)
        if shape.d_mlp:
            sizes[in_block(layer, "mlp.W_in")] = (shape.d_model, shape.d_mlp)
            sizes[in_block(layer, "mlp.b_in")] = (shape.d_mlp,)
            sizes[in_block(layer, "mlp.W_out")] = (shape.d_mlp, shape.d_model)
            sizes[in_block(layer, "mlp.b_out")] = (shape.d_model,)
    return {name: torch.zeros(size, dtype=torch.float64) for name, size in sizes.items()}
