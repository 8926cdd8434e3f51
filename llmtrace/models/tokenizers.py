"""A tokenizer that TransformerLens accepts as it stands (right padding, an explicit BOS), and tokens as text.

TransformerLens gives a tokenizer without BOS, EOS or padding a token in its place: its EOS, its unknown token, or a new
one past the vocabulary, and puts it before every prompt. What a model that was loaded prepends, its tokenizer decides.

`set_tokenizer` reloads a tokenizer that does not add BOS from `name_or_path`, which is the network, a folder without
tokenizer files, or nothing at all for one made in memory. Setting BOS here makes that reload unnecessary.
"""

from __future__ import annotations

import copy
from typing import Any

from jaxtyping import Int
from torch import Tensor

from llmtrace.errors import InputError


def prepare(tokenizer: Any) -> Any:
    """A copy that adds BOS (where it has one) and pads on the right; the caller's tokenizer is not touched."""
    from transformers import PreTrainedTokenizerBase

    if not isinstance(tokenizer, PreTrainedTokenizerBase):
        raise InputError(
            f"Expected tokenizer= to be a Hugging Face tokenizer, got {type(tokenizer).__name__}; "
            "use transformers.AutoTokenizer.from_pretrained(...)."
        )
    ours = copy.deepcopy(tokenizer)
    ours.padding_side = "right"
    ours.init_kwargs.setdefault("name_or_path", "")
    if ours.pad_token is None:  # padding is never read, but it must be a token
        ours.pad_token = ours.eos_token or ours.bos_token or ours.convert_ids_to_tokens(0)
    if ours.bos_token is not None:
        if ours.is_fast and not starts_with_bos(ours):
            ours.add_bos_token = True
        ours.init_kwargs["add_bos_token"] = True
    return ours


def give_back(model: Any, tokenizer: Any) -> None:
    """The tokenizer as `prepare` made it, where TransformerLens has filled in what it lacks; without BOS none is put
    before a prompt."""
    if tokenizer.bos_token is None or tokenizer.eos_token is None:
        # a bridge's setter would fill in the same again, and take the vocabulary's size from it
        setattr(
            model,
            "_tokenizer" if isinstance(getattr(type(model), "tokenizer", None), property) else "tokenizer",
            tokenizer,
        )
    if tokenizer.bos_token is None:
        model.cfg.default_prepend_bos = model.cfg.tokenizer_prepends_bos = False


def starts_with_bos(tokenizer: Any) -> bool:
    """Does it put BOS first by itself? TransformerLens' bridges guess wrong where "a" is not in the vocabulary."""
    return tokenizer.bos_token_id is not None and tokenizer.encode("a")[:1] == [tokenizer.bos_token_id]


def token_labels(model: Any, tokens: Int[Tensor, "batch pos"]) -> tuple[tuple[str, ...], ...]:
    """Each token as the text it stands for; its number where the model has no tokenizer."""
    tokenizer = getattr(model, "tokenizer", None)
    distinct = sorted(set(tokens.flatten().tolist()))
    text = {i: str(i) if tokenizer is None else tokenizer.decode([i]) for i in distinct}
    return tuple(tuple(text[i] for i in row) for row in tokens.tolist())
