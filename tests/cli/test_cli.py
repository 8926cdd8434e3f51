"""The command line in process: one JSON object or a short table on stdout, the rest on stderr, exit codes, folders."""

from __future__ import annotations

import inspect
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import llmtrace as lt
from llmtrace import circuits, influence, models
from llmtrace.cli import app
from llmtrace.cli.commands.ablate import SAID
from llmtrace.cli.options import scoring, shared as options, validating as checked
from llmtrace.cli.options.from_rows import flag
from llmtrace.cli.options.prompts import Asked, tasks
from llmtrace.cli.output import flow
from llmtrace.cli.output.documents import ROWS, document_of, json_schema
from llmtrace.cli.output.run import RESULT
from llmtrace.errors import Cancelled, InputError

Result = Any  # typer keeps the class of its runner's results to itself
COMMANDS = ("demo", "models", "methods", "trace", "influence", "generation", "heads", "neurons", "lens", "patch",
            "ablate", "paths", "discover", "evaluate", "compare", "convert")  # fmt: skip
TINY = "tiny-english"
STORY = "When Eric and Sam went to the garden, Sam offered a key to"


@pytest.fixture(autouse=True, scope="module")
def loaded_once() -> Iterator[None]:
    """One copy of each model for all tests of this file; none of them changes a model."""
    with pytest.MonkeyPatch.context() as patch:
        load = cache(models.load)
        patch.setattr(models, "load", lambda source, **how: load(source, **how))
        yield


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def document(result: Result) -> dict[str, Any]:
    """Standard output is one JSON object and nothing else."""
    assert result.exit_code == 0, result.stderr
    assert result.stdout.endswith("}\n") and result.stdout.count("\n") == 1
    found: dict[str, Any] = json.loads(result.stdout)
    return found


@pytest.fixture(scope="module")
def circuit_folder(loaded_once: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("circuit") / "found"
    assert run("discover", TINY, "-n", "8", "--n-edges", "120", "--out", folder).exit_code == 0
    return folder


# ---- light ----------------------------------------------------------------------------------------------------------


def test_help_and_the_embedded_models_load_nothing_heavy() -> None:
    code = f"""
import sys
from typer.testing import CliRunner
from llmtrace.cli import app
asked = [["--help"], ["--version"], *([c, "--help"] for c in {COMMANDS})]
asked += [["methods"], ["methods", "influence"], ["models"], ["models", "--json"]]
codes = {{CliRunner().invoke(app, arguments).exit_code for arguments in asked}}
heavy = ("torch", "transformer_lens", "transformers", "plotly", "pandas", "scipy", "numpy")
print(codes, [m for m in heavy if m in sys.modules])
"""
    paths = os.pathsep.join(filter(None, [str(Path(lt.__file__).parents[1]), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": paths}
    )
    assert done.stdout.strip() == "{0} []", done.stdout + done.stderr


IN_HELP = {
    "influence": (influence.METHODS, ()),
    "generation": ({row.name: row for row in scoring.of_tokens()}, ("metric", "positions")),
    "discover": (circuits.METHODS | circuits.SELECTIONS, ()),
    "convert": (circuits.FORMATS, ()),
    "paths": (tasks(), ()),
}


@pytest.mark.parametrize("command", IN_HELP)
def test_help_has_every_row_and_its_options(command: str) -> None:
    rows, but = IN_HELP[command]
    text = run(command, "--help").stdout
    for name, row in rows.items():
        options = {*row.option_names(), *(option.name for option in getattr(row, "reads", ()))}
        assert name in text and [flag(option) for option in options - {*but} if flag(option) not in text] == [], name


def test_every_option_of_the_check_is_one_of_the_command() -> None:
    takes = {p.name for p in inspect.signature(lt.validate).parameters.values() if p.kind is p.KEYWORD_ONLY}
    given = {part.name.removeprefix(checked.PREFIX) for part in fields(checked.AnyCheckOptions)}
    assert given - {"validate"} == takes - {"metric", "spans", "seed", "memory"}  # which the score has said


def test_the_page_of_methods_is_not_stale() -> None:
    """Else: `llmtrace methods --markdown > tutorials/manual/methods.md`."""
    page = Path(lt.__file__).parents[1] / "tutorials" / "manual" / "methods.md"
    assert page.read_text(encoding="utf-8") == run("methods", "--markdown").stdout


def test_the_page_of_families_is_not_stale() -> None:
    """Else: `llmtrace models --families --markdown > tutorials/manual/families.md`."""
    page = Path(lt.__file__).parents[1] / "tutorials" / "manual" / "families.md"
    assert page.read_text(encoding="utf-8") == run("models", "--families", "--markdown").stdout


def test_what_works_on_a_family_is_told_with_reasons() -> None:
    rows = {row["family"]: row for row in document(run("models", "--families", "--json"))["rows"]}
    assert rows["Llama"]["refused"] == {} and rows["Llama"]["loads"] == "HookedTransformer"
    assert "does something between its values" in rows["Olmo"]["refused"]["decompx"]
    assert rows["Ministral"]["loads"] == "" and "no TransformerBridge" in rows["Ministral"]["why"]
    told = run("models", "olmo", "--families").stdout
    assert "post-norm" in told and "Olmo3" in told and "Llama" not in told.split("What was asked")[0]
    assert run("models", "--families", "nonesuch").exit_code == 3 and run("models", "--markdown").exit_code == 2


def test_a_table_is_told_with_all_that_its_rows_know() -> None:
    told = run("methods", "influence").stdout
    for name, row in influence.METHODS.items():
        known = {**row.facts(), "needs": ", ".join(row.needs)}
        facts = [known[fact] for fact in ("summary", "cost", "needs", "gives", "sums_to", "sign", "failure", "source")]
        assert name in told and all(fact in told for fact in facts if fact), name


def test_a_shell_completes_commands_and_options() -> None:
    def completed(words: str) -> list[str]:
        asked = {"_LLMTRACE_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
        return CliRunner().invoke(app, [], env=asked, prog_name="llmtrace").stdout.split()

    assert completed("llmtrace pat") == ["patch", "paths"] and "--direction" in completed("llmtrace patch --di")


def test_help_names_every_command_on_a_line_of_its_own() -> None:
    lines = run("--help").stdout.splitlines()
    for name in COMMANDS:
        assert [line for line in lines if line.split()[:1] == [name] and not line.endswith("...")], name


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_the_common_options(command: str) -> None:
    text = run(command, "--help").stdout
    for option in ("--json", "--out", "--overwrite", "--device", "--seed", "--dtype"):
        assert option in text, option


# ---- json -----------------------------------------------------------------------------------------------------------

SMALL = ("-n", "4", "--seed", "3")
JSON_CALLS: dict[str, tuple[str, ...]] = {
    "models": ("models",),
    "methods": ("methods",),
    "methods of a table": ("methods", "influence"),
    "models, searched": ("models", "pythia-14m"),
    "trace": ("trace", TINY, "--what", "pattern,resid_post", "--layers", "0,2-3", "--positions", "END,S2,-1", *SMALL),
    "trace of texts": ("trace", TINY, "--prompt", "When Eric and Sam went to the garden", "--prompt", "Sam gave a key"),
    **{method: ("influence", TINY, "--method", method, *SMALL) for method in influence.METHODS},
    "influence, validated": (
        "influence",
        TINY,
        "--method",
        "occlusion",
        "--ablation",
        "attention",
        "--validate",
        *SMALL,
    ),
    "nodes, validated": (
        "influence",
        TINY,
        "--validate",
        "--validate-sample",
        "8",
        "--validate-ablation",
        "mean",
        *SMALL,
    ),
    "influence of a probability": ("influence", TINY, "--method", "logit_lens", "--metric", "probability", *SMALL),
    "influence of one head": ("influence", TINY, "--method", "raw_attention", "--layer", "1", "--head", "2", *SMALL),
    "influence at places": ("influence", TINY, "--method", "attention_flow", "--positions", "END,S2,-1", *SMALL),
    "influence as a graph": ("influence", TINY, "--method", "flow_routes", "--graph", "--threshold", "0.05", *SMALL),
    "influence of norms alone": ("influence", TINY, "--method", "value_weighted_norms", "--no-residual", *SMALL),
    "influence in batches": ("influence", TINY, "--method", "alti", "--memory", "1MB", *SMALL),
    "influence by span": ("influence", TINY, "--method", "alti", "--span", "who=Eric and Sam", "--prompt", STORY),
    "spans, validated": ("influence", TINY, "--method", "occlusion", "--spans", "S1,S2,END", "--validate", *SMALL),
    **{
        f"generation, {method}": ("generation", TINY, "--method", method, "--max-new-tokens", "2", "--prompt", STORY)
        for method in (row.name for row in scoring.of_tokens())
    },
    "generation by span": ("generation", TINY, "--prompt", STORY, "--span", "who=Eric and Sam", "--past-eos"),
    "generation against a word": ("generation", TINY, "--prompt", STORY, "--against", "Sam", "--max-new-tokens", "3"),
    "generation against nothing": (
        "generation",
        TINY,
        "--prompt",
        STORY,
        "--against",
        "none",
        "--method",
        "input_x_gradient",
        "--top",
        "1",
    ),
    "heads of values": ("heads", TINY, "--slots", "v", "--memory", "1MB", "--draws", "3", *SMALL),
    "heads": ("heads", TINY, "--by", "name_mover", "--length", "9", "--draws", "3", *SMALL),
    "heads of a known circuit": ("heads", "induction", "--top", "3"),
    "heads without answers": ("heads", TINY, "--prompt", "When Eric and Sam went to the garden"),
    "neurons": ("neurons", TINY, "--layers", "2-3", "--top", "4", *SMALL),
    "neurons by name": ("neurons", TINY, "--nodes", "m2.n5,m3.n17", "--by", "max", "--prompt", "Sam gave a key"),
    "lens": ("lens", TINY, "--positions", "S2,END", *SMALL),
    "lens of words": ("lens", TINY, "--tokens", "Eric,Sam", "--positions", "all", "--prompt", "Then Eric and Sam went"),
    **{f"ablate {mode}": ("ablate", TINY, "--ablation", mode, "--nodes", "2.2,m3", *SMALL) for mode in SAID},
    "ablate together": ("ablate", TINY, "--nodes", "2.2,m3", "--together", "--metric", "kl", *SMALL),
    "ablate all": ("ablate", TINY, "--task", "greater_than", *SMALL),
    "ablate neurons and edges": ("ablate", TINY, "--nodes", "m2.n5,a2.h2->a3.h2<k>", "--over", "global", *SMALL),
    "ablate at a place": ("ablate", TINY, "--nodes", "2.2", "--positions", "S2", "--reference", "clean", *SMALL),
    "ablate attention": ("ablate", TINY, "--attention", "END<-S1,S2", "--window", "2", *SMALL),
    "patch into noise": ("patch", TINY, "--noise", "S2", "--draws", "2", "--positions", "S2,END", *SMALL),
    "patch": ("patch", TINY, *SMALL),
    "patch heads": ("patch", TINY, "--what", "z,k", "--by", "head and position", "--positions", "S2,END", *SMALL),
    "patch places": ("patch", TINY, "--nodes", "3.2@END;a3.h2<k>@S2,m2@S2", "--direction", "noising", *SMALL),
    "paths": ("paths", TINY, "--task", "induction", *SMALL),
    "paths to keys": ("paths", TINY, "--receivers", "a3.h2<k>,a3.h7<q>", "--positions", "S2", *SMALL),
    "paths of edges": ("paths", TINY, "--receivers", "a3.h2<k>,logits", "--convention", "edges", *SMALL),
    "paths by name": ("paths", TINY, "--path", "m0 -> a2.h2<v> -> a3.h2<k> -> logits", *SMALL),
    "paths frozen": (
        "paths",
        TINY,
        "--convention",
        "all_frozen",
        "--senders",
        "3.2,m3,input",
        "--corruption",
        "s2_io_flip",
        *SMALL,
    ),
    "discover": ("discover", TINY, "--selection", "top", "--n-edges", "30", *SMALL),
    "discover exactly": ("discover", "and-gate", "--method", "exact", "--n-edges", "5", "--ablation", "zero"),
    "discover by steps": ("discover", TINY, "--method", "eap_ig", "--steps", "2", "--threshold", "0.5", *SMALL),
    "discover backwards": (
        "discover",
        TINY,
        "--method",
        "eap",
        "--direction",
        "denoising",
        "--rule",
        "relp",
        "--selection",
        "pnr",
        "--pnr",
        "0.8",
        *SMALL,
    ),
    "discover by trying": ("discover", TINY, "--method", "acdc", "--tau", "0.5", "--memory", "1GB", *SMALL),
    "discover at positions": ("discover", TINY, "--spans", "S1,S2,END", "--neurons", "m0.n3,m2.n7", *SMALL),
    "discover what is loud": ("discover", TINY, "--method", "ifr", "--edges", "9", *SMALL),
}


@pytest.mark.parametrize("arguments", JSON_CALLS.values(), ids=JSON_CALLS)
def test_json_is_one_object_of_the_published_schema(arguments: tuple[str, ...]) -> None:
    result = run(*arguments, "--json")
    found = document(result)
    checked = document_of(arguments[0]).model_validate(found)
    assert checked.rows and (checked.kind, checked.schema_version) == (f"llmtrace.cli.{arguments[0]}", 1)
    assert checked.model_dump(mode="json") == found, "a row came out as another type than it went in"
    if arguments[0] not in ("models", "methods"):
        assert found["provenance"]["model"] == arguments[1] and len(found["provenance"]["weights"]) == 64
        assert found["prompts"]["n"] > 0
    assert "{" not in result.stderr


def test_every_command_has_a_schema() -> None:
    assert tuple(sorted(ROWS)) == tuple(sorted(COMMANDS))
    for command in COMMANDS:
        assert {"kind", "schema_version", "rows", "provenance", "seed"} <= set(json_schema(command)["properties"])


def test_the_numbers_are_those_of_the_package() -> None:
    model = models.load(TINY)
    asked = lt.prompts.ioi(model, 4, seed=3)
    effects = lt.ablate(model, asked, [lt.Head(2, 2), lt.Mlp(3)], ablation="resample")
    rows = document(run("ablate", TINY, "--ablation", "resample", "--nodes", "a2.h2,m3", *SMALL, "--json"))["rows"]
    by_node = {row["nodes"][0]: row for row in rows}
    assert by_node["a2.h2"]["change"] == pytest.approx(effects.mean()[0].item(), abs=1e-6)
    assert by_node["m3"]["share"] == pytest.approx(effects.normalised()[1].item(), abs=1e-6)
    scores = lt.influence.direct_logit_attribution(model, asked)
    rows = document(run("influence", TINY, *SMALL, "--json"))["rows"]
    assert [row["mean"] for row in rows] == pytest.approx(scores.mean().tolist(), abs=1e-6)
    found = lt.validate(model, asked, lt.influence.rollout(model, asked), seed=3)
    told = document(run("influence", TINY, "--method", "rollout", "--validate", *SMALL, "--json"))["summary"]
    assert [row["method"] for row in told["validation"]] == list(found.methods)
    assert told["validation"][0]["rank_correlation"] == pytest.approx(found.rank_correlation, abs=1e-6)
    found = lt.validate(
        model, asked, lt.influence.rollout(model, asked), ablation="zero", keep=[0, "S2"], k=2, steps=4, draws=1, seed=3
    )
    told = document(run("influence", TINY, "--method", "rollout", "--validate", "--validate-ablation", "zero",
                        "--validate-k", "2", "--validate-keep", "0,S2", "--validate-steps", "4",
                        "--validate-draws", "1", *SMALL, "--json"))  # fmt: skip
    assert told["options"]["validate_keep"] == [0, "S2"]
    for name in ("rank_correlation", "top_share", "deletion", "insertion"):
        for row in told["summary"]["validation"]:
            assert row[name] == pytest.approx(found.estimate(name, row["method"])[0], abs=1e-6), (name, row["method"])
    circuit = lt.discover(model, asked, n_edges=30)
    rows = document(run("discover", TINY, "--n-edges", "30", *SMALL, "--json"))["rows"]
    assert {row["edge"] for row in rows} == {str(edge) for edge in circuit.edges}
    circuit = lt.discover(model, asked, method="acdc", tau=0.5)
    rows = document(run("discover", TINY, "--method", "acdc", "--tau", "0.5", *SMALL, "--json"))["rows"]
    assert {row["edge"] for row in rows} == {str(edge) for edge in circuit.edges}


def test_scores_by_target_and_span_are_those_of_the_package() -> None:
    model = models.load(TINY)
    asked = lt.prompts.ioi(model, 4, seed=3)
    line = ("influence", TINY, "--method", "flow_routes", "--positions", "S2,END", "--threshold", "0.1", *SMALL)
    found = influence.flow_routes(model, asked, positions=["S2", "END"], threshold=0.1)
    assert values(document(run(*line, "--json"))) == pytest.approx(found.df()["value"].tolist(), abs=1e-6)
    spans = lt.Spans.between(asked, ["S1", "S2", "END"])
    by_span = influence.token_attribution(model, asked).by_span(spans)
    line = ("influence", TINY, "--method", "token_attribution", "--spans", "S1,S2,END", "--validate", *SMALL)
    told = document(run(*line, "--json"))
    assert values(told) == pytest.approx(by_span.df()["value"].tolist(), abs=1e-6)
    assert [row["span"] for row in told["rows"][:4]] == ["start", "S1", "S2", "END"]
    check = lt.validate(model, asked, by_span, spans=spans, seed=3)
    assert told["summary"]["validation"][0]["rank_correlation"] == pytest.approx(check.rank_correlation, abs=1e-6)
    rows = document(
        run("influence", TINY, "--method", "alti", "--span", "who=Eric and Sam", "--prompt", STORY, "--json")
    )
    sizes = {row["span"]: row["tokens"] for row in rows["rows"]}
    assert sizes == {"rest": 12, "who": 3}


def test_flags_of_methods_change_what_is_scored() -> None:
    model = models.load(TINY)
    asked = lt.prompts.ioi(model, 4, seed=3)
    line = ("influence", TINY, "--method", "value_weighted_norms", "--no-residual", *SMALL, "--json")
    found = influence.value_weighted_norms(model, asked, residual=False).df()["value"].tolist()
    assert values(document(run(*line))) == pytest.approx(found, abs=1e-5)
    told = document(run("heads", TINY, "--slots", "v,q", "--draws", "2", *SMALL, "--json"))["summary"]["composition"]
    assert list(told) == ["v", "q"]


def test_the_end_of_text_ends_it_or_not(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = models.load(TINY, device="auto", dtype="float32").tokenizer
    monkeypatch.setattr(type(tokenizer), "eos_token_id", tokenizer.convert_tokens_to_ids("."), raising=False)
    line = ("generation", TINY, "--prompt", STORY, "--max-new-tokens", "4", "--json")
    stopped, on = (document(run(*line, *more))["rows"] for more in ((), ("--past-eos",)))
    assert [row["token"] for row in stopped] == ["Eric", "."] and len(on) == 4


def values(found: dict[str, Any]) -> list[float]:
    return [row["value"] for row in found["rows"]]


def test_every_target_that_was_asked_for_is_a_column() -> None:
    lines = run("influence", TINY, "--method", "attention_flow", "--positions", "S2,END", *SMALL).stdout.splitlines()
    heading = next(line for line in lines if line.startswith("position"))
    assert heading.count("(") == 2
    one = run("influence", TINY, "--method", "attention_flow", "--positions", "S2", *SMALL).stdout
    assert "what token '" in one and "' (10) takes from" in one
    assert "its last token" not in one


@pytest.mark.parametrize(
    "line",
    [
        ("--method", "value_weighted_norms", "--no-residual", "--layer", "1", "--spans", "S1,END"),
        ("--method", "flow_routes", "--graph", "--positions", "END", "--threshold", "0.05"),
        ("--method", "attention_flow", "--positions", "S2,1"),
        ("--method", "alti", "--prompt", STORY, "--span", "who=Eric and Sam"),
    ],
)
def test_what_to_try_after_a_score_of_tokens_works(
    line: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for command in next_commands(run("influence", TINY, *line).stdout):
        tried = run(*command[1:])
        assert tried.exit_code == 0, (command, tried.stderr)


def test_a_graph_is_told_written_and_read_back(tmp_path: Path) -> None:
    """Of the first prompt, with the options of the scores beside it."""
    out = tmp_path / "out"
    line = ("influence", TINY, "--method", "flow_routes", "--graph", "--threshold", "0.05", "--positions", "S2", *SMALL)
    printed = document(run(*line, "--out", out, "--json"))
    assert printed["files"] == [flow.FILE, "report.html", RESULT]
    model = models.load(TINY)
    graph = influence.flow_graph(model, lt.prompts.ioi(model, 4, seed=3)[:1], threshold=0.05, position="S2")
    saved = lt.influence.FlowGraph.load(out / flow.FILE)
    assert saved.labels == graph.labels and saved.flow.allclose(graph.flow.double())
    told = printed["summary"]["graph"]
    assert (told["edges"], told["position"]) == (len(graph.flow), graph.at)
    assert [edge["flow"] for edge in told["largest"]] == pytest.approx(graph.df()["flow"].head(10).tolist(), abs=1e-6)
    first = [row["value"] for row in printed["rows"] if row["prompt"] == 0]
    assert first == pytest.approx(saved.tokens()[: len(first)].tolist(), abs=1e-6)
    assert "Information flow to the prediction" in (out / "report.html").read_text()
    said = run(*line).stdout
    assert "The graph behind it" in said and "m0" in said
    assert "--graph --out my-flow" in said


def test_a_generation_is_that_of_the_package(tmp_path: Path) -> None:
    model, out = models.load(TINY), tmp_path / "out"
    spans = lt.Spans.of_text(model, lt.from_texts(model, [STORY]), {"who": "Eric and Sam"})
    found = influence.attribute_generation(
        model, STORY, max_new_tokens=4, method="occlusion", ablation="zero", against="Sam", spans=spans
    )
    line = ("generation", TINY, "--prompt", STORY, "--max-new-tokens", "4", "--method", "occlusion", "--ablation",
            "zero", "--against", "Sam", "--span", "who=Eric and Sam")  # fmt: skip
    told = document(run(*line, "--out", out, "--json"))
    rows = told["rows"]
    assert [row["token"] for row in rows] == list(found.chosen) and told["summary"]["text"] == found.text
    assert [row["against"] for row in rows] == list(found.against)
    assert [s["value"] for row in rows for s in row["sources"]] == pytest.approx(found.df()["value"].tolist(), abs=1e-5)
    assert [s["span"] for row in rows for s in row["sources"]] == found.df()["span"].tolist()
    by_span = found.by_span()
    assert [row["spans"]["who"] for row in rows] == pytest.approx(by_span.of("who")[0].tolist(), abs=1e-5)
    assert (out / "report.html").read_text().count('class="figure"') == 2
    said = run(*line).stdout
    assert "who (3)" in said and "generated (3)" in said and repr(found.chosen[0]) in said
    check = lt.validate(model, found.prompts, found, ablation="zero")
    told = document(run(*line, "--validate", "--out", out, "--overwrite", "--json"))["summary"]["validation"]
    assert [row["method"] for row in told] == list(check.methods) and told[0]["role"] == "oracle"
    assert told[1]["rank_correlation"] == pytest.approx(check.estimate("rank_correlation", check.methods[1])[0])
    assert (out / "report.html").read_text().count('class="figure"') == 3
    assert "mean over generated tokens" in run(*line, "--validate").stdout


def test_messages_are_a_conversation_and_its_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    model = models.load(TINY, device="auto", dtype="float32")
    template = "{% for message in messages %}When {{ message['content'] }} and {% endfor %}"
    monkeypatch.setattr(model.tokenizer, "chat_template", template, raising=False)
    line = ("generation", TINY, "--message", "user=Eric went", "--message", "assistant=Sam gave", "--message",
            "user=the key", "--span", "verb=gave", "--max-new-tokens", "2")  # fmt: skip
    told = document(run(*line, "--json"))
    assert told["prompts"]["name"] == "chat"
    spans = ["template", "user 1", "assistant", "user 2", "verb", "generated"]
    assert list(told["summary"]["spans"]) == list(told["rows"][0]["spans"]) == spans
    again = next_commands(run(*line).stdout)[0]
    assert again.count("--message") == 3 and "user=the key" in again
    assert run(*again[1:]).exit_code == 0


@pytest.fixture
def template(tmp_path: Path) -> Path:
    file = tmp_path / "my template.jinja"
    file.write_text("{% for m in messages %}{{ m['content'] }} and {% endfor %}", encoding="utf-8")
    return file


SAID = ("--message", "user=Eric went", "--message", "assistant=Sam gave", "--message", "user=the key")
ANSWERS = ("--correct", "Eric", "--wrong", "Sam")


def test_influence_takes_a_conversation_in_a_template_of_ones_own(template: Path) -> None:
    model = models.load(TINY, device="auto", dtype="float32")
    said = [("user", "Eric went"), ("assistant", "Sam gave"), ("user", "the key")]
    talk = lt.from_messages(
        model, said, template=template.read_text(), named={"verb": "gave"}, correct="Eric", wrong="Sam"
    )  # fmt: skip
    scores = lt.influence.decompx(model, talk.prompts)
    line = ("influence", TINY, "--method", "decompx", *SAID, *ANSWERS, "--template", template, "--json")
    told = document(run(*line, "--span", "verb=gave"))
    assert (told["prompts"]["name"], told["options"]["template"]) == ("chat", str(template))
    assert list(dict.fromkeys(row["span"] for row in told["rows"])) == list(talk.spans.names)
    assert values(told) == pytest.approx(scores.by_span(talk.spans).df()["value"].tolist(), abs=1e-6)
    assert values(document(run(*line))) == pytest.approx(scores.df()["value"].tolist(), abs=1e-6)
    by_message = document(run(*line, "--spans", "messages"))["rows"]
    assert {row["span"] for row in by_message} == {"template", "user 1", "assistant", "user 2"}


def test_what_to_try_after_a_conversation_works(template: Path) -> None:
    same = (TINY, *SAID, "--template", template)
    answered = ("influence", *same, *ANSWERS)
    for line in (
        answered, (*answered, "--validate"), (*answered, "--method", "decompx", "--validate"),
        ("influence", *same, "--method", "alti", "--spans", "messages"), ("generation", *same, "--max-new-tokens", "1"),
    ):  # fmt: skip
        commands = next_commands(run(*line).stdout)
        assert commands
        for command in commands:
            assert run(*command[1:]).exit_code == 0, command


def test_a_template_that_says_nothing_is_refused(template: Path) -> None:
    """It would have meant the model's own."""
    for content, code in ((b"\n", 2), (b"\xff\xfe\x00", 1)):
        template.write_bytes(content)
        result = run("influence", TINY, *SAID, "--template", template)
        assert result.exit_code == code and "(Jinja) in 'my template.jinja'" in result.stderr


def test_the_seed_decides() -> None:
    first, again, other = (
        document(run("paths", TINY, "-n", "4", "--seed", seed, "--json"))["rows"] for seed in ("5", "5", "6")
    )
    assert first == again != other


def test_own_prompts(tmp_path: Path) -> None:
    pair = {"clean": "When Eric and Sam went to the garden, Sam offered a key to", "correct": "Eric", "wrong": "Sam",
            "corrupted": "When Eric and Sam went to the garden, Emma offered a key to"}  # fmt: skip
    file = tmp_path / "mine.jsonl"
    file.write_text(json.dumps(pair) + "\n", encoding="utf-8")
    found = document(run("paths", TINY, "--prompts", file, "--json"))
    assert (found["prompts"]["name"], found["prompts"]["n"]) == ("mine", 1)


def test_evaluate_reads_a_folder_or_a_file(circuit_folder: Path) -> None:
    by_folder = document(run("evaluate", TINY, circuit_folder, "--draws", "3", "--json", "-n", "8", "--seed", "1"))
    by_file = document(run("evaluate", TINY, circuit_folder / "circuit.json", "--draws", "0", "--json", "-n", "8",
                           "--seed", "1"))  # fmt: skip
    document_of("evaluate").model_validate(by_folder)
    assert len(by_folder["rows"]) == 8
    for one, other in zip(by_folder["rows"], by_file["rows"], strict=True):
        assert one == pytest.approx(other, abs=1e-4)  # random circuits ride in the same batches
    summary = by_folder["summary"]
    assert summary["low"] <= summary["faithfulness"] <= summary["high"]
    assert len(summary["random"]) == 3 and by_file["summary"]["random"] == []


def test_commands_that_load_no_model_keep_to_their_schemas(circuit_folder: Path, tmp_path: Path) -> None:
    compared = document(run("compare", circuit_folder, circuit_folder, "--json"))
    assert {row.jaccard for row in document_of("compare").model_validate(compared).rows} == {1}
    out = tmp_path / "out"
    converted = document_of("convert").model_validate(
        document(run("convert", circuit_folder, "--to", "dot", "--out", out, "--json"))
    )
    assert [(row.file, row.bytes) for row in converted.rows] == [(f.name, f.stat().st_size) for f in out.glob("*.dot")]


# ---- for people -----------------------------------------------------------------------------------------------------


def test_a_table_is_plain_text_in_a_pipe(circuit_folder: Path) -> None:
    calls = [*JSON_CALLS.values(), ("evaluate", TINY, str(circuit_folder), *SMALL)]
    for arguments in calls:
        result = run(*arguments)
        assert result.exit_code == 0, result.stderr
        assert "\x1b" not in result.stdout and result.stderr == ""
        assert len(result.stdout.splitlines()) < 60
        assert [line for line in result.stdout.splitlines() if line != line.rstrip()] == []
        assert "Try next" in result.stdout


def next_commands(stdout: str) -> list[list[str]]:
    lines = stdout.split("Try next\n")[1].splitlines()[::2]
    return [shlex.split(line) for line in lines]


def test_what_to_try_next_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A walk along the first suggestions, from a score to an evaluated circuit, option for option."""
    monkeypatch.chdir(tmp_path)
    seen = []
    line = ["llmtrace", "influence", TINY, "-n", "4", "--seed", "2", "--dtype", "float64"]
    for command in ("influence", "ablate", "paths", "discover", "evaluate", "discover"):
        assert line[:2] == ["llmtrace", command]
        result = run(*line[1:])
        assert result.exit_code == 0, (line, result.stderr)
        seen.append(line)
        following = next_commands(result.stdout)
        line = following[1 if command in ("paths", "evaluate") else 0]
    for line in seen[1:]:
        assert line[line.index("-n") + 1] == "4" and line[line.index("--dtype") + 1] == "float64"


def test_a_dry_run_of_a_discovery_runs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "llmtrace.circuits.discovery.scoring.edge_scoring.final_residual", lambda *_: pytest.fail("the model was run")
    )
    said = run("discover", TINY, "--method", "eap_ig", "--steps", "3", "--dry-run", *SMALL).stdout
    assert "eap_ig over 1,519 edges: 5 forward and 3 backward passes" in said and "Nothing was run" in said
    planned = document(run("discover", TINY, "--dry-run", "--json", *SMALL))
    assert planned["summary"]["forward"] == 7 and planned["summary"]["backward"] == 5 and planned["rows"] == []


def test_a_discovery_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    """The file is taken up, or refused where it belongs to another run, and is gone at the end."""
    file = tmp_path / "partial"
    asked = ("discover", TINY, "--method", "acdc", "--tau", "1", "--resume", str(file), "-n", "2")
    assert run(*asked).exit_code == 0 and not file.exists()
    file.write_bytes(b"no tensors")
    refused = run(*asked)
    assert refused.exit_code == 1 and "'partial' holds no partial results" in refused.stderr
    assert run("discover", TINY, "--resume", str(file)).exit_code == 2  # one pass has nothing to go on from


@pytest.mark.parametrize("command", ["patch", "ablate", "paths"])
def test_a_dry_run_says_what_it_would_take_and_runs_nothing(
    command: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(
        "llmtrace.interventions.engine.intervention.keep_base", lambda *_, **__: pytest.fail("the model was run")
    )
    said = run(command, TINY, "--dry-run", *SMALL).stdout
    assert "interventions" in said and "forward passes" in said and "Nothing was run" in said and "Try next" not in said
    found = document(run(command, TINY, "--dry-run", "--json", *SMALL))
    assert found["rows"] == [] and found["summary"]["dry_run"] is True and found["summary"]["passes"] > 2
    assert set(found["summary"]) == {"dry_run", "interventions", "without_effect", "passes", "bytes", "prompts_at_once"}


def test_a_stopped_sweep_says_where_its_results_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """And the same command goes on from there."""
    from llmtrace.interventions.engine.sweep import Sweep

    partial, plain, ran = tmp_path / "partial", Sweep.values, []

    def interrupted(self: Any, chunk: Any, *rest: Any) -> Any:
        ran.append(chunk)
        if len(ran) == 2:
            raise KeyboardInterrupt
        return plain(self, chunk, *rest)

    monkeypatch.setattr(Sweep, "values", interrupted)
    line = ("patch", TINY, "--what", "z", "--resume", partial, *SMALL)
    stopped = run(*line)
    assert stopped.exit_code == 130 and "the same command goes on from there" in stopped.stderr and partial.is_file()
    done = document(run(*line, "--json"))
    assert len(done["rows"]) == 32 and not partial.exists()
    ran.clear()
    without = run("patch", TINY, "--what", "z", *SMALL)
    assert without.exit_code == 130 and "nothing was written" in without.stderr


class _Killed(BaseException):
    """What ends a program without a word."""


@pytest.mark.parametrize(
    "line", [("patch", TINY, "--what", "z"), ("discover", TINY, "--method", "acdc", "--tau", "0.5")]
)
def test_what_is_killed_between_computed_and_written_is_not_computed_again(
    line: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from llmtrace.circuits.discovery.acdc import _Walk
    from llmtrace.interventions.engine.sweep import Sweep

    def killed(*_: Any, **__: Any) -> None:
        raise _Killed

    def again(*_: Any, **__: Any) -> None:
        raise AssertionError("computed again")

    partial, out = tmp_path / "partial", tmp_path / "out"
    line = (*line, "--resume", str(partial), "--out", str(out), *SMALL)
    whole = document(run(*line, "--json"))
    shutil.rmtree(out)
    with monkeypatch.context() as during:
        during.setattr("llmtrace.plots.save_report", killed)
        with pytest.raises(_Killed):
            app(list(map(str, line)), standalone_mode=False)
    assert partial.is_file() and not out.exists()
    monkeypatch.setattr(Sweep, "values", again)
    monkeypatch.setattr(_Walk, "settle", again)
    assert document(run(*line, "--json"))["rows"] == whole["rows"] and not partial.exists()


def test_what_was_asked_is_asked_again() -> None:
    asked = Asked("ioi", 4, {"corruption": "names"}, seed=2)
    assert asked.flags() == " --task ioi -n 4 --corruption names --seed 2"
    assert asked.flags(seed=3).endswith("--seed 3") and Asked().flags() == ""
    assert shlex.split(Asked(file=Path("my file.jsonl")).flags()) == ["--prompts", "my file.jsonl"]


def test_lists_of_numbers_places_and_nodes() -> None:
    assert options.numbers("--layers", "0,2-4") == [0, 2, 3, 4] and options.numbers("--layers", None) is None
    assert options.places("--positions", "END, S2,-1") == ["END", "S2", -1]
    assert options.nodes("--nodes", "9.6,m3") == [lt.Head(9, 6), lt.Mlp(3)]
    assert options.attention("--attention", "END<-S1, -3") == (["END"], ["S1", -3])
    assert options.interventions("--nodes", "2.2@END, m3;a3.h2<k>") == [["2.2@END", "m3"], ["a3.h2<k>"]]
    for read in (options.numbers, options.places, options.nodes, options.words, options.interventions):
        with pytest.raises(InputError, match=r"--list"):
            read("--list", " , ")


# ---- errors ---------------------------------------------------------------------------------------------------------

LONG = " ".join(["the"] * 80)
ERRORS: dict[str, tuple[tuple[str, ...], int, str]] = {
    "node": (("ablate", TINY, "--nodes", "foo"), 2, "Expected a node such as"),
    "score of heads": (("heads", TINY, "--by", "inductoin"), 2, "'induction'"),
    "too long to say twice": (("heads", TINY, "--length", "60"), 2, "length from 2 to 31"),
    "statistic": (("neurons", TINY, "--by", "sum"), 2, "kurtosis"),
    "no neuron": (("neurons", TINY, "--nodes", "2.2"), 2, "Neuron"),
    "no neurons": (("neurons", "induction"), 1, "attention-only"),
    "unknown answer": (("lens", TINY, "--tokens", "Xyzzy"), 2, "'Xyzzy'"),
    "head that is not there": (("paths", TINY, "--senders", "9.9"), 2, "layers 0-3"),
    "ablation of nodes": (("ablate", TINY, "--ablation", "half"), 2, "zero, mean, resample"),
    "convention": (("paths", TINY, "--convention", "gone"), 2, "heads_frozen, all_frozen, edges"),
    "convention of a path": (("paths", TINY, "--path", "2.2->logits", "--convention", "edges"), 2, "all_frozen, got"),
    "two kinds of paths": (("paths", TINY, "--path", "2.2->logits", "--senders", "2.2"), 2, "a path names its own"),
    "a path backwards": (("paths", TINY, "--path", "a2.h2 -> a1.h1<q>"), 2, "leads forwards"),
    "port": (("paths", TINY, "--receivers", "a9.h9<q>"), 2, "layers 0-3"),
    "kind to patch": (("patch", TINY, "--what", "resid"), 2, "'resid'"),
    "two kinds of patches": (("patch", TINY, "--nodes", "2.2", "--what", "z"), 2, "got both; leave one out."),
    "direction": (("patch", TINY, "--direction", "up"), 2, "denoising, noising"),
    "split": (("patch", TINY, "--by", "prompt"), 2, "query and key"),
    "a place's position": (("patch", TINY, "--nodes", "2.2@S9"), 3, "'S9'"),
    "attention without an arrow": (("ablate", TINY, "--attention", "END"), 2, "queries <- keys"),
    "attention and nodes": (("ablate", TINY, "--attention", "END<-S2", "--nodes", "2.2"), 2, "leave one out."),
    "noise and a direction": (("patch", TINY, "--noise", "S2", "--direction", "noising"), 2, "--what and --positions"),
    "memory": (("ablate", TINY, "--memory", "much"), 2, "'512MB'"),
    "too little memory": (("ablate", TINY, "--memory", "9kB"), 4, "allow more"),
    "ablation": (("evaluate", TINY, "c.json", "--ablation", "half"), 2, "zero, mean, resample"),
    "side": (("trace", TINY, "--side", "left"), 2, "clean, corrupted"),
    "device": (("paths", TINY, "--device", "toaster"), 2, "'toaster'"),
    "dtype": (("paths", TINY, "--dtype", "int8"), 2, "float64"),
    "unknown word": (("trace", TINY, "--prompt", "Xyzzy went"), 2, "'Xyzzy'"),
    "layers": (("trace", TINY, "--layers", "all"), 2, "--layers"),
    "a method's option": (("influence", TINY, "--method", "rollout", "--layer", "1"), 2, "rollout takes"),
    "no check": (("influence", TINY, "--method", "logit_lens", "--validate", "-n", "2"), 2, "leave --validate out"),
    "positions of a metric": (("influence", TINY, "--method", "occlusion", "--positions", "S2"), 2, "got --positions"),
    "threshold of another": (("influence", TINY, "--method", "alti", "--threshold", "0.1"), 2, "alti takes --memory"),
    "threshold of all": (("influence", TINY, "--method", "flow_routes", "--threshold", "1", "-n", "2"), 2, "below 1"),
    "spans of nodes": (("influence", TINY, "--span", "who=Eric"), 2, "a method that scores tokens"),
    "span without a name": (("influence", TINY, "--method", "alti", "--span", "Eric"), 2, "a name and a text"),
    "span named twice": (("generation", TINY, "--prompt", "Sam", "--span", "a=b", "--span", "a=c"), 2, "'a' twice"),
    "span that is not there": (("generation", TINY, "--span", "a=Zoe", "--prompt", STORY), 2, "(0 times)"),
    "two kinds of spans": (("influence", TINY, "--method", "alti", "--span", "a=Eric", "--spans", "S2"), 2, "got both"),
    "graph of another": (("influence", TINY, "--graph"), 2, "add --method flow_routes."),
    "graph of two": (("influence", TINY, "--method", "flow_routes", "--graph", "--positions", "S2,END"), 2, "got 2;"),
    "nothing to go on from": (("generation", TINY), 2, "got neither"),
    "a prompt and messages": (("generation", TINY, "--prompt", "Sam", "--message", "user=Sam"), 2, "got both"),
    "two prompts to go on from": (("generation", TINY, "--prompt", "Sam", "--prompt", "Eric"), 2, "from, got 2"),
    "a task and messages": (("influence", TINY, "--task", "ioi", "--message", "user=Sam"), 2, "--message and --task"),
    "prompts of a conversation": (("influence", TINY, "-n", "2", "--message", "user=Sam"), 2, "--task only"),
    "spans of no messages": (("influence", TINY, "--method", "alti", "--spans", "messages"), 2, "with --message, got"),
    "answer of no message": (("influence", TINY, "--correct", "Sam"), 2, "add --message or leave it out."),
    "template of no message": (("generation", TINY, "--prompt", "Sam", "--template", "t.jinja"), 2, "add --message"),
    "template that is not there": (("generation", TINY, "--message", "user=a", "--template", "no.j2"), 3, "no.j2"),
    "check of nothing": (("influence", TINY, "--validate-k", "2"), 2, "add --validate or leave it out."),
    "check of no generation": (("generation", TINY, "--prompt", "Sam", "--validate-keep", "0"), 2, "add --validate"),
    "check by halves": (
        ("influence", TINY, "--validate", "--validate-ablation", "edge"), 2, "zero, mean, resample, got",
    ),
    "check without a token": (("influence", TINY, "--validate", "--validate-keep", "0"), 2, "scores tokens"),
    "check of a sample": (("influence", TINY, "--method", "alti", "--validate", "--validate-sample", "9"), 2, "nodes"),
    "check without a place": (("influence", TINY, "--method", "alti", "-n", "2", "--validate", "--validate-keep", "S9"),
                              3, "'S9'"),
    "message without a role": (("generation", TINY, "--message", "Hello"), 2, "a name and a text"),
    "generation of nodes": (("generation", TINY, "--prompt", STORY, "--method", "logit_lens"), 2, "occlusion"),
    "against of shares": (("generation", TINY, "--prompt", STORY, "--method", "alti", "--against", "Sam"), 2, "it out"),
    "against nothing": (("generation", TINY, "--prompt", STORY, "--against", "none"), 2, "logits, got none"),
    "against no word": (("generation", TINY, "--prompt", STORY, "--against", "Xyzzy"), 2, "'Xyzzy'"),
    "too much to generate": (("generation", TINY, "--prompt", STORY, "--max-new-tokens", "99"), 4, "64 tokens"),
    "slot": (("heads", TINY, "--slots", "q,o"), 2, "q, k, v"),
    "distance where there is none": (("heads", TINY, "--distance", "3"), 2, "distance"),
    "two kinds of prompts": (("trace", TINY, "--prompt", "the", "--task", "ioi"), 2, "--prompt and --task"),
    "corruption of another task": (("paths", TINY, "--task", "induction", "--corruption", "abc"), 2, "--task ioi"),
    "no prompts": (("paths", TINY, "-n", "0"), 2, "0"),
    "size of a circuit": (("discover", TINY, "--n-edges", "999999"), 2, "1,519"),
    "model": (("paths", "gpt3-tiny"), 3, "'gpt3-tiny'"),
    "model folder": (("paths", "./no-such-folder"), 3, "no-such-folder"),
    "table of methods": (("methods", "influences"), 2, "'influence'"),
    "search": (("models", "no-such-name"), 3, "'no-such-name'"),
    "method": (("influence", TINY, "--method", "dla"), 3, "'dla'"),
    "metric": (("paths", TINY, "--metric", "loss"), 3, "'loss'"),
    **{f"metric of {method}": (("influence", TINY, "--method", method, "--metric", "kl", "-n", "2"), 2, "linear in the")
       for method, row in influence.METHODS.items() if "linear" in row.needs},
    "metric without a gradient": (("discover", TINY, "--method", "eap", "--metric", "kl", "-n", "2"), 2, "is zero"),
    "metric to check": (("influence", TINY, "--method", "occlusion", "--metric", "kl", "--validate", "-n", "2"), 2,
                        "got the distance kl"),
    "metric without answers": (("influence", TINY, "--prompt", STORY, "--metric", "probability"), 2, "correct answers"),
    "task": (("paths", TINY, "--task", "iio"), 3, "'ioi'"),
    "corruption": (("paths", TINY, "--corruption", "abcd"), 3, "'abc'"),
    "selection": (("discover", TINY, "--selection", "best"), 3, "'best'"),
    "option of another discovery": (("discover", TINY, "--method", "acdc", "--tau", "1", "--steps", "5"), 2,
                                    "got --steps; leave it out."),
    "a size and a threshold": (("discover", TINY, "--edges", "9", "--threshold", "1"), 2, "got both; leave one out."),
    "a threshold of nothing": (("discover", TINY, "--method", "acdc", "--tau", "0"), 2, "threshold above 0"),
    "no threshold": (("discover", TINY, "--method", "acdc"), 2, "Expected tau for the method acdc"),
    "selection of another size": (("discover", TINY, "--threshold", "1", "--selection", "top"), 2, "give n_edges"),
    "share of another selection": (("discover", TINY, "--pnr", "0.5"), 2, "options of greedy (it has none)"),
    "edges put out by half": (("discover", TINY, "--method", "exact", "--ablation", "half"), 2, "zero, mean, resample"),
    "rule": (("discover", TINY, "--rule", "gym"), 2, "standard, relp, gim"),
    "kind of activation": (("trace", TINY, "--what", "zz"), 3, "'zz'"),
    "named position": (("trace", TINY, "--positions", "S9"), 3, "'S9'"),
    "prompt file": (("paths", TINY, "--prompts", "no-such.jsonl"), 3, "no-such.jsonl"),
    "circuit file": (("evaluate", TINY, "no-such.json"), 3, "no-such.json"),
    "context length": (("trace", TINY, "--prompt", LONG), 4, "64"),
    "weights": (("paths", "gpt2"), 5, "gpt2"),
}  # fmt: skip


@pytest.mark.parametrize(("arguments", "code", "piece"), ERRORS.values(), ids=ERRORS)
def test_an_error_is_one_sentence_and_a_code(arguments: tuple[str, ...], code: int, piece: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = run(*arguments, "--json", "--out", out)
    assert (result.exit_code, result.stdout) == (code, ""), result.stderr
    said = result.stderr.strip()
    assert said.startswith("llmtrace: ") and "\n" not in said and piece in said, said
    assert list(tmp_path.iterdir()) == []


def test_a_circuit_of_another_model_is_refused(circuit_folder: Path) -> None:
    result = run("evaluate", "or-gate", circuit_folder)
    assert (result.exit_code, result.stdout) == (1, "") and "belongs to" in result.stderr


@pytest.mark.parametrize(
    "arguments", [("ablate",), ("ablate", TINY, "--top", "0"), ("ablate", TINY, "--nope"), ("nope",)]
)
def test_usage_is_code_2(arguments: tuple[str, ...]) -> None:
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (2, "") and "Usage" in result.stderr


def _interrupt(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


def _cancel(*_: Any, **__: Any) -> None:
    raise Cancelled("Stopped from outside.")


def _out_of_memory(*_: Any, **__: Any) -> None:
    raise MemoryError


def _disk_full(*_: Any, **__: Any) -> None:
    raise OSError(28, "No space left on device", "report.html")


@pytest.mark.parametrize(
    ("failure", "code", "piece"),
    [
        (_interrupt, 130, "Interrupted"),
        (_cancel, 130, "Stopped"),
        (_out_of_memory, 4, "-n"),
        (_disk_full, 1, "No space"),
    ],
)
@pytest.mark.parametrize("where", ["llmtrace.interventions.path_patch.declare", "llmtrace.plots.save_report"])
def test_whatever_stops_it_nothing_half_written_is_left(
    failure: Callable[..., None], code: int, piece: str, where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(where, failure)
    result = run("paths", TINY, "-n", "4", "--json", "--out", tmp_path / "out")
    assert (result.exit_code, result.stdout) == (code, "") and piece in result.stderr
    assert list(tmp_path.iterdir()) == []


# ---- folders --------------------------------------------------------------------------------------------------------


def test_out_is_a_folder_with_the_same_document(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    printed = document(run("trace", TINY, *SMALL, "--out", out, "--json"))
    assert json.loads((out / RESULT).read_text()) == printed
    assert sorted(path.name for path in out.iterdir()) == printed["files"] == ["report.html", "result.json", "trace"]
    trace = lt.load_trace(out / "trace")
    assert [row["activation"] for row in printed["rows"]] == list(trace.activations)
    assert [row["shape"] for row in printed["rows"]] == [list(trace[name].shape) for name in trace.activations]


def test_a_taken_folder_is_refused_before_anything_is_computed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "load", _interrupt)
    for overwrite in ([], ["--overwrite"]):
        result = run("paths", TINY, "--out", tmp_path, *overwrite)
        assert result.exit_code == 2 and "--out" in result.stderr


def test_overwrite_replaces_what_llmtrace_wrote(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run("models", "--out", out).exit_code == 0
    assert run("paths", TINY, "-n", "4", "--out", out, "--overwrite").exit_code == 0
    assert json.loads((out / RESULT).read_text())["command"] == "paths"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


# ---- demo -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def demo(loaded_once: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    folder = tmp_path_factory.mktemp("demo")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return folder, run("demo")


def test_the_demo_says_what_it_does(demo: tuple[Path, Result]) -> None:
    _, result = demo
    assert result.exit_code == 0, result.stderr
    assert [line.split()[0] for line in result.stderr.splitlines()] == [f"[{i}/8]" for i in range(1, 9)]
    for word in (
        "logit_diff in logits",
        "32 prompts",
        "seed 0",
        "Spearman",
        "95 % interval",
        "random circuits",
        "held-out",
    ):
        assert word in result.stdout, word


def test_the_demo_writes_a_folder_that_reads_back(demo: tuple[Path, Result]) -> None:
    out = demo[0] / "llmtrace-demo"
    found = document_of("demo").model_validate_json((out / RESULT).read_text())
    assert (
        found.files == sorted(path.name for path in out.iterdir()) == ["circuit.json", "report.html", RESULT, "trace"]
    )
    circuit = lt.Circuit.load(out / "circuit.json")
    assert circuit.n_edges == found.summary["edges"] < circuit.graph.n_edges / 2
    assert lt.load_trace(out / "trace").layers == (0, 1, 2, 3)
    page = (out / "report.html").read_text()
    assert page.count('class="figure"') == 6 and "default-src 'none'" in page
    assert '<script src="' not in page and "<link" not in page.split("<script>")[0]


def test_the_demo_finds_a_circuit_that_holds(demo: tuple[Path, Result]) -> None:
    found = document_of("demo").model_validate_json((demo[0] / "llmtrace-demo" / RESULT).read_text())
    summary = found.summary
    assert summary["prediction"][0]["probability"] > 0.5 and summary["right"] == 32
    assert 0.8 < summary["low"] <= summary["faithfulness"] <= summary["high"] < 1.2
    assert max(map(abs, summary["random"])) < 0.2
    assert found.rows[0].verdict == "confirmed" and len(found.rows) == 32
    assert {row.verdict.split(":")[0] for row in found.rows} <= {
        "confirmed",
        "not confirmed",
        "opposite sign",
        "missed",
        "-",
    }


def test_what_the_demo_suggests_works(demo: tuple[Path, Result], monkeypatch: pytest.MonkeyPatch) -> None:
    folder, result = demo
    served: list[Any] = []
    monkeypatch.chdir(folder)
    monkeypatch.setattr("llmtrace.console.service.serve.serve", lambda source, **_: served.append(source))
    lines = [line for line in next_commands(result.stdout) if "gpt2" not in line]  # which needs the network
    assert len(lines) >= 5
    for line in lines:
        tried = run(*line[1:])
        assert tried.exit_code == 0, (line, tried.stderr)
    (console,) = served
    first = console.runs()[0]
    assert first.clean.tokens and console.view("circuit", {"run": first.id}).edges


def test_a_second_demo_takes_another_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from llmtrace.cli.commands.demo import FOLDER, _new

    monkeypatch.chdir(tmp_path)
    assert _new(FOLDER) == Path("llmtrace-demo")
    (tmp_path / FOLDER).mkdir()
    (tmp_path / f"{FOLDER}-2").mkdir()
    assert _new(FOLDER) == Path("llmtrace-demo-3")
