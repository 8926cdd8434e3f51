"""Spans: named stretches of the tokens of each prompt, so that one may ask what "the instruction" did.

Every token is in exactly one span, so sums over spans add up to sums over tokens, and shares stay shares. What no span
names is in "rest" (or "start", where spans begin at named positions). Of nested spans the inner one has the token: give
it later. `merged` puts spans together again.

    Spans.of_text(model, prompts, {"the instruction": "Translate this", "the document": (20, 85)})
    Spans.of_positions(prompts, {"subject": [3, 4], "end": ["END"]})
    Spans.between(prompts, ("S1", "S2", "END"))
    from_messages(model, messages).spans                              by message, `chat.py`
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from llmtrace.arguments import check_methods
from llmtrace.errors import InputError, MismatchError, NotFoundError, did_you_mean
from llmtrace.prompts.choice import Choice
from llmtrace.prompts.fingerprints import require_same
from llmtrace.prompts.making.token_reader import ModelOrTokenizer, TokenReader
from llmtrace.prompts.prompt_set import PromptSet

REST, START = "rest", "start"
Where = str | tuple[int, int]  # in a text: words that occur once, or (first character, character after the last)
SpansByText = Annotated[
    Mapping[str, Where | Sequence[Where]], "a dict of names to words or (first, last) characters, or to a list of these"
]


@check_methods
@dataclass(frozen=True, eq=False)
class Spans:
    """`of[prompt, pos]` is the index in `names` of the span that a token is in; -1 in padding.

    fingerprints   of the prompts that they were made for; None: nobody knows, and what fits is taken
    """

    names: tuple[str, ...]
    of: Int[Tensor, "batch pos"]
    fingerprints: Int[Tensor, " batch"] | None = None

    def __post_init__(self) -> None:
        if len(set(self.names)) != len(self.names):
            raise InputError(f"Expected different names of spans, got {', '.join(self.names)}; rename one.")
        if self.of.numel() and int(self.of.max()) >= len(self.names):
            raise InputError(f"Expected indices of {len(self.names)} spans, got {int(self.of.max())}; name them all.")

    @classmethod
    def of_text(cls, model: ModelOrTokenizer, prompts: PromptSet, spans: SpansByText) -> Spans:
        """Spans by words of the text (which must occur once) or by ranges of characters; one for all prompts or a list
        with one for each. A token that lies partly inside belongs to the span; spaces around a range do not count."""
        if not isinstance(spans, Mapping):
            raise InputError(f"Expected spans by name, got {spans!r}; write {{'the document': 'its words'}}.")
        given = {name: _per_prompt(name, where, len(prompts)) for name, where in spans.items()}
        marks = [[(name, where[row]) for name, where in given.items()] for row in range(len(prompts))]
        return mark_texts(model, prompts, marks)

    @classmethod
    def of_positions(cls, prompts: PromptSet, spans: Mapping[str, Choice]) -> Spans:
        """Spans as lists of positions: names of the prompt set, or indices (BOS counted, negative from the end). An
        empty list is a span that no prompt has."""
        if not isinstance(spans, Mapping):
            raise InputError(f"Expected spans by name, got {spans!r}; write {{'subject': [3, 4]}}.")
        found = _Marks(prompts)
        for name, places in spans.items():
            at = prompts.places(places, f"positions of span {name!r}", least=0)
            for row, positions in enumerate(at.tolist()):
                found.mark(name, row, positions)
        return found.spans()

    @classmethod
    def between(cls, prompts: PromptSet, positions: Choice) -> Spans:
        """A span begins at its position (a name or an index) and ends before the next one; what comes before is
        "start"."""
        names = prompts.chosen(positions, "positions where spans begin")
        begins = prompts.places(names).T  # span batch
        at = torch.arange(prompts.clean.shape[1])
        reached = begins[:, :, None] <= at
        latest = begins[:, :, None].expand_as(reached).masked_fill(~reached, -1).max(0)
        of = (latest.indices + 1).masked_fill(latest.values < 0, 0)
        return cls((START, *map(str, names)), of.masked_fill(~prompts.mask, -1), prompts.fingerprints)

    @property
    def members(self) -> Bool[Tensor, "batch span pos"]:
        """Which tokens each span has."""
        return self.of[:, None] == torch.arange(len(self.names))[:, None]

    @property
    def sizes(self) -> Int[Tensor, "batch span"]:
        """How many tokens each span has; 0 where a prompt has none of it."""
        return self.members.sum(-1)

    def positions(self, name: str, prompt: int = 0) -> list[int]:
        """Where a span is in a prompt."""
        return self.members[prompt, self.index(name)].nonzero()[:, 0].tolist()

    def index(self, name: str) -> int:
        """Raises NotFoundError for an unknown name."""
        if name not in self.names:
            raise NotFoundError(
                f"Expected a span, one of {', '.join(self.names)}; got {name!r}.{did_you_mean(name, [*self.names])}"
            )
        return self.names.index(name)

    def merged(self, groups: Mapping[str, Sequence[str]]) -> Spans:
        """Some spans together under one name, at the place of the first of them: {"user": ["user", "the document"]}."""
        into = {self.names[self.index(old)]: new for new, olds in groups.items() for old in olds}
        renamed = [into.get(name, name) for name in self.names]
        names = tuple(dict.fromkeys(renamed))
        to = torch.tensor([names.index(name) for name in renamed] + [-1])  # -1 stays -1
        return Spans(names, to[self.of], self.fingerprints)

    def extended(self, new: int, name: str) -> Spans:
        """`new` more tokens at the end of the only prompt, in a span of their own."""
        if len(self.of) != 1:
            raise InputError(f"Expected spans of one prompt to go on with, got {len(self.of)}; take spans[i].")
        names = self.names if name in self.names else (*self.names, name)
        more = torch.full((1, new), names.index(name))
        return Spans(names, torch.cat([self.of[:, self.of[0] >= 0], more], 1))

    def require_fit(self, batch: int, width: int) -> None:
        """Refuse spans of prompts of another shape."""
        if tuple(self.of.shape) != (batch, width):
            raise MismatchError(
                f"Expected spans of {batch} prompts of {width} tokens, got {self.of.shape[0]} of {self.of.shape[1]}; "
                "make them from the prompts that were scored."
            )

    def require_of(self, prompts: PromptSet) -> None:
        """Refuse spans of other prompts than these."""
        self.require_fit(*prompts.clean.shape)
        self.require_same(prompts.fingerprints)

    def require_same(self, fingerprints: Int[Tensor, " batch"] | None) -> None:
        """Refuse spans of other prompts than those of as many fingerprints."""
        require_same("spans", self.fingerprints, fingerprints)

    def __len__(self) -> int:
        return len(self.of)

    def __getitem__(self, index: Any) -> Spans:
        """The spans of some prompts, without the padding that they no longer need, as `prompts[index]`."""
        rows = torch.arange(len(self.of))[index].reshape(-1)
        chosen = self.of[rows]
        prints = None if self.fingerprints is None else self.fingerprints[rows]
        return Spans(self.names, chosen[:, : int((chosen >= 0).sum(1).max())], prints)

    def __repr__(self) -> str:
        sizes = ", ".join(f"{name} {size}" for name, size in zip(self.names, self.sizes[0].tolist(), strict=True))
        return f"Spans({len(self.of)} prompts; tokens in the first: {sizes})"


class _Marks:
    """Spans in the making: later names take tokens from earlier ones."""

    def __init__(self, prompts: PromptSet):
        self._names = [REST]
        self._prompts = prompts
        self._of = torch.zeros(prompts.clean.shape, dtype=torch.long)

    def mark(self, name: str, row: int, positions: Sequence[int]) -> None:
        if name not in self._names:
            self._names.append(name)
        self._of[row, list(positions)] = self._names.index(name)

    def spans(self) -> Spans:
        return Spans(tuple(self._names), self._of.masked_fill(~self._prompts.mask, -1), self._prompts.fingerprints)


def mark_texts(model: ModelOrTokenizer, prompts: PromptSet, marks: Sequence[Sequence[tuple[str, Where]]]) -> Spans:
    """Spans from (name, place in the text), a list for each prompt; of overlapping ones the later has the token."""
    found = _Marks(prompts)
    for row, (text, named) in enumerate(zip(prompts.texts, marks, strict=True)):
        places = token_places(model, prompts, row)
        for name, where in named:
            found.mark(name, row, tokens_within(places, *characters(name, text, where)))
    return found.spans()


def _per_prompt(name: str, given: Any, n: int) -> list[Where]:
    """One place for each prompt; a tuple of two numbers or a text is the same place in all."""
    if isinstance(given, str) or _is_range(given):
        return [given] * n
    if not isinstance(given, Sequence) or len(given) != n:
        got = f"{len(given)} places" if isinstance(given, Sequence) else repr(given)
        raise InputError(
            f"Expected span {name!r} as words, a range of characters or a list for {n} prompts, got {got}."
        )
    return list(given)


def _is_range(where: object) -> bool:
    return isinstance(where, tuple) and len(where) == 2 and all(type(x) is int for x in where)


def characters(name: str, text: str, where: Where) -> tuple[int, int]:
    """The range of characters, without the spaces at its ends."""
    if isinstance(where, str):
        if not where or text.count(where) != 1:
            times = text.count(where) if where else "no word, 0"
            raise InputError(
                f"Expected the words of span {name!r} once in {text[:80]!r}, got {where!r} ({times} times); "
                "write more of them, or give (first, last) characters."
            )
        where = (text.index(where), text.index(where) + len(where))
    if not _is_range(where):
        raise InputError(f"Expected span {name!r} as words or (first, last) characters, got {where!r}; write (0, 12).")
    first, last = where
    if not 0 <= first < last <= len(text):
        raise InputError(
            f"Expected span {name!r} as characters from 0 to {len(text)}, the first before the last, got {where}."
        )
    inside = text[first:last]
    if inside.strip():
        first, last = first + len(inside) - len(inside.lstrip()), last - (len(inside) - len(inside.rstrip()))
    return first, last


def token_places(model: ModelOrTokenizer, prompts: PromptSet, row: int) -> list[tuple[int, int]]:
    """For each token of a prompt, the characters of its text that it stands for; none for BOS.

    Raises MismatchError where the text is not what the tokens were made from, InputError for a tokenizer without
    offsets.
    """
    tokenizer = TokenReader.of(model).tokenizer
    if not getattr(tokenizer, "is_fast", False):
        raise InputError(
            f"Expected a tokenizer that says where its tokens stand in a text, got {type(tokenizer).__name__}; "
            "give spans as positions: Spans.of_positions."
        )
    made = tokenizer(prompts.texts[row], return_offsets_mapping=True, add_special_tokens=False, verbose=False)
    ids = prompts.clean[row, : int(prompts.lengths[row])].tolist()
    before = len(ids) - len(made["input_ids"])
    if before not in (0, 1) or ids[before:] != made["input_ids"]:
        raise MismatchError(
            f"Expected the tokens of {prompts.texts[row][:60]!r}, got others: they were made from tokens, or by "
            "another tokenizer; give spans as positions: Spans.of_positions."
        )
    return [(0, 0)] * before + [(first, last) for first, last in made["offset_mapping"]]


def tokens_within(places: Sequence[tuple[int, int]], first: int, last: int) -> list[int]:
    """The tokens that share a character with the range."""
    return [i for i, (begins, ends) in enumerate(places) if begins < last and first < ends]
