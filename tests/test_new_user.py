"""What a newcomer types first, and the sentence that says what was meant. Each was tried, and led nowhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import llmtrace as lt
from llmtrace.cli.app import app
from llmtrace.errors import LLMTraceError


@dataclass(frozen=True)
class Hour:
    """What lies on a newcomer's desk: a model, prompts, one of each result, and files of them in a folder."""

    model: Any
    prompts: lt.PromptSet
    effects: lt.Effects
    circuit: lt.Circuit
    trace: lt.Trace
    scores: Any
    at: Path


@pytest.fixture(scope="module")
def hour(tmp_path_factory: pytest.TempPathFactory) -> Hour:
    model, at = lt.load("tiny-english"), tmp_path_factory.mktemp("hour")
    prompts = lt.prompts.ioi(model, n=4)
    found = Hour(
        model, prompts, lt.path_patch(model, prompts), lt.discover(model, prompts, n_edges=20, method="eap"),
        lt.capture(model, prompts, what=("pattern",)), lt.influence.direct_logit_attribution(model, prompts), at,
    )  # fmt: skip
    found.trace.save(at / "trace")
    found.circuit.save(at / "circuit.json")
    found.effects.save(at / "effects.safetensors")
    return found


ASKED: dict[str, tuple[Callable[[Hour], Any], str]] = {
    "one span": (lambda h: lt.Graph.of(h.model, spans="S1"), r"put it in a list: \['S1'\]"),
    "a result as a circuit": (lambda h: h.circuit.save(h.at / "effects.safetensors"), r"ends in '.json'.*rename it"),
    "a circuit as a result": (lambda h: h.effects.save(h.at / "circuit.json"), r"ends in '.safetensors'.*rename it"),
    "a table": (lambda h: h.effects.save(h.at / "eff.csv"), r"write a table: \.df\(\)\.to_csv\('eff.csv'\)"),
    "a result is no trace": (lambda h: lt.load_trace(h.at / "effects.safetensors"), r"lt\.load_result\("),
    "a circuit is no trace": (lambda h: lt.load_trace(h.at / "circuit.json"), r"lt\.Circuit\.load\("),
    "no trace": (lambda h: lt.load_trace(h.at / "nope"), r"folder of a trace at 'nope', found none"),
    "a trace is no result": (lambda h: lt.load_result(h.at / "trace"), r"lt\.load_trace\('/.*/trace'\)"),
    "a circuit is no result": (lambda h: lt.load_result(h.at / "circuit.json"), r"lt\.Circuit\.load\("),
    "a result is no circuit": (lambda h: lt.Circuit.load(h.at / "effects.safetensors"), r"lt\.load_result\("),
    "a trace is no circuit": (lambda h: lt.Circuit.load(h.at / "trace"), r"lt\.load_trace\("),
    "a circuit by its file": (lambda h: lt.evaluate(h.model, h.prompts, "circuit.json"), r"Circuit\.load\(path\)"),
    "a known circuit": (lambda h: lt.compare(h.circuit, "ioi"), r"circuits\.load_definition\('ioi'\)"),
    "a kind, no place": (lambda h: lt.patch(h.model, h.prompts, ["resid_pre"]), r"'resid_pre\.2@END'.*patch_sweep"),
    "a hook's name": (
        lambda h: lt.patch(h.model, h.prompts, ["blocks.0.hook_resid_pre@END"]), r"write 'resid_pre\.0@END'"
    ),
    "model and prompts": (lambda h: lt.path_patch(h.prompts, h.model), r"in each other's place: swap them"),
    "circuit and prompts": (lambda h: lt.evaluate(h.model, h.circuit, h.prompts), r"swap them"),
    "no model": (lambda h: lt.influence.head_scores(h.prompts), r"write head_scores\(model, prompts=\.\.\.\)"),
    "scores twice": (lambda h: lt.correlate(h.scores, h.scores), r"make them with ablate"),
    "a head as a number": (lambda h: lt.path_patch(h.model, h.prompts, senders=[3.2]), r"in quotes: '3\.2'"),
    "half a position": (lambda h: lt.patch_sweep(h.model, h.prompts, positions=1.5), r"give that, or leave it out"),
    "a number as text": (lambda h: lt.discover(h.model, h.prompts, n_edges="150"), r"without quotes: 150"),
    "a module": (lambda h: lt.path_patch(h.model, h.prompts, metric=lt.metrics), r"got the module llmtrace\.metrics;"),
    "the last position": (
        lambda h: lt.path_patch(h.model, h.prompts, metric=lambda logits: logits[:, -1]), r"position is taken already"
    ),
    "a model's name": (lambda h: lt.prompts.ioi("gpt2"), r"give lt\.load\('gpt2'\)"),
    "a kind of a trace": (lambda h: h.trace["pattern"], r"read trace\['pattern', 0\] or trace\['blocks\.0\."),
    "an MLP that is not there": (lambda h: lt.ablate(h.model, h.prompts, ["m9"]), r"layers 0-3; name one"),
    "a word": (lambda h: lt.ablate(h.model, h.prompts, ["3.2"], ablation="zeros"), r"Did you mean 'zero'"),
    "another word": (lambda h: lt.patch(h.model, h.prompts, ["3.2"], direction="denoise"), r"mean 'denoising'"),
    "a definition": (lambda h: lt.circuits.load_definition("IOI-gpt2"), r"Did you mean 'ioi'"),
    "an influence": (lambda h: lt.validate(h.model, h.prompts, "rolout"), r"Expected an influence method"),
    "a figure of a model": (lambda h: lt.plot(h.model), r"plot what a method returned"),
    "a row by name": (lambda h: h.effects["3.2"], r"of\('3\.2'\) is one place's change"),
    "a row that is not there": (lambda h: h.effects[99], r"rows 0 to 31, got 99"),
    "a sender behind the receiver": (
        lambda h: lt.path_patch(h.model, h.prompts, receivers=["a2.h2<q>"], senders=["3.7"]),
        r"some receiver comes after, got a3\.h7: .* what a2\.h2<q> reads; name receivers of later layers",
    ),
    "a key behind the query": (
        lambda h: lt.knock_out(h.model, h.prompts, "S1", "END"), r"keys END, which come after the queries S1"
    ),
    "a prompt that is not there": (lambda h: h.prompts[99], r"Expected prompts 0 to 3 .*, got 99; see \.df\(\)"),
    "a position of prompts": (lambda h: h.prompts["IO"], r"got 'IO'; where it stands is \.position\('IO'\)"),
    "a list of prompts": (lambda h: h.prompts[[0, 7]], r"Expected prompts 0 to 3"),
    "prompts and prompts": (lambda h: h.prompts + h.prompts, r"Expected one PromptSet, .*; make them together"),
    "a sum of prompts": (lambda h: sum([h.prompts, h.prompts]), r"Expected one PromptSet, got it and 0 to add"),
    "circuits added": (lambda h: h.circuit + h.circuit, r"write a \| b"),
    "effects less effects": (lambda h: h.effects - h.effects, r"Expected one Effects, .* or subtract; reckon"),
    "a figure's file": (
        lambda h: lt.plot(h.effects, "x.html"), r"got 'x\.html'; write plot\(noun, \.\.\.\)\.write_html\(path\)"
    ),
    "a score by name": (lambda h: h.scores["3.2"], r"behind NodeScores, got \['3\.2'\]; write \.of\('3\.2'\)"),
    "scores by a field": (lambda h: h.scores["values"], r"write \.values"),
    "scores by number": (lambda h: h.scores[0], r"one is \.of\(name\), all are \.df\(\)"),
    "an edge by number": (lambda h: h.circuit[0], r"behind Circuit, got \[0\]; all that is in it is \.df\(\)"),
    "a head of a layer": (lambda h: lt.Head(3), r"Expected head for Head, got none; write Head\(layer, head"),
    "a neuron of a file": (lambda h: lt.nodes.Neuron(3), r"Expected index for Neuron, got none; write Neuron\(layer"),
    "a circuit of nodes": (
        lambda h: lt.Circuit(["3.2"]), r"Expected mask for Circuit, got none; .*or Circuit\.of\(graph, edges"
    ),
    "a result in its own place": (lambda h: h.effects.save(h.effects), r"Expected path as text or a path, got"),
    "a result over another": (
        lambda h: h.effects.save("a.safetensors", overwrite=False), r"save \(path\), got 'overwrite'; leave it out"
    ),
    "a trace as a file": (lambda h: h.trace.save(h.at / "t.safetensors"), r"name of a folder .*; write '/.*/t'\."),
    "a trace as JSON": (lambda h: h.trace.save("a.json"), r"got 'a\.json', which ends as a file; write 'a'\."),
    "a trace as a model": (lambda h: lt.load(h.at / "trace"), r"is a trace; read it with lt\.load_trace\('/.*/trace'"),
    "a circuit as a model": (lambda h: lt.load(str(h.at / "circuit.json")), r"read it with lt\.Circuit\.load\("),
    "a result as a model": (lambda h: lt.load(h.at / "effects.safetensors"), r"read it with lt\.load_result\("),
    "prompts of a folder": (lambda h: lt.from_jsonl(h.model, h.at), r"which is a folder; name a file in it"),
    "what makes a metric": (
        lambda h: lt.path_patch(h.model, h.prompts, metric=lt.metrics.logit_diff), r"makes one; write 'logit_diff'"
    ),
    "an option that a method has not": (lambda h: h.effects.top(n=3), r"Effects\.top \(k\), got 'n'"),
}  # fmt: skip


@pytest.mark.parametrize(("call", "sentence"), ASKED.values(), ids=ASKED)
def test_the_sentence_says_what_was_meant(hour: Hour, call: Callable[[Hour], Any], sentence: str) -> None:
    before = sorted(path.name for path in hour.at.rglob("*"))
    with pytest.raises(LLMTraceError, match=sentence):
        call(hour)
    assert sorted(path.name for path in hour.at.rglob("*")) == before


@pytest.mark.parametrize(
    ("where", "name", "ours"),
    [
        (lt, "load_circuit", "lt.Circuit.load"), (lt.circuits, "load_circuit", "lt.Circuit.load"),
        (lt, "load_model", "lt.load"), (lt.interventions, "mean_ablation", "lt.ablate"),
        (lt, "run_with_hooks", "lt.interventions.edited"), (lt, "head_ablation", "lt.ablate"),
        (lt, "tokenize", "lt.from_texts"), (lt, "ActivationCache", "lt.capture"), (lt, "save", "lt.Effects.save"),
        (lt, "utils", "lt.models"),
    ],
)  # fmt: skip
def test_names_of_others_lead_to_ours(where: Any, name: str, ours: str) -> None:
    with pytest.raises(AttributeError, match=f"Did you mean '{ours}'"):
        getattr(where, name)


@pytest.mark.parametrize(("name", "ours"), [("plot", r"lt\.plot\(it\)"), ("to_df", r"\.df\(\)"), ("chnge", "'change'")])
def test_a_result_says_what_it_has(hour: Hour, name: str, ours: str) -> None:
    with pytest.raises(AttributeError, match=f"Effects has no '{name}'. Did you mean {ours}"):
        getattr(hour.effects, name)
    assert not hasattr(hour.effects, "__array__")  # what asks goes on as it did


@pytest.mark.parametrize(
    ("noun", "name", "ours"),
    [
        ("prompts", "tokens", r"\.clean"), ("prompts", "answers", r"\.correct and \.wrong"),
        ("effects", "values", r"\.change"), ("effects", "max", r"\.top\(1\)"), ("scores", "change", r"\.values"),
        ("circuit", "heads", r"\.nodes"), ("circuit", "evaluate", r"lt\.evaluate\(model, prompts, it\)"),
    ],
)  # fmt: skip
def test_a_noun_says_how_it_calls_that(hour: Hour, noun: str, name: str, ours: str) -> None:
    with pytest.raises(AttributeError, match=f"has no '{name}'. Did you mean {ours}"):
        getattr(getattr(hour, noun), name)


def test_the_command_line_makes_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    said = CliRunner().invoke(app, ["paths", "tiny-english", "--out", "x.json"])
    assert said.exit_code == 2 and not [*tmp_path.iterdir()]
    assert "Expected the name of a folder (what --out makes is one), got 'x.json'" in " ".join(said.stderr.split())


def test_what_lies_there_is_read_as_it_says(hour: Hour) -> None:
    """The advice works from any folder."""
    for name in ("trace", "circuit.json", "effects.safetensors"):
        with pytest.raises(LLMTraceError) as error:
            lt.load(hour.at / name)
        reader = str(error.value).partition("read it with ")[2].rstrip(".")
        assert type(eval(reader, {"lt": lt})) in (lt.Trace, lt.Circuit, lt.Effects)


def test_text_names_a_place_in_every_result(hour: Hour) -> None:
    head = lt.Head(3, 2)
    swept = lt.patch_sweep(hour.model, hour.prompts, "z", layers=[3])
    for name in ("3.2", "a3.h2", "L3H2"):
        assert hour.effects.of(name).equal(hour.effects.of(head)) and hour.scores.of(name).equal(hour.scores.of(head))
    assert swept.of("3.2").equal(swept.change[2])
    assert hour.circuit.without("3.2").mask.equal(hour.circuit.without(head).mask)
    assert hour.circuit.graph.index("a2.h2->logits") == hour.circuit.graph.index(
        lt.Edge(lt.Head(2, 2), lt.nodes.Port(lt.nodes.Logits()))
    )
    assert lt.parse_node("mlp.2") == lt.parse_node("m2") == lt.Mlp(2)


def test_a_row_of_effects_alone(hour: Hour) -> None:
    assert hour.effects[5].after.equal(hour.effects.after[5:6]) and hour.effects[-1].labels == hour.effects.labels[-1:]


def test_prompts_and_effects_one_by_one(hour: Hour) -> None:
    assert [one.texts[0] for one in hour.prompts] == [*hour.prompts.texts]
    assert [one.labels[0] for one in hour.effects] == [*hour.effects.labels]


def test_an_activation_by_kind_and_layer(hour: Hour) -> None:
    assert hour.trace["pattern", 2].equal(hour.trace["blocks.2.attn.hook_pattern"])


def test_a_size_that_nobody_asked_for_is_told(hour: Hour) -> None:
    found = lt.discover(hour.model, hour.prompts, method="eap")
    assert found.n_edges == 152 and "no size was asked for" in repr(found)
    assert "asked" not in repr(lt.discover(hour.model, hour.prompts, method="eap", n_edges=152))
