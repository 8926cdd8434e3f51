"""A tokenizer that TransformerLens accepts as it stands: right padding, an explicit BOS, no second download.

`set_tokenizer` reloads a tokenizer that does not add BOS from `name_or_path`, which is the network, a folder without
tokenizer files, or nothing at all for one made in memory. Setting BOS here makes that reload unnecessary.
"""

from __future__ import annotations

import copy
from typing import Any

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
    if ours.bos_token is not None:
        if ours.is_fast and not starts_with_bos(ours):
            ours.add_bos_token = True
        ours.init_kwargs["add_bos_token"] = True
    return ours


def starts_with_bos(tokenizer: Any) -> bool:
    """Does it put BOS first by itself? TransformerLens' bridges guess wrong where "a" is not in the vocabulary."""
    return tokenizer.bos_token_id is not None and tokenizer.encode("a")[:1] == [tokenizer.bos_token_id]
