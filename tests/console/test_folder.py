"""What was saved, shown without a model: the numbers that were saved, and a reason for everything else."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from console_service import CLEAN, OTHER, PAGE, client, live, model
from safetensors.numpy import load

import llmtrace as lt
from llmtrace.console import page as pages
from llmtrace.console.folder import Folder, holds
from llmtrace.console.rows import VIEWS
from llmtrace.console.schemas import NewRun, Tape
from llmtrace.errors import FileFormatError, InputError, LLMTraceError, NotFoundError

pytestmark = pytest.mark.usefixtures("as_users_run")


@pytest.fixture
def prompts() -> Any:
    return lt.from_pairs(model(), [(CLEAN, OTHER, "Mary", "John")])


@pytest.fixture
def traced(tmp_path: Path, prompts: Any) -> Path:
    lt.capture(model(), prompts).save(tmp_path / "run" / "trace")
    return tmp_path / "run"


@pytest.fixture
def small_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "read_page", lambda: PAGE)


def test_a_traces_attention_is_that_of_the_model(traced: Path) -> None:
    """The same answers as a service with the model gives, byte for byte."""
    folder, source = Folder(traced), live()
    run, (saved,) = source.add(NewRun(prompt=CLEAN, against=OTHER)), folder.runs()
    assert saved.clean.tokens == run.clean.tokens and (saved.value, saved.correct) == (None, None)
    for view, query in (("attention", {}), ("attention/layer", {"layer": "3"})):
        mine, theirs = (load(s.view(view, {"run": r.id, **query})) for s, r in ((folder, saved), (source, run)))
        for name, value in theirs.items():
            assert np.array_equal(mine[name], value)
    at = {"layer": "3", "head": "2"}
    mine, theirs = (
        s.view("attention/row", {"run": r.id, "query": "14", **at}) for s, r in ((folder, saved), (source, run))
    )
    assert np.abs(np.array(mine.attention) - theirs.attention).max() < 1e-6
    mine, theirs = (s.view("head", {"run": r.id, **at}) for s, r in ((folder, saved), (source, run)))
    assert mine.direct is None and "needs the model" in mine.refused
    assert all(abs(mine.behaviour[name] - value) < 1e-6 for name, value in theirs.behaviour.items())
    space: dict[str, Any] = {}
    exec(mine.python, space)
    query, key, value = mine.top_pairs[0]
    assert abs(space["result"][query][key] - value) < 1e-6


def test_a_circuit_beside_a_trace_is_shown_with_each_of_its_prompts(traced: Path, prompts: Any) -> None:
    circuit = lt.discover(model(), prompts, n_edges=30, method="eap")
    circuit.save(traced / "circuit.json")
    replace(circuit, provenance={**circuit.provenance, "weights": "others"}).save(traced / "others.json")
    folder = Folder(traced)
    traces, alone = folder.runs()
    assert traces.clean.tokens and not alone.clean.tokens
    for run in (traces, alone):
        shown = folder.view("circuit", {"run": run.id})
        assert shown.run == run.id and len(shown.edges) == 30


def test_what_a_folder_does_not_hold_has_a_reason(traced: Path) -> None:
    folder = Folder(traced)
    run, meta = folder.runs()[0].id, folder.meta()
    assert set(meta.missing) == {*VIEWS, "runs"} - {"attention", "attention/layer", "attention/row", "head"}
    for view in meta.missing.keys() & VIEWS.keys():
        with pytest.raises(NotFoundError, match="A trace holds activations"):
            folder.view(view, {"run": run})
    with pytest.raises(NotFoundError, match="run of this folder"):
        folder.view("attention", {"run": "../.."})
    with pytest.raises(NotFoundError, match="layer that was captured"):
        folder.view("attention/layer", {"run": run, "layer": "9"})
    for at in ({"head": "8", "query": "0"}, {"head": "0", "query": "15"}):
        with pytest.raises(InputError, match="Expected a"):
            folder.view("attention/row", {"run": run, "layer": "0", **at})


def nouns(prompts: Any) -> dict[str, tuple[Any, str]]:
    """A result, and the view that shows it."""
    return {
        "circuit.json": (lt.discover(model(), prompts, n_edges=30, method="eap"), "circuit"),
        "paths.safetensors": (lt.path_patch(model(), prompts), "paths"),
        "sweep.safetensors": (lt.patch_sweep(model(), prompts, direction="noising"), "patch"),
        "heads.safetensors": (lt.patch_sweep(model(), prompts, "z", direction="noising"), "patch"),
        "dla.safetensors": (lt.influence.direct_logit_attribution(model(), prompts), "overview"),
        "tokens.safetensors": (lt.influence.decompx(model(), prompts), "attribution"),
        "lens.safetensors": (lt.influence.token_lens(model(), prompts, positions=None), "lens"),
    }


@pytest.mark.parametrize("name", ["circuit.json", "paths.safetensors", "sweep.safetensors", "heads.safetensors",
                                  "dla.safetensors", "tokens.safetensors", "lens.safetensors"])  # fmt: skip
def test_a_saved_result_shows_the_numbers_of_the_live_view(name: str, prompts: Any, tmp_path: Path) -> None:
    noun, view = nouns(prompts)[name]
    noun.save(tmp_path / name)
    folder, source = Folder(tmp_path), live()
    saved, run = folder.runs()[0].id, source.add(NewRun(prompt=CLEAN, against=OTHER)).id
    query = {"method": "eap", "edges": "30"} if view == "circuit" else {"site": "z"} if "heads" in name else {}
    mine, theirs = folder.view(view, {"run": saved, **query}), source.view(view, {"run": run, **query})
    match view:
        case "circuit":
            kept = {(edge.sender, edge.receiver): edge.score for edge in theirs.edges if edge.kept}
            assert {(edge.sender, edge.receiver) for edge in mine.edges} == set(kept)
            assert all(abs(kept[edge.sender, edge.receiver] - edge.score) < 1e-5 for edge in mine.edges)
            places = {node.name: (node.layer, node.x) for node in theirs.nodes}
            assert all(places[node.name] == (node.layer, node.x) for node in mine.nodes)
            return
        case "paths":
            values = (mine.map.heads, theirs.map.heads)
        case "overview":
            values = (mine.maps[0].heads, theirs.maps[0].heads)
            assert np.abs(np.array(mine.maps[0].mlps) - theirs.maps[0].mlps).max() < 1e-6
        case "patch":
            values = (mine.values, theirs.values)
            assert (mine.rows, mine.columns, mine.site) == (theirs.rows, theirs.columns, theirs.site)
            assert abs(mine.before - theirs.before) < 1e-6 and abs(mine.against - theirs.against) < 1e-6
        case "attribution":
            values = (mine.scores, theirs.scores)
            assert abs(mine.gap - theirs.gap) < 1e-6
        case "lens":
            values = (mine.probability, theirs.probability)
            assert [[t.text for t in stage] for stage in mine.top] == [[t.text for t in stage] for stage in theirs.top]
            assert np.abs(np.array(mine.correct) - theirs.correct).max() < 1e-5
            assert mine.wrong_rank == theirs.wrong_rank
    assert np.abs(np.array(values[0]) - values[1]).max() < 1e-6


@pytest.mark.parametrize(
    ("line", "view", "count"),
    [
        (["patch", "tiny-english", "--what", "resid_pre", "--direction", "noising"], "patch", 60),
        (["paths", "tiny-english"], "paths", 32),
        (["ablate", "tiny-english"], "paths", 32),
        (["influence", "tiny-english"], "overview", 32),
        (["influence", "tiny-english", "--method", "decompx"], "attribution", 15),
    ],
)
def test_a_folder_of_the_command_line_is_shown(line: list[str], view: str, count: int, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from llmtrace.cli.app import app

    done = CliRunner().invoke(app, [*line, "-n", "2", "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    rows = json.loads((tmp_path / "out" / "result.json").read_text())["rows"]
    folder = Folder(tmp_path / "out")
    found = folder.view(view, {"run": folder.runs()[0].id})
    if view == "attribution":
        assert found.scores == [row["value"] for row in rows if row["prompt"] == 0]
        return
    shown = found.map if view == "paths" else found.maps[0] if view == "overview" else None
    values = found.values if shown is None else shown.heads
    numbers = {round(row["mean" if view == "overview" else "change"], 9) for row in rows}
    flat = [value for row in values for value in row]
    assert len(flat) == count and {round(value, 9) for value in flat} <= numbers


def test_a_folder_is_served_without_torch(traced: Path, prompts: Any) -> None:
    for name, (noun, _) in nouns(prompts).items():
        noun.save(traced / name)
    program = f"""
import sys
from pathlib import Path
from starlette.testclient import TestClient
from llmtrace.console.folder import Folder, holds
from llmtrace.console.page import save_html
from llmtrace.console.service.app import make_app
path = Path({str(traced)!r})
assert holds(path)
folder = Folder(path)
guard, token = make_app(folder, "", port=8000)
asked = TestClient(guard, base_url="http://127.0.0.1:8000", headers={{"X-Llmtrace-Token": token}})
answers = folder.answers()
for key in ["meta", "runs", *answers]:
    assert asked.get("/api/v1/" + key).status_code == 200, key
views = {{key.partition("?")[0] for key in answers}}
print(len(answers), sorted(views))
assert asked.post("/api/v1/runs", json={{"prompt": "x"}}).status_code == 404
assert asked.post("/api/v1/jobs", json={{"view": "patch", "run": "x"}}).status_code == 404
save_html(path, {str(traced.parent / "all.html")!r})
assert not {{"torch", "transformers", "transformer_lens"}} & set(sys.modules), "torch is there"
"""
    pytest.importorskip("fastapi")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    for view in set(VIEWS) - {"generation"}:
        assert repr(view) in done.stdout


def test_what_is_no_folder_of_ours_is_a_sentence(tmp_path: Path, traced: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert not holds(tmp_path / "empty") and not holds(tmp_path / "none") and holds(traced)
    with pytest.raises(InputError, match="Expected a folder with a trace"):
        Folder(tmp_path / "empty")
    tensors = traced / "trace" / "tensors.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-1] + b"\x01")
    with pytest.raises(FileFormatError, match="not the file that was written"):
        Folder(traced)
    (traced / "trace" / "trace.json").write_text('{"kind": "llmtrace.trace", "schema_version": 1}')
    with pytest.raises(FileFormatError, match="is damaged"):
        Folder(traced)


@pytest.mark.parametrize("edges", [["os.system"], ["a0.h0->logits"] * 2, [3], "text"])
def test_a_damaged_circuit_is_a_sentence(edges: Any, tmp_path: Path, prompts: Any) -> None:
    lt.discover(model(), prompts, n_edges=3, method="eap").save(tmp_path / "circuit.json")
    content = json.loads((tmp_path / "circuit.json").read_text()) | {"edges": edges}
    (tmp_path / "circuit.json").write_text(json.dumps(content))
    with pytest.raises(FileFormatError, match="is damaged"):
        Folder(tmp_path)


# --- one file ---------------------------------------------------------------------------------------------------------

HOSTILE = ["</script><script>alert(1)</script>", "<!--", "<!--<script>", "<img src=x onerror=alert(1)>", "]]>",
           "\u202e", "\u2028\u2029", "&lt;&amp;", "'\"`${1}", "\x00\x1b[31m", "javascript:alert(1)"]  # fmt: skip


class Scripts(HTMLParser):
    """What a browser takes for scripts, and for elements."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        if self.tags[-1:] == ["script"]:
            self.texts.append(data)


def tape_in(page: str) -> Tape:
    start = page.index('id="tape">') + len('id="tape">')
    return Tape.model_validate_json(page[start : page.index("</script>", start)])


def test_hostile_text_in_somebodys_file_stays_text(traced: Path, prompts: Any, small_page: None) -> None:
    trace = lt.capture(model(), prompts)
    labels = tuple((HOSTILE + ["x"] * 15)[:15] for _ in range(1))
    evil = replace(trace, labels=tuple(map(tuple, labels)), prompts=HOSTILE[0], side=HOSTILE[1])
    evil.save(traced / "evil")
    written = pages.save_html(traced / "evil", traced / "evil.html").read_text(encoding="utf-8")
    parser = Scripts()
    parser.feed(written)
    assert parser.tags == ["script", "script"] and parser.texts[-1] == "draw()"
    tape = tape_in(written)
    assert [token["text"] for token in tape.answers["runs"][0]["clean"]["tokens"]][: len(HOSTILE)] == HOSTILE
    inside = written[written.index('id="tape">') + 10 : written.index("</script>")]
    assert not set("<>&\u2028\u2029") & set(inside)
    shown = pages.show(evil)._repr_html_()
    assert shown.count("<") == 2 and 'sandbox="allow-scripts allow-downloads"' in shown
    pytest.importorskip("fastapi")
    found = client(Folder(traced / "evil")).get("/api/v1/runs")
    assert found.headers["content-type"] == "application/json"
    assert [token["text"] for token in found.json()[0]["clean"]["tokens"]][: len(HOSTILE)] == HOSTILE


def test_hostile_names_in_a_circuit_or_a_document_stay_text(tmp_path: Path, prompts: Any, small_page: None) -> None:
    lt.discover(model(), prompts, n_edges=3, method="eap").save(tmp_path / "circuit.json")
    content = json.loads((tmp_path / "circuit.json").read_text())
    content["options"]["method"] = content["options"]["metric"] = HOSTILE[0]
    content["roles"], content["provenance"]["model"] = {HOSTILE[0]: ["input"]}, HOSTILE[0]
    (tmp_path / "circuit.json").write_text(json.dumps(content))
    written = pages.save_html(tmp_path, tmp_path / "x.html").read_text(encoding="utf-8")
    assert "<script>alert" not in written
    parser = Scripts()
    parser.feed(written)
    assert parser.tags == ["script", "script"]


def test_a_file_holds_what_the_folder_gives(traced: Path, small_page: None) -> None:
    written = pages.save_html(traced, traced / "page.html").read_text(encoding="utf-8")
    tape, folder = tape_in(written), Folder(traced)
    assert tape.answers["meta"]["mode"] == "file" and tape.answers["meta"]["missing"] == folder.meta().missing
    run = folder.runs()[0].id
    assert {f"attention?run={run}", f"attention/layer?layer=3&run={run}"} <= set(tape.bytes)
    assert f"attention/row?head=2&layer=3&query=14&run={run}" in tape.answers


@pytest.mark.parametrize("name", ["trace", *["circuit.json", "sweep.safetensors", "lens.safetensors"]])
def test_a_noun_is_written_as_a_page(name: str, prompts: Any, tmp_path: Path, small_page: None) -> None:
    noun = lt.capture(model(), prompts) if name == "trace" else nouns(prompts)[name][0]
    tape = tape_in(pages.save_html(noun, tmp_path / "page.html").read_text(encoding="utf-8"))
    assert len(tape.answers["runs"]) == 1 and len(tape.answers) + len(tape.bytes) > 2
    assert "older" not in str(tape.answers["meta"]["missing"])  # there is no folder where the page is read


def test_what_is_no_noun_is_a_sentence(tmp_path: Path, prompts: Any, small_page: None) -> None:
    for noun, sentence in ((3, "got int"), (lt.Circuit, "got type"), (prompts, "got PromptSet")):
        with pytest.raises(InputError, match=sentence):
            pages.save_html(noun, tmp_path / "x.html")
    with pytest.raises(LLMTraceError, match=r"ends in '.html'"):
        pages.save_html(prompts, tmp_path / "x.json")
    assert not list(tmp_path.iterdir())


def test_a_page_that_has_a_tape_already_takes_no_other(traced: Path) -> None:
    folder = Folder(traced)
    tape = pages.tape_of(folder.meta(), folder.runs(), folder.answers())
    filled = pages.inject(PAGE, tape)
    with pytest.raises(FileFormatError, match="one empty place"):
        pages.inject(filled, tape)
