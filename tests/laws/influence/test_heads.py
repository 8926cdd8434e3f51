"""Heads from their weights and from what they do: factored forms against full matrices, scores against the model."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from room import for_passes
from slow_twins import head_write, read, replace, unembedded
from tiny import (
    GPT2,
    HOOKED_EXISTS,
    LAYERS,
    PLAIN,
    POST_NORM,
    PROCESSED,
    QWEN3,
    VOCAB,
    Tiny,
    close,
    dot_products_are_seen,
    has_norm,
    over,
    prompts,
    tinies,
    ungrouped,
)  # fmt: skip
from torch import Tensor

from llmtrace import influence, models
from llmtrace.errors import InputError, LLMTraceError, NotFoundError, UnsupportedError
from llmtrace.influence.heads.copying import at_the_ends
from llmtrace.influence.heads.low_rank import LowRank
from llmtrace.influence.vocabulary import readout, token_vectors
from llmtrace.nodes import Head
from llmtrace.prompts import repeated_tokens

SOME = torch.tensor([1, 5, 17, 39])


def last_head(tiny: Tiny) -> Head:
    return Head(tiny.family.n_layers - 1, tiny.family.n_heads - 1)


# --- factored matrices -------------------------------------------------------------------------------------------


def test_a_low_rank_matrix_is_its_product() -> None:
    left, right = torch.randn(9, 3).double(), torch.randn(3, 9).double()
    whole, lazy = left @ right, LowRank(left, right)
    at, other = torch.tensor([0, 4]), torch.tensor([8, 2])
    close(lazy.rows(at), whole[at], 1e-12)
    close(lazy.columns(at), whole[:, at], 1e-12)
    close(lazy.entries(at, other), whole[at, other], 1e-12)
    close(lazy.norm(), whole.norm(), 1e-12)
    close(lazy.singular_values(), torch.linalg.svdvals(whole)[:3], 1e-12)
    expected = torch.linalg.eigvals(whole)
    expected = expected[expected.abs().argsort(descending=True)][:3]
    close(lazy.eigenvalues().abs(), expected.abs(), 1e-10)
    close(lazy.eigenvalues().sum().real, whole.trace(), 1e-10)
    assert lazy.shape == (9, 9)
    with pytest.raises(InputError, match=r"square matrix for eigenvalues, got \[9, 2\]"):
        LowRank(left, right[:, :2]).eigenvalues()


# --- OV ----------------------------------------------------------------------------------------------------------


def written_of_token(tiny: Tiny, head: Head, token: int) -> Tensor:
    """Logits (over the final scale, centred) that the model's own head writes when the stream is one token, alone."""
    vector = token_vectors(tiny.model, torch.tensor([token]))
    at = replace(f"blocks.{head.layer}.hook_resid_pre", vector[None])
    write = head_write(tiny.model, torch.tensor([[1]]), head.layer, head.head, [at])[0, 0]
    return readout(tiny.model) @ write


@over()
def test_the_ov_circuit_is_what_the_head_writes(tiny: Tiny) -> None:
    """Difference of two rows = difference of what the model's head writes for two tokens, when each stands alone."""
    head = last_head(tiny)
    rows = influence.ov_circuit(tiny.model, head).rows(SOME)
    written = torch.stack([written_of_token(tiny, head, token) for token in SOME.tolist()])
    close(rows - rows[0], written - written[0], tiny.atol * 10)


@over()
def test_what_is_read_out_is_a_logit(tiny: Tiny) -> None:
    """A direction of unit scale: readout . write = change of the model's logits, up to what is the same for all."""
    final = models.final_residual(tiny.model, prompts().clean)[:1, -1:]
    norm, write = models.final_norm(tiny.model), torch.randn(1, 1, final.shape[-1], dtype=torch.float64)
    moved = norm.frozen(write, norm.scale(final)) @ tiny.model.W_U
    seen = (readout(tiny.model) @ write[0, 0]) / norm.scale(final)[0, 0]
    close(seen, (moved - moved.mean(-1, keepdim=True))[0, 0], tiny.atol)
    assert unembedded(tiny.model, final).shape[-1] == len(seen)


@over()
def test_copying_scores_are_those_of_the_full_matrix(tiny: Tiny) -> None:
    """Eigenvalues of d_head x d_head are those of d_vocab x d_vocab; top k by sorting every row."""
    table = influence.copying_scores(tiny.model, k=3)
    for head in (Head(0, 0), last_head(tiny)):
        whole = influence.ov_circuit(tiny.model, head).rows(torch.arange(VOCAB))
        eigen = torch.linalg.eigvals(whole)
        assert table.of(head)["copying"] == pytest.approx(float(eigen.real.sum() / eigen.abs().sum()), abs=1e-4)
        through = influence.ov_circuit(tiny.model, head, through_mlp0=not tiny.family.attn_only)
        ranks = through.rows(torch.arange(VOCAB)).argsort(descending=True)
        top = sum(token in ranks[token, :3] for token in range(VOCAB)) / VOCAB
        bottom = sum(token in ranks[token, -3:] for token in range(VOCAB)) / VOCAB
        assert table.of(head)["copying_top"] == pytest.approx(top)
        assert table.of(head)["suppressing"] == pytest.approx(bottom)


@pytest.mark.parametrize("first", [1, 3, 500])
def test_the_ends_are_found_without_most_logits(first: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the pieces, those of the sorted row: whole numbers, so that ties are many and exact."""
    monkeypatch.setattr("llmtrace.influence.heads.copying.FIRST", first)
    generator = torch.Generator().manual_seed(0)
    writes = torch.randint(-2, 3, (300, 4), generator=generator).double()
    seen = torch.randint(-3, 4, (50, 4), generator=generator).double()
    writes[::9], seen[20:23] = 0, seen[7]
    tokens = torch.randint(0, 50, (300,), generator=generator)
    found = at_the_ends(writes, seen, tokens, 6)
    for side, logits in zip(found, (writes @ seen.T, -writes @ seen.T), strict=True):
        past = [sum(row >= row[token]).item() for row, token in zip(logits, tokens, strict=True)]
        assert side.tolist() == [n <= 6 for n in past]
        assert 10 < side.sum() < 150 and not side[::9].any()


# --- QK ----------------------------------------------------------------------------------------------------------


@over(dot_products_are_seen)
def test_the_qk_circuit_is_the_models_own_score(tiny: Tiny) -> None:
    """Two tokens whose streams are their embeddings: the model's score of the second for the first, to a constant."""
    head, pair = last_head(tiny), torch.tensor([3, 9])
    found = influence.qk_circuit(tiny.model, head, distance=int(tiny.family.rotary))
    vectors = token_vectors(tiny.model, pair)
    name = f"blocks.{head.layer}.attn.hook_pattern"
    kept = read(
        tiny.model, torch.tensor([[3, 9]]), [name], [replace(f"blocks.{head.layer}.hook_resid_pre", vectors[None])]
    )
    pattern = kept[name][0, head.head, 1].double()
    if tiny.family.rotary:  # the score of a token for itself is at distance 0
        own = influence.qk_circuit(tiny.model, head)
        expected = found.entries(pair[1:], pair[:1]) - own.entries(pair[1:], pair[1:])
    else:
        expected = found.entries(pair[1:], pair[:1]) - found.entries(pair[1:], pair[1:])
    rough = 1e-4 if tiny.backend == "bridge" else 1e-6 if tiny.family.rotary else tiny.atol  # sines are float32
    close((pattern[0] / pattern[1]).log(), expected[0], rough)


# --- composition -------------------------------------------------------------------------------------------------


def full(tiny: Tiny, head: Head) -> dict[str, Tensor]:
    """W_OV and W_QK of a head in full, norms folded by hand."""
    w = models.attention_weights(tiny.model, head.layer)
    kv = head.head // (tiny.family.n_heads // tiny.family.kv_heads)
    d = w.W_O.shape[-1]
    fold = torch.eye(d, dtype=torch.float64)
    out = fold
    if tiny.family.norm == "LN":
        fold = out = fold - 1 / d
    if w.norm.weight is not None:
        fold = fold @ w.norm.weight.diag()
    return {
        "OV": fold @ w.W_V[kv] @ w.W_O[head.head] @ out,
        "QK": (fold @ w.W_Q[head.head]) @ (fold @ w.W_K[kv]).T,
    }


@over(dot_products_are_seen)
def test_composition_is_the_norm_of_full_products(tiny: Tiny) -> None:
    found = influence.head_composition(tiny.model)
    n = tiny.family.n_heads
    for s, r in ((0, n), (n - 1, 2 * n - 1)):
        sender, receiver = full(tiny, found.heads[s]), full(tiny, found.heads[r])
        reads = {"q": receiver["QK"], "k": receiver["QK"].T, "v": receiver["OV"]}
        for slot, reader in reads.items():
            expected = (sender["OV"] @ reader).norm() / sender["OV"].norm() / reader.norm()
            close(found.of(slot)[s, r], expected, 1e-8)
            most = (torch.linalg.svdvals(sender["OV"]) * torch.linalg.svdvals(reader)).norm()
            expected = (sender["OV"] @ reader).norm() / most
            close(found.alignment[found.slots.index(slot)][s, r], expected, 1e-8)
    later = torch.tensor([[s.layer < r.layer for r in found.heads] for s in found.heads])
    assert torch.equal(found.values.isnan(), ~later.expand(3, -1, -1))
    assert found.values[:, later].min() >= 0 and found.alignment[:, later].max() <= 1 + 1e-6


def test_the_baseline_is_that_of_random_rotations() -> None:
    a, b = torch.randn(12, 12).double(), torch.randn(12, 12).double()
    turns = [torch.linalg.qr(torch.randn(12, 12).double()).Q for _ in range(2000)]
    squares = torch.stack([(a @ turn @ b).norm() / a.norm() / b.norm() for turn in turns]).square()
    assert squares.mean().sqrt().item() == pytest.approx(12**-0.5, rel=0.01)
    assert influence.head_composition(Tiny(PLAIN, "bridge", False).model).baseline == 0.25


@over(has_norm, among=PROCESSED)
def test_processing_changes_no_score(tiny: Tiny) -> None:
    """Folded and centred weights are another way to write the same head (laws 10-13)."""
    raw = Tiny(tiny.family, tiny.backend, False).model
    for score in (influence.copying_scores, influence.head_behaviour):
        close(score(tiny.model).values, score(raw).values, 2e-5)
    slots = ("q", "k", "v") if dot_products_are_seen(tiny) else ("v",)
    one, other = (influence.head_composition(model, slots=slots).values for model in (tiny.model, raw))
    close(one.nan_to_num(), other.nan_to_num(), 2e-5)


def test_a_head_that_is_turned_inside_composes_alike() -> None:
    """Law 45: W_V R and R^-1 W_O are the same head."""
    weights = PLAIN.source(0)
    turn = torch.linalg.qr(torch.randn(4, 4).double()).Q
    turned = dict(weights)
    turned["blocks.0.attn.W_V"] = weights["blocks.0.attn.W_V"] @ turn
    turned["blocks.0.attn.W_O"] = turn.T @ weights["blocks.0.attn.W_O"]
    tiny = Tiny(PLAIN, "bridge", False)
    one, other = (influence.head_composition(tiny.build(w)).values.nan_to_num() for w in (weights, turned))
    close(one, other, 1e-10)


# --- behaviour ---------------------------------------------------------------------------------------------------


@over()
def test_detectors_read_the_patterns(tiny: Tiny) -> None:
    """Every score again, as a loop over prompts and queries; batches change nothing."""
    repeated = repeated_tokens(tiny.model, 3, length=5, seed=2)
    assert repeated.first == 0 and torch.equal(repeated.tokens[:, :5], repeated.tokens[:, 5:])
    assert all(len(set(row[:5])) == 5 for row in repeated.tokens.tolist())
    table = influence.head_behaviour(tiny.model, draws=3, length=5, seed=2)
    head = last_head(tiny)
    name = f"blocks.{head.layer}.attn.hook_pattern"
    A = read(tiny.model, repeated.tokens, [name])[name][:, head.head].double()
    looks = {
        "previous_token": [A[b, i, i - 1] for b in range(3) for i in range(1, 10)],
        "current_token": [A[b, i, i] for b in range(3) for i in range(1, 10)],
        "duplicate_token": [A[b, i, i - 5] for b in range(3) for i in range(5, 10)],
        "induction": [A[b, i, i - 4] for b in range(3) for i in range(5, 10)],
        "sink": [A[b, i, 0] for b in range(3) for i in range(1, 10)],
    }
    for score, found in looks.items():
        assert table.of(head)[score] == pytest.approx(float(torch.stack(found).mean()), abs=tiny.atol)
    again = influence.head_behaviour(tiny.model, draws=3, length=5, seed=2, memory=for_passes(tiny.model, 2, 10))
    close(again.values, table.values, tiny.atol)


def test_the_induction_model_is_found_out() -> None:
    """Previous-token and induction scores 1 at 0.0 and 1.0; K-composition as large as it can be, Q and V none."""
    model = models.load("induction")
    table = influence.head_scores(model)
    assert table.left_out == {} and table.top("previous_token", 1)[0][0] == Head(0, 0)
    assert table.of(Head(0, 0))["previous_token"] == pytest.approx(1, abs=1e-6)
    assert table.of(Head(1, 0))["induction"] == pytest.approx(1, abs=1e-6)
    assert table.of(Head(1, 0))["copying"] == pytest.approx(1, abs=1e-6)
    assert table.of(Head(1, 0))["copying_top"] == 1 and table.of(Head(1, 0))["suppressing"] == 0
    assert table.of(Head(0, 0))["copying"] == 0, "it writes nothing to the logits"
    assert max(table.of(Head(0, 0))["induction"], table.of(Head(1, 0))["previous_token"]) < 0.1
    found = influence.head_composition(model)
    aligned = dict(zip(found.slots, found.alignment[:, 0, 1].tolist(), strict=True))
    assert aligned == pytest.approx({"q": 0, "k": 1, "v": 0}, abs=1e-6)
    assert found.top("k", 1) == [(Head(0, 0), Head(1, 0), pytest.approx(32**-0.5))]


@over()
def test_name_movers_are_attribution_by_source_at_the_answer(tiny: Tiny) -> None:
    """`direct` is direct attribution; `name_mover` is the part of it that is read where the answer stands."""
    from dataclasses import replace as changed

    p = prompts(padded=True)
    p = changed(p, correct=tuple((int(row[2]),) for row in p.clean), wrong=tuple((int(row[3]),) for row in p.clean))
    table = influence.name_movers(tiny.model, p)
    by_source = influence.source_token_attribution(tiny.model, p)
    direct = influence.direct_logit_attribution(tiny.model, p)
    for head in (Head(0, 0), last_head(tiny)):
        row = by_source.nodes.index(head)
        name = f"blocks.{head.layer}.attn.hook_pattern"
        A = read(tiny.model, p.clean, [name])[name]
        found, looked = [], []
        for i, length in enumerate(p.lengths.tolist()):
            at = [j for j in range(length) if int(p.clean[i, j]) in p.correct[i]]
            found.append(sum(float(by_source.values[row, i, j]) for j in at))
            looked.append(sum(float(A[i, head.head, length - 1, j]) for j in at))
        scores = table.of(head)
        assert scores["name_mover"] == pytest.approx(sum(found) / len(p), abs=tiny.atol)
        assert scores["attention_to_answer"] == pytest.approx(sum(looked) / len(p), abs=tiny.atol)
        assert scores["direct"] == pytest.approx(float(direct.of(head).mean()), abs=tiny.atol)


# --- tables, and what is refused ---------------------------------------------------------------------------------


def test_tables_join_rank_and_say_what_is_not_there() -> None:
    model = Tiny(GPT2, "bridge", True).model
    one, other = influence.head_behaviour(model, draws=2, length=4), influence.copying_scores(model)
    both = one | other
    assert both.columns == (*one.columns, *other.columns) and both.df().shape == (LAYERS * 4, 3 + len(both.columns))
    assert both.top("copying", 2)[0][1] == both.column("copying").max()
    with pytest.raises(NotFoundError, match=r"got 'inductoin'.*'induction'"):
        both.top("inductoin")
    with pytest.raises(InputError, match="'current_token' in both"):
        _ = one | one
    with pytest.raises(LLMTraceError, match="same heads of one model"):
        _ = one | influence.copying_scores(Tiny(PLAIN, "bridge", False).model)
    with pytest.raises(NotFoundError, match="Expected one of the"):
        both.of(Head(7, 0))


@over(among=POST_NORM)
def test_norms_after_the_blocks_leave_behaviour_only(tiny: Tiny) -> None:
    table = influence.head_scores(tiny.model, prompts())
    assert table.columns == tuple(influence.DETECTORS) and "post-norm" in table.left_out["copying"]
    for refused in (
        lambda: influence.ov_circuit(tiny.model, Head(0, 0)),
        lambda: influence.copying_scores(tiny.model),
        lambda: influence.head_composition(tiny.model),
    ):
        with pytest.raises(UnsupportedError, match="post-norm"):
            refused()


def test_scores_that_are_no_products_are_refused() -> None:
    (tiny,) = tinies([(QWEN3, True)], [])[:1]
    for ask in (lambda: influence.qk_circuit(tiny.model, Head(0, 0)), lambda: influence.head_composition(tiny.model)):
        reason = "norms or clamps" if HOOKED_EXISTS else "a product of queries and keys"
        with pytest.raises(UnsupportedError, match=reason):
            ask()
    values = influence.head_composition(tiny.model, slots=["v"])
    assert values.slots == ("v",) and math.isfinite(values.top("v", 1)[0][2])


BAD: dict[str, tuple[Any, str]] = {
    "a head that is not there": (lambda m: influence.ov_circuit(m, Head(5, 0)), "not in this model"),
    "a distance without rotation": (lambda m: influence.qk_circuit(m, Head(0, 0), distance=2), "Expected distance=0"),
    "a slot": (lambda m: influence.head_composition(m, slots=["z"]), "slots among q, k and v"),
    "no tokens": (lambda m: influence.copying_scores(m, tokens=[99]), "token numbers from 0 to 39"),
    "k": (lambda m: influence.copying_scores(m, k=0), "Expected k from 1"),
    "a length": (lambda m: influence.head_behaviour(m, length=30), "length from 2 to 16"),
    "no prompts": (lambda m: influence.head_behaviour(m, draws=0), "got 0"),
    "no memory": (lambda m: influence.head_behaviour(m, memory=0), "Expected memory as bytes"),
    "answers elsewhere": (lambda m: influence.name_movers(m, prompts()), "contain their correct answer"),
}


@pytest.mark.usefixtures("as_users_run")
@pytest.mark.parametrize(("call", "sentence"), BAD.values(), ids=BAD)
def test_bad_input_is_a_sentence(call: Any, sentence: str) -> None:
    with pytest.raises(LLMTraceError, match=sentence):
        call(Tiny(GPT2, "bridge", True).model)


@over(ungrouped)
def test_the_same_seed_draws_the_same(tiny: Tiny) -> None:
    one, again, other = (repeated_tokens(tiny.model, 2, length=6, seed=s).tokens for s in (1, 1, 2))
    assert torch.equal(one, again) and not torch.equal(one, other)
