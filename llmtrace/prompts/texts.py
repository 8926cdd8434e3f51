"""Plain texts as a `PromptSet`, for what needs neither answers nor a corruption: capturing, attention, rollout.

>>> lt.prompts.from_texts(model, ["Mary gave a key to"])
PromptSet(texts/none: 1 prompts of 6 tokens, 1 groups)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch

from llmtrace.errors import InputError, LimitError, MismatchError
from llmtrace.prompts.making.assemble import NO_CORRUPTION, Pair, assemble
from llmtrace.prompts.making.token_reader import ModelOrTokenizer, TokenReader
from llmtrace.prompts.prompt_set import PromptSet


def from_texts(
    model: ModelOrTokenizer, texts: str | Sequence[str], *, prepend_bos: bool | None = None, name: str = "texts"
) -> PromptSet:
    """One prompt per text, with no answers (metrics that need one refuse) and `corruption="none"`: the corrupted
    tokens are the clean ones. Raises InputError for an empty text, LimitError for one over the context length."""
    reader = TokenReader.of(model, prepend_bos)
    if not isinstance(texts, Iterable):
        raise InputError(f"Expected a text or a list of texts, got {type(texts).__name__}; write it in quotes.")
    written = [texts] if isinstance(texts, str) else list(texts)
    pairs = [Pair(text, text, ids, ids, correct=()) for text, ids in ((text, reader.ids(text)) for text in written)]
    return assemble(name, pairs, reader, corruption=NO_CORRUPTION)


def as_prompts(model: ModelOrTokenizer, prompts: PromptSet | str | Sequence[str]) -> PromptSet:
    """A `PromptSet` as it is, checked against the model; a text or several by `from_texts`."""
    if not isinstance(prompts, PromptSet):
        if not isinstance(prompts, str) and not isinstance(prompts, Sequence):
            raise InputError(
                f"Expected a PromptSet, a text or a list of texts, got {type(prompts).__name__}; "
                "make one with ioi(model) or from_pairs(model, pairs)."
            )
        return from_texts(model, prompts)
    cfg = getattr(model, "cfg", None)
    n_ctx, d_vocab = getattr(cfg, "n_ctx", None), getattr(cfg, "d_vocab", None)
    longest, last = prompts.clean.shape[1], int(max(prompts.clean.max(), prompts.corrupted.max()))
    if n_ctx is not None and longest > n_ctx:
        raise LimitError(
            f"Expected prompts of at most {n_ctx} tokens, the model's context, got {longest}; shorten them."
        )
    if d_vocab is not None and last >= d_vocab:
        raise MismatchError(
            f"Expected tokens below the vocabulary size {d_vocab}, got {last}; make the prompts with this model."
        )
    _refuse_other_vocabulary(model, prompts)
    return prompts


def _refuse_other_vocabulary(model: ModelOrTokenizer, prompts: PromptSet) -> None:
    """Tokens of another tokenizer that happen to fit are other words: every number would be of a text nobody wrote."""
    if not prompts.vocabulary or getattr(model, "tokenizer", None) is None:
        return
    used = {*torch.cat([prompts.clean, prompts.corrupted]).flatten().tolist()}
    used.update(token for answers in (*prompts.correct, *prompts.wrong) for token in answers)
    ours = TokenReader.of(model).names(sorted(used & prompts.vocabulary.keys()))
    for token, here in ours.items():
        if here != (name := prompts.vocabulary[token]):
            raise MismatchError(
                f"Expected prompts in this model's vocabulary, got another: token {token} is {name!r} there and "
                f"{here!r} here; make the prompts with this model."
            )
