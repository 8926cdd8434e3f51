"""Text to tokens, for any Hugging Face tokenizer: BOS explicit, nothing guessed about how words are cut."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

from llmtrace.errors import InputError

ModelOrTokenizer: TypeAlias = Any  # a model with `.tokenizer` and `.cfg` (n_ctx, d_vocab are read), or a bare tokenizer


@dataclass(frozen=True, eq=False)
class TokenReader:
    """A tokenizer and the limits of its model. `bos` is the token put before every prompt, None for none."""

    tokenizer: Any
    bos: int | None
    pad: int
    n_ctx: int | None = None
    d_vocab: int | None = None

    @classmethod
    def of(cls, model: ModelOrTokenizer, prepend_bos: bool | None = None) -> TokenReader:
        """`prepend_bos=None`: BOS when the tokenizer has one and the model was not configured to go without."""
        bare = hasattr(model, "bos_token_id") and not hasattr(model, "cfg")  # a string has `encode` too
        tokenizer = model if bare else getattr(model, "tokenizer", None)
        if isinstance(model, str):
            raise InputError(f"Expected a model, got the text {model!r}; give lt.load({model!r}), for instance.")
        if tokenizer is None:
            raise InputError(
                f"Expected a model with a tokenizer, got {type(model).__name__} without one; "
                "load it with tokenizer=... or build a PromptSet from token ids."
            )
        cfg = None if bare else getattr(model, "cfg", None)
        d_vocab = getattr(cfg, "d_vocab", None)
        bos, *padding = (
            token if token is not None and (d_vocab is None or token < d_vocab) else None  # a model has no other tokens
            for token in (tokenizer.bos_token_id, tokenizer.pad_token_id, tokenizer.eos_token_id, 0)
        )
        if prepend_bos and bos is None:
            raise InputError(
                "Expected a tokenizer with a BOS token for prepend_bos=True, got one without; "
                "leave prepend_bos out, or set tokenizer.bos_token."
            )
        wanted = getattr(cfg, "default_prepend_bos", None) is not False if prepend_bos is None else prepend_bos
        return cls(
            tokenizer,
            bos=bos if wanted else None,
            pad=next(token for token in padding if token is not None),
            n_ctx=getattr(cfg, "n_ctx", None),
            d_vocab=d_vocab,
        )

    def raw(self, text: str) -> list[int]:
        """The tokens of the text alone; unknown words come back as the unknown token."""
        return list(self.tokenizer.encode(text, add_special_tokens=False, verbose=False))  # we say "too long" ourselves

    def ids(self, text: str) -> list[int]:
        """The tokens of a prompt, BOS first where it is used. Empty prompts and unknown words are refused."""
        if not isinstance(text, str) or not text.strip():
            raise InputError(f"Expected a prompt with at least one word, got {text!r}; write a sentence.")
        ids = self.raw(text)
        if self._says_unknown(ids, text):
            unknown = [word for word in text.split() if self._says_unknown(self.raw(word), word)]
            raise InputError(
                f"Expected words that the tokenizer knows, got {', '.join(map(repr, unknown)) or repr(text)}; "
                "replace them, or use a model with a larger vocabulary."
            )
        if self.bos is None:
            return ids
        if ids[:1] == [self.bos]:
            raise InputError(
                f"Expected a prompt without its own BOS, got {text[:20]!r}...; "
                "take it out of the text, or pass prepend_bos=False."
            )
        return [self.bos, *ids]

    def position(self, text: str, end: int) -> int:
        """Position (BOS counted) of the token that ends at character `end`, whatever the tokenizer."""
        prefix, whole = self.ids(text[:end]), self.ids(text)
        if whole[: len(prefix)] != prefix:
            raise InputError(
                f"Expected {text[:end]!r} to end where a token ends, got the tokens {self.pieces(whole)}; "
                "name whole words, or give the position as a number."
            )
        return len(prefix) - 1

    def word(self, word: str) -> int | None:
        """The one token that is this word after a space; None when it takes several or is unknown."""
        before, both = self.raw("the"), self.raw(f"the {word}")
        if both[: len(before)] != before or len(both) != len(before) + 1:
            return None
        return None if self._says_unknown(both[-1:], word) else both[-1]

    def answer(self, text: str) -> int:
        """The one token of an answer, as given; failing that, with a space before it (or without the one it has)."""
        variants = [text, text[1:] if text.startswith(" ") else f" {text}"]
        for variant in variants if text.strip() else []:
            ids = self.raw(variant)
            if len(ids) == 1 and not self._says_unknown(ids, variant):
                return ids[0]
        got = f"{text!r}, which is {self.pieces(self.raw(text))}" if text.strip() else repr(text)
        raise InputError(f"Expected an answer of one token, got {got}; choose another word or its first piece.")

    def pieces(self, ids: list[int]) -> list[str]:
        """Each token as the text it stands for."""
        return [self.tokenizer.decode([i]) for i in ids]

    def names(self, ids: list[int]) -> dict[int, str]:
        """What the vocabulary calls each token, by its number."""
        return dict(zip(ids, self.tokenizer.convert_ids_to_tokens(ids), strict=True))

    def ordinary(self) -> list[int]:
        """All tokens but the special and the added ones, in order."""
        special = {*self.tokenizer.all_special_ids, *self.tokenizer.get_added_vocab().values()}
        size = len(self.tokenizer) if self.d_vocab is None else min(len(self.tokenizer), self.d_vocab)
        return [i for i in range(size) if i not in special]

    def _says_unknown(self, ids: list[int], text: str) -> bool:
        unknown = self.tokenizer.unk_token_id
        # GPT-2's unknown token is its end-of-text token, which a text may spell out on purpose.
        return unknown is not None and unknown in ids and self.tokenizer.unk_token not in text
