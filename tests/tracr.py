"""Programs that Tracr compiled (Lindner et al. 2023), as HookedTransformers whose logits are the final residual stream.

A program is two files of `data/tracr`. `NAME.npz`: the weights by their haiku names. `NAME.json`:

    n_layers, n_heads, d_head, d_mlp, causal   the shape
    residual                                   what each dimension of the residual stream stands for, "label:value"
                                               for one value of a category, "label" for a number
    label                                      of the dimensions that hold the output
    enc                                        token -> id
    tests                                      [input, output] pairs, both with BOS in front

The unembedding is the identity, so a metric reads dimensions by label. A metric reads one position per prompt, so each
pair of an input and a position is a row of its own.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from llmtrace import metrics, models
from llmtrace.models import Hook
from llmtrace.prompts import PromptSet

DATA = Path(__file__).parent / "data" / "tracr"
NAMES = tuple(sorted(path.stem for path in DATA.glob("*.npz")))
BOS, PAD = "BOS", "compiler_pad"


@dataclass(frozen=True, eq=False)
class Program:
    """A compiled program; `spec` is its json."""

    name: str
    spec: dict[str, Any]
    model: Any

    @property
    def output(self) -> list[int]:
        """The dimensions of the residual stream that hold the output."""
        label = self.spec["label"]
        return [at for at, name in enumerate(self.spec["residual"]) if name == label or name.startswith(f"{label}:")]

    @property
    def is_number(self) -> bool:
        """The output is one number, not a category."""
        return self.spec["label"] in self.spec["residual"]

    @property
    def tests(self) -> list[tuple[list[str], list[str]]]:
        return [(words, answers) for words, answers in self.spec["tests"]]

    def encode(self, words: list[str] | tuple[str, ...]) -> list[int]:
        return [self.spec["enc"][word] for word in words]

    def decode(self, outputs: Tensor) -> list[float | str]:
        """The output dimensions at some positions [pos n], as the program means them."""
        if self.is_number:
            return [float(value) for value in outputs[:, 0]]
        values = [self.spec["residual"][at].split(":", 1)[1] for at in self.output]
        return [values[best] for best in outputs.argmax(-1).tolist()]


@functools.cache
def program(name: str) -> Program:
    spec = json.loads((DATA / f"{name}.json").read_text())
    return Program(name, spec, _model(name, spec))


def _model(name: str, spec: dict[str, Any]) -> Any:
    """In float64, without norms; attention is scaled by 1 / sqrt(d_head), as Tracr's is. transformer-lens 3.9 only."""
    from transformer_lens import HookedTransformer, HookedTransformerConfig

    from llmtrace.models.loading.quiet_libraries import hooked_transformer_is_welcome

    with np.load(DATA / f"{name}.npz") as file:
        weights = _weights({key: torch.from_numpy(file[key]) for key in file}, spec)
    d_model = len(spec["residual"])
    cfg = HookedTransformerConfig(
        n_layers=spec["n_layers"], n_heads=spec["n_heads"], d_head=spec["d_head"], d_mlp=spec["d_mlp"],
        d_model=d_model, d_vocab=len(weights["embed.W_E"]), d_vocab_out=d_model, n_ctx=len(weights["pos_embed.W_pos"]),
        act_fn="relu", attention_dir="causal" if spec["causal"] else "bidirectional", normalization_type=None,
        default_prepend_bos=True, init_weights=False, model_name=f"tracr-{name}", dtype=torch.float64, device="cpu",
    )  # fmt: skip
    with hooked_transformer_is_welcome():
        model = HookedTransformer(cfg)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            parameter.copy_(weights.pop(key))
    assert not weights, f"weights without a place: {list(weights)}"
    return model.eval().requires_grad_(False)


def _weights(haiku: dict[str, Tensor], spec: dict[str, Any]) -> dict[str, Tensor]:
    """Haiku's names and shapes -> HookedTransformer's. Haiku's w is [d_in, d_out], heads side by side."""
    d_model = len(spec["residual"])
    found = {
        "embed.W_E": haiku["token_embed/embeddings"],
        "pos_embed.W_pos": haiku["pos_embed/embeddings"],
        "unembed.W_U": torch.eye(d_model, dtype=torch.float64),
        "unembed.b_U": torch.zeros(d_model, dtype=torch.float64),
    }
    by_head = {"head": spec["n_heads"]}
    for layer in range(spec["n_layers"]):
        theirs, attn, mlp = f"transformer/layer_{layer}/", f"blocks.{layer}.attn.", f"blocks.{layer}.mlp."
        for slot, name in (("Q", "query"), ("K", "key"), ("V", "value")):
            w, b = haiku[f"{theirs}attn/{name}/w"], haiku[f"{theirs}attn/{name}/b"]
            found[f"{attn}W_{slot}"] = rearrange(w, "d_model (head d_head) -> head d_model d_head", **by_head)
            found[f"{attn}b_{slot}"] = rearrange(b, "(head d_head) -> head d_head", **by_head)
        w = haiku[f"{theirs}attn/linear/w"]
        found[f"{attn}W_O"] = rearrange(w, "(head d_head) d_model -> head d_head d_model", **by_head)
        found[f"{attn}b_O"] = haiku[f"{theirs}attn/linear/b"]
        for side, name in (("in", "linear_1"), ("out", "linear_2")):
            found[f"{mlp}W_{side}"] = haiku[f"{theirs}mlp/{name}/w"]
            found[f"{mlp}b_{side}"] = haiku[f"{theirs}mlp/{name}/b"]
    return found


# --- prompts and the metric --------------------------------------------------------------------------------------


def outputs(p: Program, tokens: Tensor) -> Tensor:
    """[batch pos n]: the output dimensions at every position."""
    return models.logits(p.model, tokens)[..., p.output]


@functools.cache
def every_input(name: str, most: int = 2000) -> PromptSet:
    """Every input as long as the program's tests, once for each position after BOS; corrupted is another input.

    Of a program with more than `most` rows, as many at random.
    """
    p = program(name)
    length = len(p.tests[0][0]) - 1
    letters = [letter for letter in p.spec["enc"] if letter not in (BOS, PAD)]
    inputs = torch.tensor([p.encode((BOS, *words)) for words in product(letters, repeat=length)])
    rows = inputs.repeat_interleave(length, 0)
    at = torch.arange(1, length + 1).repeat(len(inputs))
    generator = torch.Generator().manual_seed(0)
    corrupted = inputs[_elsewhere(len(inputs), generator)].repeat_interleave(length, 0)
    chosen = torch.randperm(len(rows), generator=generator)[:most].sort().values
    n, words_of = len(chosen), {value: key for key, value in p.spec["enc"].items()}
    lengths = torch.full((n,), length + 1)

    def texts(tokens: Tensor) -> tuple[str, ...]:
        return tuple(" ".join(words_of[token] for token in row) for row in tokens.tolist())

    clean, other = rows[chosen], corrupted[chosen]
    return PromptSet(
        name=name, clean=clean, corrupted=other, lengths=lengths, correct=((),) * n, wrong=((),) * n,
        positions={"END": lengths - 1, "READ": at[chosen]}, groups=torch.zeros(n, dtype=torch.long),
        group_names=("all",), texts=texts(clean), corrupted_texts=texts(other), seed=0, prepend_bos=True,
        pad_id=p.spec["enc"][PAD], corruption="another input",
    )  # fmt: skip


def _elsewhere(n: int, generator: torch.Generator) -> Tensor:
    """A random permutation of n that leaves none in its place: one cycle through all."""
    order = torch.randperm(n, generator=generator)
    found = torch.empty(n, dtype=torch.long)
    found[order] = order.roll(1)
    return found


def squared_error(p: Program, prompts: PromptSet) -> metrics.Metric:
    """Squared distance, on the output's dimensions, from what the program gives: 0 for the clean run."""
    at = prompts.positions["READ"]
    target = outputs(p, prompts.clean)[torch.arange(len(prompts)), at]
    dimensions = p.output

    def distance(rows: Tensor, target: Tensor) -> Tensor:
        return (rows[..., dimensions] - target).square().sum(-1)

    return metrics.custom("squared error", distance, at, context=(target,), higher_is_better=False)


def other_positions(n: int, length: int) -> Hook:
    """The embeddings of positions exchanged among each other, in each of n prompts in a way of its own."""
    generator = torch.Generator().manual_seed(1)
    order = torch.stack([_elsewhere(length, generator) for _ in range(n)])
    return "hook_pos_embed", lambda value: value[torch.arange(n)[:, None], order]
