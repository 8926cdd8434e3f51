"""Subject-verb agreement past an attractor: "I know that the key near the cabinets" -> " is", not " are".

The verb goes with the subject; between them stands the attractor, a noun of the other number, which is nearer. Half of
the subjects are singular and half plural. Corrupted: the subject in its other number, all else as it was, so that the
answer turns. A group is a template with subjects of both numbers: a mean over it has no number.
Source: Linzen, Dupoux & Goldberg 2016; Lakretz et al. 2021; for circuits Marks et al. 2024.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import permutations
from string import Formatter

from llmtrace.errors import InputError
from llmtrace.prompts.making.assemble import Pair, assemble, refuse_no_prompts
from llmtrace.prompts.making.token_reader import ModelOrTokenizer, TokenReader
from llmtrace.prompts.prompt_set import PromptSet

Noun = tuple[str, str]  # singular, plural; a number is a place in it

PER_GROUP = 4  # a mean over fewer prompts than this is no knock-out
VERBS = ("is", "are")
NOUNS: tuple[Noun, ...] = tuple(
    (noun, f"{noun}s")
    for noun in (
        "key", "cabinet", "book", "letter", "car", "boat", "house", "door", "window", "picture", "tree", "flower",
        "bag", "map", "table", "chair", "phone", "machine", "ship", "coin", "ring", "cup", "lamp", "desk", "bottle",
    )
)  # fmt: skip
# What stands before the subject says that a sentence is meant: after "The keys near the cabinet" alone SmolLM2-135M
# goes with the attractor in a tenth to a half of the prompts, by preposition; after these in none of 96.
TEMPLATES = (
    "I know that the {subject} near the {attractor}",
    "He said that the {subject} behind the {attractor} still",
    "We were told that the {subject} beside the {attractor}",
    "They think that the {subject} in front of the {attractor} always",
    "He said that the {subject} she saw near the {attractor} today",
    "She says that the {subject} on top of the {attractor}",
)


def agreement(
    model: ModelOrTokenizer,
    n: int = 16,
    *,
    seed: int = 0,
    templates: Sequence[str] | None = None,
    prepend_bos: bool | None = None,
) -> PromptSet:
    """`n` different prompts, dealt evenly to the templates and to both numbers; correct: the verb that goes with the
    subject, wrong: the one that goes with the attractor.

    `templates`: sentences that end before the verb, with {subject} and then {attractor}; all that are given are used,
    of our own as many as give each group 4 prompts. Positions: SUBJECT, ATTRACTOR, END. Nouns that are not one token in
    both numbers and templates that do not fit the tokenizer are counted in `left_out`. No forward pass.

    Raises InputError when " is" or " are" is not one token, or fewer than two nouns, no template, or fewer than `n`
    different prompts are left.
    """
    refuse_no_prompts(n)
    reader = TokenReader.of(model, prepend_bos)
    verbs = _verbs(reader)
    nouns = [noun for noun in NOUNS if None not in map(reader.word, noun)]
    offered = TEMPLATES if templates is None else tuple(templates)
    fitting = [template for template in offered if _fits(template, reader, nouns)]
    used = fitting if templates is not None else fitting[: max(1, n // PER_GROUP)]
    kinds = [(template, number) for number in range(len(VERBS)) for template in used]
    both = list(permutations(nouns, 2))
    if len(kinds) * len(both) < n:
        raise InputError(
            f"Expected {n} different prompts, got {len(nouns)} of {len(NOUNS)} nouns with one token in each number and "
            f"{len(used)} of {len(offered)} templates that this tokenizer reads; ask for fewer, or use a model such as "
            "gpt2."
        )
    rng = random.Random(seed)
    drawn = [rng.sample(both, -(-n // len(kinds))) for _ in kinds]
    deals = [divmod(i, len(kinds)) for i in range(n)]
    return assemble(
        "agreement",
        [_pair(reader, *kinds[kind], *drawn[kind][turn], verbs) for turn, kind in deals],
        reader,
        corruption="subject in its other number",
        seed=seed,
        left_out={"nouns": len(NOUNS) - len(nouns), "templates": len(offered) - len(fitting)},
    )


def _verbs(reader: TokenReader) -> tuple[int, int]:
    """The tokens of both verbs; refused when one has none of its own."""
    singular, plural = map(reader.word, VERBS)
    if singular is None or plural is None:
        missing = [verb for verb, token in zip(VERBS, (singular, plural), strict=True) if token is None]
        raise InputError(
            f"Expected a tokenizer with one token for each of {', '.join(VERBS)}, got none for {', '.join(missing)}; "
            "use a model such as gpt2."
        )
    return singular, plural


def _pair(
    reader: TokenReader, template: str, number: int, subject: Noun, attractor: Noun, verbs: tuple[int, int]
) -> Pair:
    other = 1 - number
    text, corrupted = (template.format(subject=subject[of], attractor=attractor[other]) for of in (number, other))
    before, _, rest = template.partition("{subject}")
    until = len(before) + len(subject[number])
    first = len(rest[: rest.index("{attractor}")]) + len(attractor[other])
    return Pair(
        text,
        corrupted,
        reader.ids(text),
        reader.ids(corrupted),
        correct=(verbs[number],),
        wrong=(verbs[other],),
        positions={"SUBJECT": reader.position(text, until), "ATTRACTOR": reader.position(text, until + first)},
        group=template,
    )


def _fits(template: str, reader: TokenReader, nouns: Sequence[Noun]) -> bool:
    """Whether every word is known, and both nouns are the tokens that they are elsewhere."""
    try:
        fields = [field for _, field, _, _ in Formatter().parse(template) if field is not None]
    except ValueError:
        fields = []
    if fields != ["subject", "attractor"]:
        raise InputError(
            f"Expected a template with {{subject}} and then {{attractor}}, once each, got {template!r}; "
            "write it like 'I know that the {subject} near the {attractor}', and end before the verb."
        )
    if len(nouns) < 2:
        return False
    subject, attractor = nouns[:2]
    try:
        pair = _pair(reader, template, 0, subject, attractor, (0, 0))
    except InputError:
        return False
    wanted = {"SUBJECT": reader.word(subject[0]), "ATTRACTOR": reader.word(attractor[1])}
    return all(pair.clean[at] == wanted[place] for place, at in pair.positions.items())
