"""TransformerLens' own module of a layer, the four places in it where a norm may stand, and its MLP by itself.

`model.blocks[...]` is written here and nowhere else.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from llmtrace.errors import InputError

# How modules call their activation function: HookedTransformer the first, Hugging Face modules inside a bridge the rest
ACTIVATIONS = ("act_fn", "act", "activation_fn", "activation", "activation_function", "gelu_impl")


@dataclass(frozen=True, eq=False)
class BlockNorms:
    """Before attention and before the MLP, as in most models; and between what each of them writes and the residual
    stream (Gemma 2 and 3, GLM 4, OLMo 2). None where there is no norm."""

    attention: nn.Module | None
    mlp: nn.Module | None
    attention_out: nn.Module | None
    mlp_out: nn.Module | None


def block_of(model: Any, layer: int) -> Any:
    if not 0 <= layer < len(model.blocks):
        raise InputError(f"Expected a layer from 0 to {len(model.blocks) - 1}, got {layer}; choose one of the model's.")
    return model.blocks[layer]


def norms_of(block: nn.Module) -> BlockNorms:
    ln1, ln2, ln1_post, ln2_post = (_module_of(block, name) for name in ("ln1", "ln2", "ln1_post", "ln2_post"))
    if _reads_directly(block) and ln1_post is None and ln2_post is None:
        return BlockNorms(None, None, ln1, ln2)  # OLMo 2 on transformer-lens 3.9 calls the norms behind by these names
    in_front_of_mlp = ln1 if ln2 is None and ln2_post is None else ln2  # GPT-J and its like share one norm
    return BlockNorms(ln1, in_front_of_mlp, ln1_post, ln2_post)


def norms_what_it_writes(model: Any) -> bool:
    """Whether any block norms an output before the residual stream receives it."""
    names = {"ln1_post", "ln2_post"}
    return any(not names.isdisjoint(block._modules) or _reads_directly(block) for block in getattr(model, "blocks", ()))


def _module_of(block: nn.Module, name: str) -> nn.Module | None:
    """None where there is no such module. Asked thousands of times, and torch's own search for a name that is not there
    is slow; a bridge has a search of its own, which also finds what is not registered."""
    if type(block).__getattr__ is nn.Module.__getattr__:
        return block._modules.get(name)
    return getattr(block, name, None)


def _reads_directly(block: nn.Module) -> bool:
    name = "mlp_reads_resid_directly"
    return bool(vars(block).get(name) or getattr(type(block), name, False))


def activation_of(block: nn.Module) -> Callable[[Tensor], Tensor] | None:
    """What an MLP does between its weights; None where no such function can be found."""
    mlp: Any = getattr(block, "mlp", None)
    owner = getattr(mlp, "original_component", None) or mlp  # of an MLP without a module of its own, the whole layer
    return next((found for name in ACTIVATIONS if callable(found := getattr(owner, name, None))), None)


def mlp_out_of(block: nn.Module, read: Tensor) -> Tensor:
    """What the MLP makes of the normed stream. Bloom's takes the residual stream beside it, and adds it to what it
    writes; OPT's and XGLM's two products are modules of the layer itself."""
    mlp: Any = block.mlp
    inside, act = getattr(mlp, "original_component", None), activation_of(block)
    if inside is not None and getattr(mlp, "name", "") is None and act is not None:
        return mlp.get_submodule("out")(act(mlp.get_submodule("in")(read)))
    adds = inside is not None and "residual" in inspect.signature(inside.forward).parameters
    out = mlp(read, torch.zeros_like(read)) if adds else mlp(read)
    return out[0] if isinstance(out, tuple) else out


def mlp_width(block: nn.Module) -> int | None:
    """How many neurons a layer's MLP has; None where it has not one MLP."""
    try:
        return int(block.mlp.W_out.shape[0])  # type: ignore[union-attr, index]
    except (AttributeError, NotImplementedError, AssertionError, ValueError, RuntimeError):
        return None
