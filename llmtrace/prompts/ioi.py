"""Indirect objects: "When Mary and John went to the store, John gave a drink to" -> " Mary" (Wang et al. 2022).

IO is the name that is named once and receives, S the subject, named twice (S1, S2). Half of the prompts name IO first
(ABBA), half S (BABA); a group is a template in one order, within which every position holds the same kind of word.

    >>> prompts = lt.prompts.ioi(model, 4)
    >>> prompts
    PromptSet(ioi/abc: 4 prompts of 15 tokens, 2 groups, seed 0)
    >>> prompts.texts[0]
    'When Eric and Sam went to the garden, Sam offered a key to'
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from string import Formatter

from llmtrace.errors import InputError
from llmtrace.prompts.making.assemble import Pair, assemble, refuse_no_prompts
from llmtrace.prompts.making.token_reader import ModelOrTokenizer, TokenReader
from llmtrace.prompts.prompt_set import PromptSet
from llmtrace.prompts.rows import CORRUPTIONS

PER_GROUP = 4  # a mean over fewer prompts than this is no knock-out
ORDERS = ("ABBA", "BABA")
NAMED = ("A", "B", "S")
UNLUCKY = 200  # draws in a row that gave nothing new: there is nothing new

# The sentences and words are those that `tiny-english` was trained on, and common enough to be single tokens elsewhere.
# {A} and {B} are the two names, {S} the one that gives; the answer follows. The last template tiny-english never saw.
TEMPLATES = (
    "When {A} and {B} went to the {place}, {S} {verb} a {object} to",
    "Then {A} and {B} went to the {place}. {S} {verb} a {object} to",
    "After {A} and {B} left the {place}, {S} {verb} the {object} to",
    "While {A} and {B} were at the {place}, {S} {verb} a {object} to",
    "{A} and {B} were working at the {place}. Then {S} decided to give a {object} to",
    "Then, {A} and {B} had a long talk at the {place}. After that {S} {verb} the {object} to",
    "After {A} and {B} went to the {place}, {S} {verb} a {object} to",
)
NAMES = (
    "Mary", "John", "Tom", "Anna", "Alice", "Bob", "Kate", "Paul", "James", "Sarah", "David", "Laura", "Peter",
    "Emma", "Jack", "Lucy", "Mark", "Jane", "Simon", "Nina", "Adam", "Rose", "Carl", "Ruth", "Eric", "Lily", "Sam",
    "Amy", "Leo", "Max", "Dan", "Martin",
)  # fmt: skip
SLOTS = {
    "place": (
        "store", "park", "school", "beach", "office", "market", "garden", "library", "station", "museum",
    ),
    "object": (
        "drink", "book", "ball", "gift", "key", "ring", "map", "letter", "flower", "coin",
    ),
    "verb": ("gave", "handed", "passed", "offered"),
}  # fmt: skip

# A corruption says what becomes of the three names (IO, S1, S2), with S1 = S2.
Names = tuple[str, str, str]  # in the places of IO, S1, S2


def abc(io: str, s: str, others: Names) -> Names:
    """Three unrelated names: nobody is named twice, so nothing tells who receives. Wang et al.'s reference (pABC)."""
    return others


def s2_io_flip(io: str, s: str, others: Names) -> Names:
    """S2 becomes IO: now S is named once and is the answer. A logit difference changes its sign."""
    return io, s, io


def s2_random(io: str, s: str, others: Names) -> Names:
    """S2 alone becomes a third name: both names stay, the duplicate goes; IO and S are equally likely."""
    return io, s, others[2]


def s1_io_flip(io: str, s: str, others: Names) -> Names:
    """IO and S1 change places: the answer stays, the *order* turns (ABBA to BABA). Isolates position information."""
    return s, io, s


def names(io: str, s: str, others: Names) -> Names:
    """Other names in the same structure: S1 = S2 still, but the answer is another person. Isolates token identity."""
    return others[0], others[1], others[1]


def ioi(
    model: ModelOrTokenizer,
    n: int = 16,
    *,
    seed: int = 0,
    corruption: str = "abc",
    templates: Sequence[str] | None = None,
    names: Sequence[str] | None = None,
    prepend_bos: bool | None = None,
) -> PromptSet:
    """`n` different prompts, dealt evenly to the groups; correct answer IO, wrong answer S.

    `corruption`: a name of `CORRUPTIONS`. `templates`: sentences that end before the answer, with {A}, {B}, {S} and, if
    wanted, {place}, {object}, {verb}; all that are given are used, of our own as many as give each group 4 prompts.
    `names`: at least five, and only those that are one token here are used. Positions: IO, S1, S1+1 (the token after
    S1), S2, END. Names, words and templates that do not fit the tokenizer are counted in `left_out`; a template is left
    out too when a name at its start is another token than the same name later (byte-level BPE). No forward pass.

    Raises InputError when fewer than five names, no template, or fewer than `n` different prompts are left.
    """
    refuse_no_prompts(n)
    corrupt = CORRUPTIONS[corruption].function
    reader = TokenReader.of(model, prepend_bos)
    token = {name: reader.word(name) for name in dict.fromkeys(NAMES if names is None else names)}
    people = [name for name, one in token.items() if one is not None]
    if len(people) < 5:
        raise InputError(
            f"Expected five names that are one token each, got {len(people)} of {len(token)}; "
            "pass names= that this tokenizer does not cut in pieces."
        )
    slots = {slot: [word for word in words if reader.word(word) is not None] for slot, words in SLOTS.items()}
    offered = TEMPLATES if templates is None else tuple(templates)
    fitting = [template for template in offered if _fits(template, reader, people, slots)]
    if not fitting:
        raise InputError(
            f"Expected a template whose words this tokenizer knows, got none of {len(offered)}; "
            "pass templates= such as 'When {A} and {B} went home, {S} gave a drink to', with no name at the start."
        )
    used = fitting if templates is not None else fitting[: max(1, n // (PER_GROUP * len(ORDERS)))]
    groups = [(template, order) for template in used for order in ORDERS]

    rng = random.Random(seed)
    pairs: dict[str, Pair] = {}
    unlucky = 0
    while len(pairs) < n:
        template, order = groups[len(pairs) % len(groups)]
        io, s, *others = rng.sample(people, 5)
        words = {slot: rng.choice(of) for slot, of in slots.items() if of}
        pair = _pair(reader, template, order, words, (io, s, s), corrupt(io, s, tuple(others)))
        unlucky = unlucky + 1 if pair.text in pairs else 0
        if unlucky > UNLUCKY:
            raise InputError(
                f"Expected {n} different prompts, got {len(pairs)} before they repeated; "
                "ask for fewer, or pass more names or templates with {place} and {object}."
            )
        pairs.setdefault(pair.text, pair)

    left_out = {
        "names": len(token) - len(people),
        "words": sum(map(len, SLOTS.values())) - sum(map(len, slots.values())),
        "templates": len(offered) - len(fitting),
    }
    return assemble("ioi", list(pairs.values()), reader, corruption=corruption, seed=seed, left_out=left_out)


def _pair(reader: TokenReader, template: str, order: str, words: dict[str, str], clean: Names, other: Names) -> Pair:
    text, places = _sentence(reader, template, order, words, clean)
    corrupted_text, _ = _sentence(reader, template, order, words, other)
    return Pair(
        text,
        corrupted_text,
        reader.ids(text),
        reader.ids(corrupted_text),
        correct=(_one_token(reader, clean[0]),),
        wrong=(_one_token(reader, clean[1]),),
        positions=places,
        group=f"{order}: {template}",
    )


def _sentence(
    reader: TokenReader, template: str, order: str, words: dict[str, str], names: Names
) -> tuple[str, dict[str, int]]:
    """The filled template, and where its names stand."""
    io, s1, s2 = names
    fill = {**words, "A": io if order == "ABBA" else s1, "B": s1 if order == "ABBA" else io, "S": s2}
    text = template.format(**fill)

    def end_of(field: str) -> int:
        return len(template[: template.index(f"{{{field}}}")].format(**fill)) + len(fill[field])

    a, b, s = (reader.position(text, end_of(field)) for field in ("A", "B", "S"))
    first, subject = (a, b) if order == "ABBA" else (b, a)
    return text, {"IO": first, "S1": subject, "S1+1": subject + 1, "S2": s}


def _one_token(reader: TokenReader, name: str) -> int:
    token = reader.word(name)
    assert token is not None, name  # corruptions and makers only use names that were checked
    return token


def _fits(template: str, reader: TokenReader, people: list[str], slots: dict[str, list[str]]) -> bool:
    """Whether every slot can be filled, every word is known, and every name is the token that it is as an answer."""
    try:
        fields = [field for _, field, _, _ in Formatter().parse(template) if field is not None]
    except ValueError:
        fields = []
    roles = [field for field in fields if field in NAMED]
    if sorted(roles) != sorted(NAMED) or roles[-1] != "S" or any(f"{{{field}}}" not in template for field in fields):
        raise InputError(
            f"Expected a template with {{A}}, {{B}} and then {{S}}, once each, got {template!r}; "
            "write it like 'When {A} and {B} went to the {place}, {S} gave a {object} to'."
        )
    if unknown := [field for field in fields if field not in (*NAMED, *slots)]:
        raise InputError(
            f"Expected no slots but {', '.join((*NAMED, *slots))}, got {{{unknown[0]}}} in {template!r}; "
            "write the word itself, and end before the answer."
        )
    if not all(slots.get(field, [""]) for field in fields):
        return False
    words = {slot: of[0] for slot, of in slots.items() if of}
    names = (people[0], people[1], people[2])
    try:
        text, places = _sentence(reader, template, "ABBA", words, names)
    except InputError:
        return False
    ids = reader.ids(text)
    return [ids[places[p]] for p in ("IO", "S1", "S2")] == [_one_token(reader, name) for name in names]
