"""Attention knockout and value zeroing against whole passes with one plain hook per layer."""

from __future__ import annotations

from dataclasses import replace

import pytest
import slow_twins as slow
import torch
from slow_twins import metric_of_run
from tiny import ALL, POST_NORM, Tiny, close, one_of_each, over, prompts, scores_are_live

from llmtrace import interventions
from llmtrace.errors import InputError
from llmtrace.models import load
from llmtrace.nodes import Head
from llmtrace.prompts import ioi


def cut(p, queries, keys, head=None):
    """scores := -inf at every (query, key) of every prompt; the model's own softmax renormalises."""

    def change(scores):
        scores = scores.clone()
        for i in range(len(p)):
            for query in queries:
                for key in keys:
                    at = (i, slice(None) if head is None else head, p.position(query)[i], p.position(key)[i])
                    scores[at] = -torch.inf
        return scores

    return change


@over(scores_are_live, one_of_each, among=[*ALL, *POST_NORM])
def test_knockout_equals_its_slow_twin(tiny: Tiny) -> None:
    """Windows of one and two layers, all heads and some, two lengths of prompts."""
    p, queries, keys = prompts(padded=True), ["END", "MID"], [1, "MID"]
    n = tiny.family.n_layers
    for window in (1, 2):
        effects = interventions.knock_out(tiny.model, p, queries, keys, window=window)
        assert len(effects.nodes) == n
        for layer in range(n):
            start = layer - (window - 1) // 2
            layers = [at for at in range(start, start + window) if 0 <= at < n]
            hooks = [(f"blocks.{at}.attn.hook_attn_scores", cut(p, queries, keys)) for at in layers]
            close(effects.after[layer], metric_of_run(tiny.model, p, hooks), tiny.atol)
            assert len(effects.nodes[layer]) == len(layers)
        assert effects.change.abs().max() > 1e-4
    some = interventions.knock_out(tiny.model, p, queries, keys, layers=range(n), heads=[Head(1, 1)])
    hook = ("blocks.1.attn.hook_attn_scores", cut(p, queries, keys, head=1))
    close(some.after[0], metric_of_run(tiny.model, p, [hook]), tiny.atol)


@over(one_of_each, among=[*ALL, *POST_NORM])
def test_value_zeroing_equals_its_slow_twin(tiny: Tiny) -> None:
    p = prompts(padded=True)

    def zeroed(v):
        v = v.clone()
        v[torch.arange(len(p)), p.positions["MID"]] = 0
        return v

    effects = interventions.zero_values(tiny.model, p, ["MID"])
    for layer in range(tiny.family.n_layers):
        close(effects.after[layer], metric_of_run(tiny.model, p, [(f"blocks.{layer}.attn.hook_v", zeroed)]), tiny.atol)
    together = interventions.zero_values(tiny.model, p, ["MID"], layers=range(tiny.family.n_layers))
    hooks = [(f"blocks.{layer}.attn.hook_v", zeroed) for layer in range(tiny.family.n_layers)]
    close(together.after[0], metric_of_run(tiny.model, p, hooks), tiny.atol)


def test_what_no_query_could_see_is_no_loss() -> None:
    """A key after its query is masked anyway and refused alone; what comes after the metric's position is nothing."""
    p = prompts(padded=True)
    with pytest.raises(InputError, match="got the keys 4, which come after the queries MID in every prompt"):
        interventions.knock_out(ALL[0].model, p, ["MID"], [4])
    some, more = (interventions.knock_out(ALL[0].model, p, ["MID"], keys) for keys in ([1], [1, 4]))
    close(some.after, more.after, 1e-12)
    early = p.metric()
    early = replace(early, positions=torch.full_like(early.positions, 2))
    zeroed = interventions.zero_values(ALL[0].model, p, ["MID"], metric=early)
    assert torch.equal(zeroed.after, zeroed.before.expand_as(zeroed.after))


def test_knockout_is_not_zeroing_the_pattern() -> None:
    """The softmax renormalises: what is cut goes elsewhere, rows still sum to one."""
    p, name = prompts(), "blocks.0.attn.hook_pattern"

    def zero(pattern):
        pattern = pattern.clone()
        pattern[:, :, -1, 1] = 0
        return pattern

    zeroed = metric_of_run(ALL[0].model, p, [(name, zero)])
    knocked = interventions.knock_out(ALL[0].model, p, ["END"], [1]).after[0]
    assert (knocked - zeroed).abs().min() > 1e-4
    pattern = slow.read(ALL[0].model, p.clean, [name], [("blocks.0.attn.hook_attn_scores", cut(p, ["END"], [1]))])[name]
    close(pattern.sum(-1), torch.ones_like(pattern.sum(-1)), 1e-12)


@pytest.mark.parametrize(
    ("queries", "keys", "options", "sentence"),
    [
        ([0], [0], {}, "position 0 would see nothing; leave a key in, the first token for instance."),
        (["MID"], [0, 1, 2, 3], {}, "position 3 would see nothing"),
        ([], [0], {}, "Expected a list of positions as queries, got []; write a list, such as ['END'] or [1, -1]."),
        (["END"], [1], {"window": 3}, "Expected a window of 1 to 2 layers, got 3."),
        (["END"], [1], {"layers": [7]}, "Expected layers between 0 and 1, got [7]"),
    ],
)
def test_what_cannot_be_cut_is_refused(queries, keys, options, sentence) -> None:
    with pytest.raises(InputError) as error:
        interventions.knock_out(ALL[0].model, prompts(), queries, keys, **options)
    assert sentence in str(error.value)


def test_the_name_mover_of_tiny_english_reads_the_second_subject() -> None:
    """END must see S2 in the last layer; what it sees of the place does not matter."""
    model = load("tiny-english")
    p = ioi(model, 16, seed=0)
    seen = interventions.knock_out(model, p, ["END"], ["S2"]).mean()
    assert seen[3] < -5 and seen[3] == seen.min()
    assert interventions.knock_out(model, p, ["END"], [8]).mean().abs().max() < 1
