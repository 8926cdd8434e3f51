"""What the console shows is what Python gives: before edits, with them, and after they are undone, bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from console_service import CLEAN, OTHER, live, logits, model
from safetensors.numpy import load

import llmtrace as lt
from llmtrace.console.rows import VIEWS
from llmtrace.console.schemas import Ablate, KnockOut, NewRun, Patch, Run, Steer
from llmtrace.errors import InputError, LimitError, LLMTraceError, NotFoundError
from llmtrace.models.user_hooks import user_hooks

pytestmark = pytest.mark.usefixtures("as_users_run")
QUERIES = {
    "attention/layer": {"layer": "3"}, "attention/row": {"layer": "3", "head": "2", "query": "14"},
    "head": {"layer": "3", "head": "2"},
}  # fmt: skip
EDITS: dict[str, list[Any]] = {
    "none": [],
    "head": [Ablate(node="a3.h2")],
    "mean": [Ablate(node="3.2", how="mean"), Ablate(node="m1.n5", how="zero")],
    "several": [
        Patch(node="a2.h6", positions=[10]),
        KnockOut(layer=2, head=6, key=4),
        Ablate(node="m3", how="resample"),
    ],
    "steered": [Steer(layer=1, coefficient=0.5)],
}


def numbers(view: str, found: Any) -> Any:
    """Of a view, what its program's `result` says."""
    match view:
        case "runs":
            return found.value
        case "overview" | "paths":
            shown = found.maps[0] if view == "overview" else found.map
            heads = {f"a{i}.h{j}": value for i, row in enumerate(shown.heads) for j, value in enumerate(row)}
            return heads | {f"m{i}": value for i, value in enumerate(shown.mlps)}
        case "head":
            return [found.direct, *(value for _, value in found.writes)]
        case "lens":
            return found.probability
        case "attribution":
            return found.scores
        case "patch":
            return [value for row in found.values for value in row]
        case "circuit":
            return [found.faithfulness, *(edge.score for edge in found.edges[:100])]
        case "generation":
            return [token.scores for token in found.tokens]


def close(one: Any, other: Any) -> None:
    if isinstance(one, dict):
        assert one and set(one) <= set(other)
        close([*one.values()], [other[key] for key in one])
    elif isinstance(one, list) and one and isinstance(one[0], list):
        assert len(one) == len(other)
        for row, its in zip(one, other, strict=True):
            close(row, its)
    else:
        assert np.abs(np.array(one) - np.array(other)).max() < 1e-6


def told(python: str) -> Any:
    """What a program ends with, or the sentence that it ends in."""
    space: dict[str, Any] = {}
    try:
        exec(compile(python, "copied", "exec"), space)
    except LLMTraceError as refusal:
        return str(refusal)
    return space["result"]


@pytest.fixture
def one_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs load the model that is there already."""
    there = model()
    monkeypatch.setattr(lt, "load", lambda name, dtype: there)


CASES = [(name, OTHER) for name in EDITS] + [(name, None) for name in ("none", "head", "mean")]


@pytest.mark.parametrize(
    ("edits", "against"), CASES, ids=[f"{name}-{'pair' if other else 'alone'}" for name, other in CASES]
)
def test_every_view_is_what_its_python_gives(edits: str, against: str | None, one_model: None) -> None:
    source, clean = live(), logits()
    run = source.add(NewRun(prompt=CLEAN, against=against, edits=EDITS[edits]))
    close(told(run.python), numbers("runs", run))
    assert (run.value == run.before) == (not EDITS[edits])
    for view in VIEWS:
        query = {"run": run.id, **QUERIES.get(view, {})}
        try:
            found = source.view(view, query)
        except LLMTraceError as refusal:
            said = ("needs corrupted prompts", "your hook", "texts of at most")
            assert VIEWS[view].heavy and any(part in str(refusal) for part in said), (view, refusal)
            continue
        if isinstance(found, bytes) or view == "attention/row":
            continue
        shown = found.maps[0] if view == "overview" else found.map if view == "paths" else found
        result = told(shown.python)
        if getattr(shown, "refused", None):
            assert result == shown.refused
        else:
            close(numbers(view, found), result)
    assert torch.equal(logits(), clean) and not user_hooks(model())


def test_a_copied_program_runs_as_it_is() -> None:
    source = live()
    run = source.add(NewRun(prompt=CLEAN, against=OTHER, edits=EDITS["several"]))
    assert abs(told(run.python) - run.value) < 1e-9


def test_the_run_is_the_librarys(one_model: None) -> None:
    run = live().add(NewRun(prompt=CLEAN, against=OTHER))
    prompts = lt.from_pairs(model(), [(CLEAN, OTHER, "Mary", "John")])
    assert (run.correct.text, run.wrong.text) == ("Mary", "John")
    final = lt.models.logits(model(), prompts.clean)[0]
    log_p = final.log_softmax(-1)
    assert abs(run.value - prompts.metric()(final[None]).item()) < 1e-9
    assert run.clean.log_probability[0] is None
    close(run.clean.log_probability[1:], log_p[:-1].gather(1, prompts.clean[0, 1:, None])[:, 0].tolist())
    top = run.clean.top[0]
    close([top.probability, top.logit], [log_p[-1].max().exp().item(), final[-1].max().item()])
    close([run.clean.entropy], [-(log_p[-1].exp() * log_p[-1]).sum().item()])
    assert [token.text for token in run.clean.tokens] == list(lt.capture(model(), prompts).labels[0])


@pytest.mark.parametrize("edit", ["head", "steered"])
def test_undone_is_as_it_was_bit_for_bit(edit: str) -> None:
    source = live()
    run = source.add(NewRun(prompt=CLEAN, against=OTHER))
    first = {view: source.view(view, {"run": run.id, **QUERIES.get(view, {})}) for view in VIEWS}
    edited = source.add(NewRun(prompt=CLEAN, against=OTHER, edits=EDITS[edit]))
    assert edited.parent == run.id and edited.before == run.value != edited.value
    for view in ("overview", "attention", "lens"):
        source.view(view, {"run": edited.id})
    again = live()
    assert again.add(NewRun(prompt=CLEAN, against=OTHER)) == run
    for view, found in first.items():
        assert again.view(view, {"run": run.id, **QUERIES.get(view, {})}) == found, view


def test_an_edited_runs_value_is_what_ablate_says() -> None:
    prompts = lt.from_pairs(model(), [(CLEAN, OTHER, "Mary", "John")])
    for how, over in (("zero", {}), ("mean", {"over": "global"}), ("resample", {})):
        run = live().add(NewRun(prompt=CLEAN, against=OTHER, edits=[Ablate(node="a3.h2", how=how)]))
        effects = lt.ablate(model(), prompts, ["3.2"], ablation=how, **over)
        close([run.before, run.value], [effects.before.item(), effects.after.item()])


def test_attention_is_within_four_thousandths_and_a_row_is_exact() -> None:
    source = live()
    for edits in ([], EDITS["several"]):
        run = source.add(NewRun(prompt=CLEAN, against=OTHER, edits=edits))
        prompts = lt.from_pairs(model(), [(CLEAN, OTHER, "Mary", "John")])
        with lt.interventions.edited(model(), prompts, source.run(run.id).edits):
            trace = lt.capture(model(), prompts, what="pattern")
        n = len(run.clean.tokens)
        queries, keys = np.tril_indices(n)
        pooled = load(source.view("attention", {"run": run.id}))["pooled"]
        for layer in range(4):
            exact = trace["pattern", layer][0].numpy()
            packed = load(source.view("attention/layer", {"run": run.id, "layer": str(layer)}))["packed"]
            assert np.abs((packed / 255) ** 2 - exact[:, queries, keys]).max() <= 0.004
            assert np.abs((pooled[layer] / 255) ** 2 - exact).max() <= 0.004
            row = source.view("attention/row", {"run": run.id, "layer": str(layer), "head": "2", "query": "9"})
            assert len(row.attention) == 10
            assert np.abs(row.attention - exact[2, 9, :10]).max() < 1e-6


def test_a_head_card_describes_its_pattern() -> None:
    source = live()
    run = source.add(NewRun(prompt=CLEAN, against=OTHER))
    pattern = lt.capture(model(), lt.from_texts(model(), CLEAN), what="pattern")["pattern", 2][0, 6].numpy()
    card = source.view("head", {"run": run.id, "layer": "2", "head": "6"})
    tokens = [token.id for token in run.clean.tokens]
    n, said = len(tokens), card.behaviour
    assert abs(said["previous_token"] - np.mean([pattern[i, i - 1] for i in range(1, n)])) < 1e-6
    assert abs(said["self"] - np.mean([pattern[i, i] for i in range(1, n)])) < 1e-6
    assert abs(said["sink"] - np.mean([pattern[i, 0] for i in range(1, n)])) < 1e-6
    before = {i: [j for j in range(i) if tokens[j] == tokens[i]] for i in range(n)}
    twice = [i for i in before if before[i]]
    assert abs(said["duplicate_token"] - np.mean([sum(pattern[i, j] for j in before[i]) for i in twice])) < 1e-6
    after = [i for i in before if [j + 1 for j in before[i] if j + 1 < i]]
    found = np.mean([sum(pattern[i, j + 1] for j in before[i] if j + 1 < i) for i in after])
    assert abs(said["induction"] - found) < 1e-6
    query, key, value = card.top_pairs[0]
    assert abs(pattern[query, key] - value) < 1e-6 and value >= pattern[1:].max() - 1e-6


def test_the_same_again_is_the_same_run_and_an_edited_one_brings_its_parent() -> None:
    source = live()
    edited = source.add(NewRun(prompt=CLEAN, against=OTHER, edits=EDITS["head"], name="mine"))
    assert source.add(NewRun(prompt=CLEAN, against=OTHER, edits=EDITS["head"])) == edited
    runs: list[Run] = source.runs()
    assert {run.id for run in runs} == {edited.id, edited.parent} and edited.name == "mine"
    assert source.add(NewRun(prompt=CLEAN)).id not in {run.id for run in runs}
    other = source.add(NewRun(prompt=CLEAN, correct="John", wrong="Mary"))
    assert abs(other.value + edited.before) < 1e-9


@pytest.mark.parametrize(
    ("asked", "error", "sentence"),
    [
        (NewRun(prompt=CLEAN, against="Mary"), InputError, "equal token length"),
        (NewRun(prompt=CLEAN, against=CLEAN), InputError, "differs from the clean one"),
        (NewRun(prompt=""), InputError, "at least one word"),
        (NewRun(prompt="/etc/passwd"), InputError, "words that the tokenizer knows"),
        (NewRun(prompt=CLEAN, correct="../../x"), InputError, "an answer of one token"),
        (NewRun(prompt=CLEAN, correct="Mary", wrong="Mary"), InputError, "foil that differ"),
        (NewRun(prompt="Mary " * 64), LimitError, "at most 64 tokens"),
        (NewRun(prompt="Mary " * 10_000), LimitError, "at most 20,000 characters"),
        (NewRun(prompt=CLEAN, edits=[Ablate(node="a9.h9")]), InputError, "not in this model"),
        (NewRun(prompt=CLEAN, edits=[Ablate(node="file:///etc")]), InputError, "Expected a"),
        (NewRun(prompt=CLEAN, edits=[Ablate(node="m0", how="__import__")]), InputError, "Expected ablation"),
        (NewRun(prompt=CLEAN, edits=[Ablate(node="m0", positions=[99])]), InputError, "position inside"),
        (NewRun(prompt=CLEAN, edits=[Patch(node="m0")]), InputError, "needs corrupted prompts"),
        (NewRun(prompt=CLEAN, edits=[Steer(layer=0)]), InputError, "needs corrupted prompts"),
        (NewRun(prompt=CLEAN, edits=[KnockOut(layer=0, query=0, key=0)]), InputError, "keep a key"),
        (NewRun(prompt=CLEAN, edits=[Ablate(node="m0")] * 65), LimitError, "at most 64 edits"),
    ],
)
def test_what_is_no_run_is_a_sentence(asked: NewRun, error: type[Exception], sentence: str) -> None:
    clean = logits()
    with pytest.raises(error, match=sentence):
        live().add(asked)
    assert torch.equal(logits(), clean)


def test_what_is_no_view_is_a_sentence() -> None:
    source = live()
    run = source.add(NewRun(prompt=CLEAN, against=OTHER))
    for view, query, error, sentence in (
        ("overview", {"run": "../../etc"}, NotFoundError, "id of a run"),
        ("head", {"run": run.id}, InputError, "Expected layer"),
        ("head", {"run": run.id, "layer": "-1", "head": "0"}, InputError, "whole number"),
        ("head", {"run": run.id, "layer": "9", "head": "0"}, InputError, "not in this model"),
        ("attention/layer", {"run": run.id, "layer": "77"}, InputError, "layer"),
        ("attention/row", {"run": run.id, "layer": "0", "head": "0", "query": "15"}, InputError, "inside every prompt"),
        ("attribution", {"run": run.id, "method": "os.system"}, NotFoundError, "scores tokens"),
        ("overview", {"run": run.id, "path": "/etc"}, InputError, "Expected parameters"),
        ("patch", {"run": run.id, "site": "/etc"}, InputError, "Expected site"),
        ("circuit", {"run": run.id, "method": "acdc"}, InputError, "Expected method"),
        ("generation", {"run": run.id, "tokens": "100000"}, LimitError, "at most 64"),
    ):
        with pytest.raises(error, match=sentence):
            source.view(view, query)


def test_rows_are_streamed_and_add_up() -> None:
    source = live()
    run, rows = source.add(NewRun(prompt=CLEAN, against=OTHER)), dict[int, list[float]]()
    for site, width in (("resid_pre", 15), ("z", 8)):
        found = source.view("patch", {"run": run.id, "site": site}, rows.__setitem__)
        assert [rows[i] for i in range(4)] == found.values and len(found.columns) == width
        assert abs(found.before - run.value) < 1e-9 and abs(found.against - run.against.metric) < 1e-9


def test_runs_and_answers_are_bounded() -> None:
    from llmtrace.console.kept import Kept

    kept: Kept[str] = Kept(3)
    for name in "abcd":
        kept.put(name, name)
        kept.get("a")
    assert kept.get("a") == "a" and kept.get("b") is None and len(list(kept.items())) == 3
    kept.put("large", "large", 9)
    assert kept.get("large") == "large" and kept.get("a") is None
