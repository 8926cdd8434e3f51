"""A function written in a notebook joins by a row: found by name, in the room, drawn, tested by intervening, saved."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

import llmtrace as lt
from llmtrace import circuits, influence, interventions, metrics, models, prompts, validation
from llmtrace.circuits import EdgeScores
from llmtrace.cli import app
from llmtrace.errors import InputError
from llmtrace.influence import TokenInfluence
from llmtrace.interventions.engine.changes import Fill
from llmtrace.metrics import Metric
from llmtrace.prompts import PromptSet

TABLES = (
    influence.METHODS, influence.BASELINES, interventions.ABLATIONS, circuits.METHODS, metrics.METRICS, prompts.MAKERS
)  # fmt: skip


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """What a test registers is gone after it."""
    kept = [dict(table) for table in TABLES]
    yield
    for table, rows in zip(TABLES, kept, strict=True):
        table.clear()
        table.update(rows)


@pytest.fixture(scope="module")
def model() -> Any:
    return models.load("tiny-english")


def alti_last(model: Any, prompts: PromptSet, *, layer: int = -1) -> TokenInfluence:
    """ALTI's share of one layer alone.

    Sign: a share, never below zero. Known failure: blind to every other layer.
    """
    found = influence.alti(model, prompts)
    assert found.per_layer is not None
    return replace(found, values=found.per_layer[layer], per_layer=None, method="alti_last")


def loud_edges(model: Any, prompts: PromptSet, power: int = 2) -> EdgeScores:
    """EAP's scores, squared."""
    found = circuits.eap(model, prompts)
    return replace(found, per_prompt=found.per_prompt**power, method="loud_edges")


def test_a_method_that_scores_tokens(model: Any, tmp_path: Path) -> None:
    asked = prompts.ioi(model, 4, seed=3)
    row = lt.influence.register(alti_last, gives="tokens", sums_to="one", cost="1 F")
    assert (row.summary, row.facts()["failure"]) == ("ALTI's share of one layer alone", "blind to every other layer")
    assert lt.influence.alti_last is alti_last and "alti_last" in dir(lt.influence)
    scores = influence.METHODS["alti_last"](model, asked)
    check = lt.validate(model, asked, scores)
    both = lt.validate(model, asked, ["alti_last", "alti"])
    assert both.rank_correlation == check.rank_correlation and both.methods[:2] == ("alti_last", "alti")
    assert check.methods[0] == "alti_last" and lt.plot(scores).data and lt.plot(scores, validation=check).data
    generated = influence.attribute_generation(model, "When Eric and Sam went", method="alti_last", max_new_tokens=2)
    assert generated.influence.method == "alti_last" and lt.plot(generated).data
    line = ["influence", "tiny-english", "--method", "alti_last", "--validate", "-n", "4", "--out", tmp_path / "mine"]
    told = CliRunner().invoke(app, [*map(str, line), "--json"])
    assert told.exit_code == 0, told.stderr
    saved = json.loads((tmp_path / "mine" / "result.json").read_text())
    assert saved["summary"]["method"] == "alti_last" and saved["summary"]["validation"][0]["method"] == "alti_last"
    assert "alti_last" in (tmp_path / "mine" / "report.html").read_text().replace(" ", "_")


def test_a_method_that_scores_edges(model: Any, tmp_path: Path) -> None:
    asked = prompts.ioi(model, 4, seed=3)
    lt.circuits.register(loud_edges, estimates=False)
    circuit = lt.discover(model, asked, method="loud_edges", n_edges=60)
    assert lt.discover(model, asked, method="loud_edges", n_edges=60, power=4).n_edges == circuit.n_edges
    with pytest.raises(InputError, match=r"Expected options of loud_edges \(power\), got 'metric'"):
        lt.discover(model, asked, method="loud_edges", n_edges=60, metric="probability")
    assert circuit.options["method"] == "loud_edges" and circuit.n_edges <= 60 and lt.plot(circuit).data
    assert lt.plot(lt.circuits.loud_edges(model, asked)).data
    assert lt.evaluate(model, asked, circuit, draws=0).faithfulness != 0
    told = CliRunner().invoke(app, ["discover", "tiny-english", "--method", "loud_edges", "-n", "4"])
    assert told.exit_code == 0 and "Score: EAP's scores, squared." in told.stdout, told.stderr
    circuit.save(tmp_path / "circuit.json")
    assert circuits.Circuit.load(tmp_path / "circuit.json").options["method"] == "loud_edges"


def test_a_metric(model: Any) -> None:
    def margin(positions: Any, correct: Sequence[Sequence[int]]) -> Metric:
        """Logit of the answer less the best other one."""
        right = torch.tensor([tokens[0] for tokens in correct])

        def read(rows: Any, right: Any) -> Any:
            answer = rows.gather(-1, right.expand(rows.shape[:-1])[..., None])[..., 0]
            others = rows.scatter(-1, right.expand(rows.shape[:-1])[..., None], -torch.inf)
            return answer - others.max(-1).values

        return metrics.custom("margin", read, positions, context=(right,))

    asked = prompts.ioi(model, 4, seed=3)
    lt.metrics.register(margin, needs=("correct",), gives="logits")
    assert lt.path_patch(model, asked, senders=[lt.Head(3, 2)], metric="margin").metric == "margin"
    told = CliRunner().invoke(app, ["paths", "tiny-english", "--senders", "3.2", "--metric", "margin", "-n", "4"])
    assert told.exit_code == 0 and "margin in logits" in told.stdout, told.stdout + told.stderr


def test_a_maker_of_prompts(model: Any) -> None:
    def short(model: Any, n: int = 16, *, seed: int = 0) -> PromptSet:
        """The same two names, again and again."""
        pair = ("When Eric and Sam went to the garden, Sam offered a key to",
                "When Eric and Sam went to the garden, Eric offered a key to", "Eric", "Sam")  # fmt: skip
        return prompts.from_pairs(model, [pair] * n)

    lt.prompts.register(short)
    assert len(lt.prompts.short(model, 3)) == 3
    told = CliRunner().invoke(app, ["paths", "tiny-english", "--task", "short", "-n", "2", "--senders", "3.2"])
    assert told.exit_code == 0, told.stderr


def test_what_a_row_must_say() -> None:
    with pytest.raises(InputError, match=r"Expected gives= of the influence method alti_last, one of nodes, .* got ''"):
        lt.influence.register(alti_last)
    with pytest.raises(InputError, match="'alti', which is taken"):
        lt.influence.register(alti_last, name="alti", gives="tokens")
    with pytest.raises(InputError, match="got 'gifs'"):
        lt.influence.register(alti_last, gifs="tokens")
    with pytest.raises(InputError, match="pass name='mine'"):
        lt.prompts.register(lambda model, n: None)


def test_a_cell_that_runs_again_replaces_its_function() -> None:
    lt.influence.register(alti_last, gives="tokens")
    lt.influence.register(alti_last, gives="tokens", summary="once more")
    assert influence.METHODS["alti_last"].summary == "once more"


def test_an_ablation(model: Any) -> None:
    """Its output becomes 1: in a sweep, as the ground of a circuit and in a check."""
    some = prompts.ioi(model, 4, seed=0)
    interventions.ABLATIONS.register(lambda *asked: Fill(1.0), name="one", summary="its output becomes 1")
    one = interventions.ablate(model, some, ["2.2"], ablation="one")
    given = torch.ones(model.cfg.d_head)
    value = interventions.ablate(model, some, ["2.2"], ablation="value", value=given)
    assert torch.allclose(one.after, value.after) and (one.change != 0).any()
    assert circuits.background(model, some, "one").writes.eq(1).all()
    scores = influence.direct_logit_attribution(model, some)
    assert validation.validate(model, some, scores, ablation="one", draws=1).options["ablation"] == "one"


def test_a_baseline(model: Any) -> None:
    def half(model: Any, prompts: PromptSet) -> torch.Tensor:
        return models.embedding(model, prompts.clean)[0] / 2

    some = prompts.ioi(model, 4, seed=0)
    influence.BASELINES.register(half, summary="half of the token's own vector")
    lost = influence.occlusion(model, some, ablation="half").values
    assert lost.shape == influence.occlusion(model, some).values.shape and (lost != 0).any()
    assert influence.integrated_gradients(model, some, baseline="half", steps=8).options["baseline"] == "half"
