"""Prompts: what every maker promises, over three kinds of tokenizer, and the sentences of what is refused.

tiny-english reads words, SmolLM2 is byte-level BPE with single digits, and `gpt2_like` is a hand-made BPE that cuts as
GPT-2 does: words with their space, years as two pairs of digits, end-of-text for BOS, EOS and unknown alike.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

import llmtrace
from llmtrace.errors import FileFormatError, InputError, LimitError, LLMTraceError, MismatchError, NotFoundError
from llmtrace.metrics import METRICS, custom
from llmtrace.prompts import (
    CORRUPTIONS,
    MAKERS,
    TEMPLATES,
    PromptSet,
    agreement,
    as_prompts,
    from_jsonl,
    from_pairs,
    from_texts,
    greater_than,
    induction,
    ioi,
    metric_of,
)

SENTENCE = "When Mary and John went to the store, John gave a drink to"
OTHER = "When Mary and John went to the store, Mary gave a drink to"
PAIR = (SENTENCE, OTHER, " Mary", " John")
WORDS = """When Then After While and went to the left were at , . gave handed a drink key store park war siege
lasted from year Mary John Tom Anna Bob Paul I know that near is are keys cabinet cabinets lamp lamps"""


def as_model(tokenizer: Any, n_ctx: int = 64, **cfg: Any) -> Any:
    return SimpleNamespace(tokenizer=tokenizer, cfg=SimpleNamespace(n_ctx=n_ctx, d_vocab=len(tokenizer), **cfg))


def gpt2_like_tokenizer(**special: str) -> Any:
    """Byte-level BPE whose merges spell each word from its space on; digits in pairs, after a space too."""
    merges: dict[tuple[str, str], None] = {}
    for word in [*WORDS.split(), *map(str, range(11, 20))]:
        for cut in range(len(word)):
            merges[("Ġ" + word[:cut], word[cut])] = None
    merges |= {(a, b): None for a in "0123456789" for b in "0123456789"}
    merges[("Ġ19", "45")] = None  # as GPT-2 has years that are one token
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate(["<|endoftext|>", *letters, *map("".join, merges)])}
    tokenizer = Tokenizer(models.BPE(vocabulary, list(merges)))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)


@pytest.fixture(scope="session")
def tiny() -> Any:
    return as_model(
        AutoTokenizer.from_pretrained(Path(llmtrace.__file__).parent / "models" / "embedded" / "tiny-english")
    )


@pytest.fixture(scope="session")
def gpt2_like() -> Any:
    end = "<|endoftext|>"
    return as_model(gpt2_like_tokenizer(bos_token=end, eos_token=end, unk_token=end))


@pytest.fixture(scope="session")
def no_bos() -> Any:
    return as_model(gpt2_like_tokenizer())


@pytest.fixture(scope="session")
def smol(smollm2_gguf: Path) -> Any:
    return as_model(AutoTokenizer.from_pretrained(smollm2_gguf.parent, gguf_file=smollm2_gguf.name), n_ctx=2048)


@pytest.fixture(params=["tiny", "gpt2_like", "no_bos", "smol"])
def model(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


def made_by(maker: str, model: Any, n: int = 12, **options: Any) -> PromptSet:
    """The maker's prompts; where it refuses this tokenizer, as it says, those of the first one."""
    if (missing := lacking(maker, model)) is None:
        return MAKERS[maker](model, n, **options)
    with pytest.raises(InputError, match=missing):
        MAKERS[maker](model, n, **options)
    return made_by("ioi", model, n, **options)


def lacking(maker: str, model: Any) -> str | None:
    """What a maker must say that this tokenizer does not have."""
    tokenizer = model.tokenizer
    if maker == "greater_than" and len(tokenizer.encode("42", add_special_tokens=False)) > 1:
        return r"one token for each number from 00 to 99, got \['0', '0'\]"
    if maker == "agreement" and tokenizer.encode("are", add_special_tokens=False) == [tokenizer.unk_token_id]:
        return "one token for each of is, are, got none for are; use a model such as gpt2"
    return None


each_maker = pytest.mark.parametrize("maker", [name for name, row in MAKERS.items() if not row.needs])


# What every maker promises


@each_maker
def test_pairs_are_aligned_padded_on_the_right_and_read_at_the_last_token(maker, model):
    prompts = made_by(maker, model)
    bos = model.tokenizer.bos_token_id
    assert len(prompts) == 12 and prompts.clean.shape == prompts.corrupted.shape == prompts.mask.shape
    assert prompts.prepend_bos == (bos is not None)
    assert prompts.mask.sum(-1).tolist() == prompts.lengths.tolist()
    assert prompts.position("END").tolist() == (prompts.lengths - 1).tolist()
    for tokens in (prompts.clean, prompts.corrupted):
        assert (tokens[~prompts.mask] == prompts.pad_id).all()
        assert bos is None or (tokens[:, 0] == bos).all()
        assert bos is None or (tokens[:, 1:][prompts.mask[:, 1:]] != bos).all()
    assert ((prompts.clean != prompts.corrupted) & prompts.mask).any(-1).all()


@each_maker
def test_same_seed_same_prompts(maker, model):
    one, again, other = (made_by(maker, model, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(one.clean, again.clean) and torch.equal(one.corrupted, again.corrupted)
    assert one.texts == again.texts != other.texts
    assert len(set(one.texts)) == len(one)


@each_maker
def test_taking_prompts_gives_a_prompt_set_without_needless_padding(maker, model):
    prompts = made_by(maker, model)
    for index in (3, -1, slice(2, 5), [4, 0], torch.arange(12) % 2 == 0):
        some = prompts[index]
        rows = torch.arange(12)[index].reshape(-1).tolist()
        assert some.texts == tuple(prompts.texts[i] for i in rows)
        assert some.correct == tuple(prompts.correct[i] for i in rows)
        assert some.clean.shape[1] == int(some.lengths.max())
        assert torch.equal(some.clean, prompts.clean[rows, : some.clean.shape[1]])
        for place in prompts.positions:
            assert some.position(place).tolist() == prompts.position(place)[rows].tolist()
    assert [one.texts[0] for one in prompts] == list(prompts.texts)
    with pytest.raises(InputError, match="at least one of 12 prompts"):
        prompts[5:5]


@each_maker
def test_the_table_has_a_row_per_prompt_and_the_repr_one_line(maker, model):
    prompts = made_by(maker, model)
    table = prompts.df()
    assert list(table.text) == list(prompts.texts) and list(table.tokens) == prompts.lengths.tolist()
    assert table.correct[0].split(" | ")[0] == model.tokenizer.decode([prompts.correct[0][0]])
    assert repr(prompts).startswith(f"PromptSet({prompts.name}/") and "\n" not in repr(prompts)


# Indirect objects


def test_the_sentence_of_the_literature_is_15_tokens_with_bos(tiny, smol):
    assert from_texts(tiny, SENTENCE).clean.shape == from_texts(smol, SENTENCE).clean.shape == (1, 15)
    template = "When {A} and {B} went to the store, {S} gave a drink to"
    assert ioi(smol, templates=[template]).clean.shape == (16, 15)


@pytest.mark.parametrize("corruption", CORRUPTIONS)
def test_names_stand_where_the_positions_say_in_both_runs(corruption, model):
    prompts = ioi(model, 12, corruption=corruption, templates=None, seed=1)
    for i in range(len(prompts)):
        at = {place: int(where[i]) for place, where in prompts.positions.items()}
        clean, corrupted = prompts.clean[i], prompts.corrupted[i]
        io, s = prompts.correct[i][0], prompts.wrong[i][0]
        assert clean[at["IO"]] == io and clean[at["S1"]] == clean[at["S2"]] == s
        assert at["S1+1"] == at["S1"] + 1 and at["S2"] > max(at["IO"], at["S1"])
        assert prompts.group_names[prompts.groups[i]].startswith("ABBA" if at["IO"] < at["S1"] else "BABA")
        names = {"IO": io, "S1": s, "S2": s}
        new = {place: int(corrupted[at[place]]) for place in names}
        other = [place for place in range(len(clean)) if place not in [at[name] for name in names]]
        assert torch.equal(clean[other], corrupted[other]), "only names may change"
        if corruption == "abc":
            assert len({*new.values(), io, s}) == 5
        elif corruption == "s2_io_flip":
            assert new == {**names, "S2": io}
        elif corruption == "s2_random":
            assert new == {**names, "S2": new["S2"]} and new["S2"] not in (io, s)
        elif corruption == "s1_io_flip":
            assert new == {"IO": s, "S1": io, "S2": s}
        elif corruption == "names":
            assert new["S1"] == new["S2"] != new["IO"] and not {io, s} & set(new.values())


def test_prompts_are_dealt_evenly_and_a_group_has_four(tiny):
    few, many = ioi(tiny, 16), ioi(tiny, 60)
    assert sorted(Counter(few.groups.tolist()).values()) == [4, 4, 4, 4]
    counts = Counter(many.groups.tolist())
    assert len(counts) == 2 * len(TEMPLATES) and set(counts.values()) == {4, 5}
    assert len(set(many.lengths.tolist())) > 1, "templates of several lengths, so padding is at work"


def test_what_is_no_single_token_is_left_out_and_counted(gpt2_like):
    prompts = ioi(gpt2_like, 8, names=["Mary", "John", "Tom", "Anna", "Bob", "Zebediah", "Xi"])
    assert prompts.left_out["names"] == 2
    assert prompts.left_out["words"] == 10 + 10 + 4 - len({"store", "park", "drink", "key", "gave", "handed"})
    assert "left out 2 names" in repr(prompts)
    text = " ".join(prompts.texts + prompts.corrupted_texts)
    assert "Zebediah" not in text and "Xi" not in text


def test_a_name_that_starts_a_sentence_is_another_token_in_bpe_and_its_template_is_left_out(tiny, gpt2_like):
    templates = ["{A} and {B} went to the store, {S} gave a drink to", TEMPLATES[0]]
    assert len(ioi(tiny, 8, templates=templates).group_names) == 4
    prompts = ioi(gpt2_like, 8, templates=templates)
    assert len(prompts.group_names) == 2 and prompts.left_out["templates"] == 1


# Induction


def test_what_came_next_comes_next_and_the_corruption_has_nothing_to_copy(model):
    prompts = induction(model, 12, length=10)
    special = set(model.tokenizer.all_special_ids)
    rows = torch.arange(12)
    end = prompts.clean[rows, prompts.position("END")]
    assert torch.equal(prompts.clean[rows, prompts.position("PREV")], end)
    assert torch.equal(prompts.corrupted[rows, prompts.position("END")], end)
    assert prompts.clean[rows, prompts.position("COPY")].tolist() == [c for (c,) in prompts.correct]
    start = int(prompts.prepend_bos)
    assert prompts.clean.shape[1] == start + 15
    for clean, corrupted, (right,), (wrong,) in zip(
        prompts.clean.tolist(), prompts.corrupted.tolist(), prompts.correct, prompts.wrong, strict=True
    ):
        assert clean.count(right) == clean.count(wrong) == 1 and right != wrong
        assert right not in corrupted and wrong not in corrupted
        assert not special & {*clean[start:], *corrupted[start:]}
        assert not set(clean[start : start + 10]) & set(corrupted[start : start + 10])


# Greater-than


@pytest.mark.parametrize("which", ["tiny", "gpt2_like", "no_bos"])
def test_later_years_are_right_earlier_ones_wrong(which, request):
    model = request.getfixturevalue(which)
    prompts = greater_than(model, 24)
    say = model.tokenizer.decode
    for i, text in enumerate(prompts.texts):
        start = int(text.split(" to the year")[0][-2:])
        assert 2 <= start <= 98
        assert sorted(int(say([t])) for t in prompts.correct[i]) == list(range(start + 1, 100))
        assert sorted(int(say([t])) for t in prompts.wrong[i]) == list(range(start + 1))
        at = {place: int(where[i]) for place, where in prompts.positions.items()}
        assert int(say([int(prompts.clean[i, at["YY"]])])) == start
        assert int(say([int(prompts.corrupted[i, at["YY"]])])) == 1
        assert prompts.clean[i, at["XX"]] == prompts.clean[i, at["END"]]
        assert say([int(prompts.clean[i, at["NOUN"]])]).strip() == text.split()[1]
    assert prompts.metric().name == "probability_diff"


def test_years_that_are_one_token_are_left_out(gpt2_like):
    prompts = greater_than(gpt2_like, 16)
    assert prompts.left_out == {"nouns": 18, "years": 1}  # it knows war and siege; 1945 is one token
    with pytest.raises(InputError, match="got 2 nouns and 872 years"):
        greater_than(gpt2_like, 2000)


# Agreement


def test_the_verb_goes_with_the_subject_and_the_attractor_with_the_other(gpt2_like, no_bos, smol):
    for model, n in ((gpt2_like, 8), (no_bos, 8), (smol, 48)):
        prompts = agreement(model, n)
        say = model.tokenizer.decode
        assert len(set(prompts.texts)) == n and Counter(prompts.correct).most_common(2)[1][1] == n // 2
        for i, (text, corrupted) in enumerate(zip(prompts.texts, prompts.corrupted_texts, strict=True)):
            at = {place: int(where[i]) for place, where in prompts.positions.items()}
            subject, attractor = (say([int(prompts.clean[i, at[name]])]).strip() for name in ("SUBJECT", "ATTRACTOR"))
            plural = subject.endswith("s")
            assert attractor.endswith("s") != plural and subject.rstrip("s") != attractor.rstrip("s")
            assert [say([token]) for token in (*prompts.correct[i], *prompts.wrong[i])] == (
                [" are", " is"] if plural else [" is", " are"]
            )
            other = subject[:-1] if plural else f"{subject}s"
            assert f" {subject} " in text and corrupted == text.replace(f" {subject} ", f" {other} ", 1)
            assert (prompts.clean[i] != prompts.corrupted[i]).nonzero().flatten().tolist() == [at["SUBJECT"]]
            assert at["SUBJECT"] < at["ATTRACTOR"] <= at["END"] == int(prompts.lengths[i]) - 1


def test_agreement_is_dealt_to_templates_and_numbers(smol):
    prompts = agreement(smol, 48)
    assert len(prompts.group_names) == 6 and set(Counter(prompts.groups.tolist()).values()) == {8}
    for group in range(6):
        right = [prompts.correct[i] for i in (prompts.groups == group).nonzero().flatten().tolist()]
        assert Counter(right).most_common()[0][1] == 4
    assert len(agreement(smol, 4).group_names) == 1 and len(set(prompts.lengths.tolist())) > 1


def test_what_is_missing_for_agreement_is_said(gpt2_like, tiny):
    with pytest.raises(InputError, match=r"token for each of is, are, got none for are; use a model such as gpt2"):
        agreement(tiny)
    prompts = agreement(
        gpt2_like, 8, templates=["I know that the {subject} near the {attractor}", "{subject} {attractor}"]
    )
    assert prompts.left_out == {"nouns": 22, "templates": 1}  # it knows key, cabinet and lamp in both numbers
    with pytest.raises(InputError, match=r"Expected 13 different prompts, got 3 of 25 nouns .* and 1 of 1 templates"):
        agreement(gpt2_like, 13, templates=["I know that the {subject} near the {attractor}"])
    for template in ("The {attractor} near the {subject}", "The key", "The {subject} {subject} {attractor}", "{"):
        with pytest.raises(InputError, match=r"Expected a template with \{subject\} and then \{attractor\}, once each"):
            agreement(gpt2_like, templates=[template])


# Pairs


def test_pairs_from_tuples_and_dicts(model):
    named = {
        "clean": SENTENCE, "corrupted": OTHER, "correct": [" Mary"], "wrong": [" John"], "group": "mine",
        "positions": {"PLACE": "store", "S2": -5},
    }  # fmt: skip
    one, other = from_pairs(model, [PAIR]), from_pairs(model, [named])
    assert torch.equal(one.clean, other.clean) and one.correct == other.correct and one.wrong == other.wrong
    assert other.group_names == ("mine",) and set(other.positions) == {"PLACE", "S2", "END"}
    assert model.tokenizer.decode([int(other.clean[0, other.position("PLACE")[0]])]).strip() == "store"
    assert int(other.clean[0, other.position("S2")[0]]) == other.wrong[0][0]
    assert one.metric().name == "logit_diff" and one.seed is None


def test_an_answer_is_taken_as_it_is_written_and_only_then_with_a_space(smol):
    def correct(answer: str) -> str:
        return smol.tokenizer.decode([from_pairs(smol, [(SENTENCE, OTHER, answer)]).correct[0][0]])

    assert (correct(" Mary"), correct("Mary"), correct("Kate")) == (" Mary", "Mary", " Kate")


def test_without_wrong_answers_the_metric_is_the_log_probability(model):
    prompts = from_pairs(model, [PAIR[:3]])
    assert prompts.metric().name == "log_probability"
    with pytest.raises(InputError, match="Expected wrong answers for the metric logit_diff, got none for prompt 0"):
        prompts.metric("logit_diff")


def test_pairs_of_several_lengths_are_padded(model):
    short = ("After Mary and John", "After John and Mary", " went", " left")
    prompts = from_pairs(model, [PAIR, short])
    start = int(prompts.prepend_bos)
    assert prompts.lengths.tolist()[1] < prompts.lengths.tolist()[0]
    assert prompts[1].clean.tolist()[0][start:] == model.tokenizer.encode(short[0], add_special_tokens=False)


def test_a_file_of_pairs_is_the_same_as_the_pairs(tmp_path, tiny):
    rows = [dict(zip(("clean", "corrupted", "correct", "wrong"), PAIR, strict=True)) for _ in range(2)]
    path = tmp_path / "mine.jsonl"
    path.write_text("\n\n".join(map(json.dumps, rows)) + "\n")
    prompts = from_jsonl(tiny, path)
    assert prompts.name == "mine" and torch.equal(prompts.clean, from_pairs(tiny, rows).clean)


# Texts, BOS, positions, metrics


def test_texts_have_no_answers_and_no_corruption(tiny):
    prompts = as_prompts(tiny, [SENTENCE, "Mary went to the park"])
    assert prompts.corruption == "none" and torch.equal(prompts.side("clean"), prompts.side("corrupted"))
    assert torch.equal(as_prompts(tiny, SENTENCE).clean, prompts[0].clean)
    assert as_prompts(tiny, prompts) is prompts
    with pytest.raises(InputError, match="Expected correct answers for the metric logit_diff"):
        prompts.metric()


def test_bos_is_explicit(gpt2_like, no_bos):
    with_bos, without = from_texts(gpt2_like, SENTENCE), from_texts(gpt2_like, SENTENCE, prepend_bos=False)
    assert torch.equal(with_bos.clean[:, 1:], without.clean) and not without.prepend_bos
    assert torch.equal(from_texts(no_bos, SENTENCE).clean, without.clean) and "no BOS" in repr(without)
    bare = from_texts(gpt2_like.tokenizer, SENTENCE)
    assert torch.equal(bare.clean, with_bos.clean), "a bare tokenizer is as good as a model"
    goes_without = as_model(gpt2_like.tokenizer, default_prepend_bos=False)
    assert not from_texts(goes_without, SENTENCE).prepend_bos
    assert from_texts(goes_without, SENTENCE, prepend_bos=True).prepend_bos


def test_a_position_is_a_name_or_an_index(tiny):
    prompts = ioi(tiny, 60)
    assert prompts.position(-1).tolist() == prompts.position("END").tolist()
    assert prompts.position(2).tolist() == [2] * 60


def test_fingerprints_are_of_the_clean_tokens_whatever_stands_around_them(tiny):
    """They follow slices, do not see padding, corruption or answers, and differ where one token does."""
    prompts = ioi(tiny, 60)
    assert prompts[7:].fingerprints.tolist() == prompts.fingerprints[7:].tolist()
    assert prompts.lengths.unique().numel() > 1 and len(set(prompts.fingerprints.tolist())) == len(set(prompts.texts))
    other_words = ioi(tiny, 60, corruption="s2_random")
    assert not torch.equal(other_words.corrupted, prompts.corrupted)
    assert torch.equal(other_words.fingerprints, prompts.fingerprints)
    metric = prompts.metric()
    assert prompts[[3, 1]].metric(metric[[3, 1]]).fingerprints.tolist() == prompts.fingerprints[[3, 1]].tolist()
    for others in (prompts[[1, 3]], ioi(tiny, 60, seed=1)[:2]):
        with pytest.raises(MismatchError, match=r"got a metric of others .the first that differs is prompt 0"):
            others.metric(metric[[3, 1]])


def test_tokens_of_another_vocabulary_are_refused_though_they_fit(tiny, gpt2_like):
    for prompts in (ioi(tiny, 2), from_texts(tiny, SENTENCE)):
        assert int(prompts.clean.max()) < gpt2_like.cfg.d_vocab
        with pytest.raises(MismatchError, match=r"token \d+ is '\S+' there and '\S+' here; make the prompts with"):
            as_prompts(gpt2_like, prompts)
        assert as_prompts(tiny, prompts) is prompts
    some = ioi(tiny, 2)
    only_first = next(t for t in some.clean[0].tolist() if t not in some[1].clean and t not in some[1].corrupted)
    renamed = replace(some, vocabulary=some.vocabulary | {only_first: "Z"})
    assert len(as_prompts(tiny, renamed[1])) == 1  # whose tokens both know
    with pytest.raises(MismatchError, match="is 'Z' there"):
        as_prompts(tiny, renamed[0])


def test_metrics_read_the_answers_at_the_end(tiny):
    prompts = ioi(tiny, 60)
    logits = torch.randn(60, prompts.clean.shape[1], len(tiny.tokenizer), dtype=torch.float64)
    end = logits[torch.arange(60), prompts.lengths - 1]
    right, wrong = (torch.tensor(answers) for answers in (prompts.correct, prompts.wrong))
    expected = (end.gather(1, right) - end.gather(1, wrong))[:, 0]
    torch.testing.assert_close(prompts.metric("logit_diff")(logits), expected)
    torch.testing.assert_close(prompts.metric(lambda rows: rows[..., 5])(logits), end[:, 5])
    for name, row in METRICS.items():
        options = {"reference": logits} if "reference" in row.needs else {}
        torch.testing.assert_close(
            prompts[7:9].metric(name, **{k: v[7:9] for k, v in options.items()})(logits[7:9]),
            prompts.metric(name, **options)[7:9](logits[7:9]),
        )
    mine = prompts.metric("probability")
    assert prompts.metric(mine) is mine


@pytest.fixture(scope="module")
def english() -> Any:
    return llmtrace.load("tiny-english")


@pytest.mark.parametrize("name", METRICS)
def test_a_metric_of_the_final_residual_is_the_metric_of_the_logits(name, english):
    prompts = ioi(english, 56)
    metric = metric_of(english, prompts, name)
    final = llmtrace.models.final_residual(english, prompts.corrupted)
    at_end = final[torch.arange(56), prompts.position("END")]
    torch.testing.assert_close(
        metric.of_residual(english, at_end), metric(llmtrace.models.logits(english, prompts.corrupted)),
        rtol=1e-4, atol=1e-4,
    )  # fmt: skip


def test_on_a_model_kl_is_measured_from_its_clean_run(english):
    model = english
    prompts = ioi(model, 8)
    clean, corrupted = (llmtrace.models.logits(model, prompts.side(side)) for side in ("clean", "corrupted"))
    distance = metric_of(model, prompts, "kl")
    torch.testing.assert_close(distance(clean), torch.zeros(8), rtol=0, atol=1e-5)
    assert (distance(corrupted) > 0).all()
    assert metric_of(model, prompts).name == "logit_diff" and (metric_of(model, prompts)(clean) > 0).all()


# What is refused


def no_line(text: str) -> Any:
    def call(model: Any, folder: Path) -> Any:
        (folder / "bad.jsonl").write_text(text)
        return from_jsonl(model, folder / "bad.jsonl")

    return call


def pair(*row: Any, **options: Any) -> Any:
    return lambda model, folder: from_pairs(model, [PAIR, row], **options)


REFUSED: dict[str, tuple[Any, type[LLMTraceError], str]] = {
    "no prompts asked": (lambda m, f: ioi(m, 0), InputError, "at least 1 prompt, got 0"),
    "no pairs": (lambda m, f: from_pairs(m, []), InputError, "at least 1 prompt, got 0"),
    "empty prompt": (pair("  ", OTHER, "Mary"), InputError, "Pair 1: Expected a prompt with at least one word"),
    "unequal length": (
        pair(SENTENCE, OTHER + " the", "Mary"), InputError, r"Pair 1: .*equal token length, got 15 and 16: \['<bos>'",
    ),
    "clean is corrupted": (pair(SENTENCE, SENTENCE, "Mary"), InputError, "differs from the clean one, got 'When Mary"),
    "unknown word": (pair("Zoe and John", "Mary and John", "Mary"), InputError, "the tokenizer knows, got 'Zoe'"),
    "answer of two tokens": (pair(SENTENCE, OTHER, "Mary John"), InputError, r"one token, got .*\['Mary', 'John'\]"),
    "unknown answer": (pair(SENTENCE, OTHER, "Zoe"), InputError, "answer of one token, got 'Zoe'"),
    "empty answer": (pair(SENTENCE, OTHER, " "), InputError, "answer of one token, got ' '"),
    "no answer": (pair(SENTENCE, OTHER, []), InputError, "Expected a correct answer"),
    "answer as number": (pair(SENTENCE, OTHER, [3]), InputError, "answers as text, got 3"),
    "right and wrong": (pair(SENTENCE, OTHER, "Mary", "Mary"), InputError, r"to differ, got \['Mary'\] in both"),
    "too long": (pair("John " * 70, "Mary " * 70, "Mary"), LimitError, "Pair 1: .*at most 64 tokens.*got 71"),
    "word twice": (pair(SENTENCE, OTHER, "Mary", "Tom", {"S": "John"}), InputError, "occurs once .* 'John' \\(2 times"),
    "half a word": (pair(SENTENCE, OTHER, "Mary", "Tom", {"S": "dri"}), InputError, "Pair 1: .*knows, got 'dri'"),
    "position too far": (pair(SENTENCE, OTHER, "Mary", "Tom", {"S": 15}), InputError, "from 0 to 14 .*, got 15"),
    "END given": (pair(SENTENCE, OTHER, "Mary", "Tom", {"END": 1}), InputError, "other than END"),
    "other positions": (pair(SENTENCE, OTHER, "Mary", "Tom", {"S": 1}), InputError, r"got \['S'\] after \[\]"),
    "unknown key": (
        lambda m, f: from_pairs(m, [{"clean": "a", "corupted": "b", "correct": "c"}]),
        InputError, "got 'corupted'.*Did you mean 'corrupted'",
    ),
    "missing key": (pair(SENTENCE), InputError, "got none for corrupted, correct"),
    "no row": (lambda m, f: from_pairs(m, [SENTENCE]), InputError, "each a dict or a tuple, got"),
    "no file": (lambda m, f: from_jsonl(m, f / "none.jsonl"), NotFoundError, "which does not exist"),
    "no JSON": (no_line('\n{"clean": '), FileFormatError, "Line 2 of bad.jsonl: Expected one JSON object per line"),
    "bad line": (no_line('{"clean": "The", "corrupted": "the the"}'), InputError, "Line 1 of bad.jsonl: Expected"),
    "empty file": (no_line("\n"), InputError, "at least 1 prompt, got 0"),
    "few names": (lambda m, f: ioi(m, names=["Mary", "John", "Zoe"]), InputError, "five names .*, got 2 of 3"),
    "no template": (
        lambda m, f: ioi(m, templates=["{A} and {B} slept. {S} woke"]), InputError, "none of 1",
    ),
    "template without S": (lambda m, f: ioi(m, templates=["{A} and {B}"]), InputError, "{A}, {B} and then {S}"),
    "template with IO": (
        lambda m, f: ioi(m, templates=["{A} and {B}, {S} to {IO}"]), InputError, "got {IO} in .*end before the answer",
    ),
    "broken template": (lambda m, f: ioi(m, templates=["{A} and {B"]), InputError, "once each, got"),
    "too many": (
        lambda m, f: ioi(m, 999, templates=["When {A} and {B} went to the park, {S} gave a key to"],
                         names=["Mary", "John", "Tom", "Anna", "Bob"]),
        InputError, "999 different prompts, got",
    ),
    "unknown corruption": (lambda m, f: ioi(m, corruption="s2_flip"), NotFoundError, "Did you mean 's2_io_flip'"),
    "short stretch": (lambda m, f: induction(m, length=3), InputError, "length from 4 to 100"),
    "long stretch": (lambda m, f: induction(m, length=60), LimitError, "at most 64 tokens"),
    "no tokenizer": (
        lambda m, f: ioi(SimpleNamespace(tokenizer=None, cfg=m.cfg)), InputError, "Expected a model with a tokenizer",
    ),
    "BOS in the text": (lambda m, f: from_texts(m, "<bos> Mary"), InputError, "without its own BOS"),
    "unknown metric": (lambda m, f: ioi(m).metric("logit_dif"), NotFoundError, "Did you mean 'logit_diff'"),
    "kl from what": (lambda m, f: ioi(m).metric("kl"), InputError, "Expected reference logits for the metric kl"),
    "metric of others": (lambda m, f: ioi(m).metric(ioi(m)[:3].metric()), MismatchError, "16 prompts, got one of 3"),
    "unknown position": (lambda m, f: ioi(m).position("S3"), NotFoundError, "IO, S1, S1\\+1, S2, END"),
    "position outside": (lambda m, f: ioi(m).position(40), InputError, "inside every prompt"),
    "unknown side": (lambda m, f: ioi(m).side("dirty"), InputError, "'clean' or 'corrupted', got 'dirty'"),
    "prompts of another model": (
        lambda m, f: as_prompts(as_model(m.tokenizer, n_ctx=9), ioi(m)), LimitError, "at most 9 tokens",
    ),
    "tokens of another model": (
        lambda m, f: as_prompts(SimpleNamespace(cfg=SimpleNamespace(n_ctx=64, d_vocab=9)), ioi(m)),
        MismatchError, "vocabulary size 9",
    ),
    "no prompts at all": (lambda m, f: as_prompts(m, 3), InputError, "PromptSet, text or a list, each text, got 3"),
}  # fmt: skip


@pytest.mark.parametrize(("call", "error", "sentence"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_asked_is_refused_with_a_sentence(call, error, sentence, tiny, tmp_path, as_users_run):
    with pytest.raises(error, match=sentence):
        call(tiny, tmp_path)


def test_a_tokenizer_without_bos_cannot_be_made_to_have_one(no_bos):
    with pytest.raises(InputError, match="with a BOS token for prepend_bos=True"):
        ioi(no_bos, prepend_bos=True)


def test_a_position_must_end_where_a_token_ends(gpt2_like):
    with pytest.raises(InputError, match="to end where a token ends"):
        from_pairs(gpt2_like, [(*PAIR, {"S": "drin"})])


def test_gpt2_may_spell_out_its_unknown_token(gpt2_like):
    assert from_texts(gpt2_like, "Mary <|endoftext|> John").lengths.tolist()[0] > 3


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("corrupted", torch.zeros(2, 3, dtype=torch.long), "corrupted prompts of shape"),
        ("lengths", torch.tensor([2, 5]), "lengths from 1 to 4"),
        ("correct", ((1,),), "correct for 2 prompts, got 1"),
        ("positions", {"END": torch.tensor([1, 2])}, "to be lengths - 1"),
        ("positions", {"S": torch.tensor([1, 4]), "END": torch.tensor([1, 3])}, "position 'S' inside every prompt"),
    ],
)
def test_a_prompt_set_made_by_hand_is_checked(field, value, sentence, as_users_run):
    good: dict[str, Any] = {
        "name": "mine", "clean": torch.ones(2, 4, dtype=torch.long), "corrupted": torch.zeros(2, 4, dtype=torch.long),
        "lengths": torch.tensor([2, 4]), "correct": ((1,), (2,)), "wrong": ((), ()),
        "positions": {"END": torch.tensor([1, 3])}, "groups": torch.tensor([0, 0]), "group_names": ("all",),
        "texts": ("a", "b"), "corrupted_texts": ("c", "d"), "seed": None, "prepend_bos": False, "pad_id": 0,
    }  # fmt: skip
    assert len(PromptSet(**good)) == 2
    assert PromptSet(**good).metric(custom("one", lambda rows: rows[..., 0], [1, 3])).name == "one"
    with pytest.raises(InputError, match=sentence):
        PromptSet(**{**good, field: value})
