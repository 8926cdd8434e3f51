"""Four sets that share nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from llmtrace.audit import Split, split
from llmtrace.errors import InputError


def test_kinds_are_dealt_out_whole(instructions):
    found = split(instructions)
    steps = dict(found.steps())
    assert sorted(kind for some in steps.values() for kind in {*some.kinds}) == sorted({*instructions.kinds})
    assert sum(map(len, steps.values())) == len(instructions)
    prints = [set(some.prompts.fingerprints.tolist()) for some in steps.values()]
    assert sum(map(len, prints)) == len(set.union(*prints))


def test_the_same_seed_deals_alike_and_another_one_otherwise(instructions):
    kinds = [split(instructions, seed=seed).df()["kinds"].tolist() for seed in (0, 0, 1, 2)]
    assert kinds[0] == kinds[1] and len({str(one) for one in kinds}) > 1


def test_a_prompt_in_two_sets_is_refused_by_its_tokens(instructions):
    found = split(instructions)
    renamed = replace(found.test.prompts, group_names=tuple(f"new {name}" for name in found.test.prompts.group_names))
    leaked = replace(found.test, prompts=renamed)
    with pytest.raises(InputError, match=r"share no prompt, got .* in calibrate and prove"):
        replace(found, prove=leaked, calibrate=found.test, test=found.prove)


def test_a_kind_in_two_sets_is_refused(instructions):
    found = split(instructions)
    half = torch.arange(len(found.test)) % 2 == 0
    with pytest.raises(InputError, match="share no kind of prompt"):
        Split(found.fit, found.calibrate, found.test[half], found.test[~half])


def test_one_class_is_refused(instructions):
    with pytest.raises(InputError, match=r"both classes .* all False"):
        split(instructions[~instructions.labels])


def test_too_few_kinds_are_refused(instructions):
    with pytest.raises(InputError, match=r"at least 4 kinds.*got 3"):
        split(instructions.of_kinds(*sorted({*instructions.kinds})[:3]))
