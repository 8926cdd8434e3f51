"""A tokenizer of a few words that speaks ChatML: what tests of spans, conversations and generation share."""

from __future__ import annotations

from typing import Any

from llmtrace.models.tokenizers import prepare

TEXT = "Translate this : the sea is blue . Thanks"


def tokenizer(*, bos: str = "<bos>") -> Any:
    """Words and signs, with the marks of ChatML among them."""
    from tokenizers import AddedToken, Regex, Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Split
    from transformers import PreTrainedTokenizerFast

    words = [*TEXT.split(), "You", "are", "terse", "Hi", "system", "user", "assistant", "\n"]
    marks = ["<bos>", "<unk>", "<|im_start|>", "<|im_end|>"]
    ids = {word: i for i, word in enumerate(dict.fromkeys([*marks, *words, *(f" {word}" for word in words)]))}
    made = Tokenizer(WordLevel(ids, unk_token="<unk>"))
    made.pre_tokenizer = Split(Regex(r"\n| ?[^\s]+"), "isolated")
    made.add_special_tokens([AddedToken(mark, normalized=False) for mark in marks[2:]])
    fast = PreTrainedTokenizerFast(tokenizer_object=made, bos_token=bos, unk_token="<unk>", pad_token="<bos>")
    return prepare(fast)
