"""The service: the routes of the contract, jobs that stream and stop, and who is turned away."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from console_service import CLEAN, HOME, OTHER, PORT, client, live, logits, model

pytest.importorskip("fastapi")

from llmtrace.console.rows import VIEWS
from llmtrace.console.schemas import Ablate, Event, Job, Meta, NewRun, Overview, Problem, Run, Sweep, Tape
from llmtrace.console.service.jobs import JOBS_WAITING, Worker
from llmtrace.models.user_hooks import user_hooks

pytestmark = pytest.mark.usefixtures("as_users_run")
API = "/api/v1"
PROMPTS = {"prompt": CLEAN, "against": OTHER}


@pytest.fixture
def asked() -> Any:
    return client(live())


@pytest.fixture
def run(asked: Any) -> str:
    return Run.model_validate_json(asked.post(f"{API}/runs", json=PROMPTS).content).id


def refused(answer: Any, status: int, sentence: str = "Expected") -> None:
    """A problem with a sentence, and nothing of the inside of the program."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"].startswith("application/problem+json")
    problem = Problem.model_validate_json(answer.content)
    assert problem.status == status and sentence in problem.detail and "Traceback" not in answer.text


def finished(asked: Any, job: str) -> list[Event]:
    lines = asked.get(f"{API}/jobs/{job}/events").text.splitlines()
    return [Event.model_validate_json(line) for line in lines]


def until(what: Callable[[], Any]) -> None:
    for _ in range(400):
        if what():
            return
        time.sleep(0.01)
    raise AssertionError("it never came")


# --- the contract -----------------------------------------------------------------------------------------------------


def test_the_routes_give_what_the_source_gives(asked: Any, run: str) -> None:
    source = live()
    source.add(NewRun(**PROMPTS))
    assert Meta.model_validate_json(asked.get(f"{API}/meta").content) == source.meta()
    assert [Run.model_validate(found) for found in asked.get(f"{API}/runs").json()] == source.runs()
    assert Overview.model_validate_json(asked.get(f"{API}/overview?run={run}").content) == source.view(
        "overview", {"run": run}
    )
    assert asked.get(f"{API}/attention?run={run}").content == source.view("attention", {"run": run})
    found = asked.get(f"{API}/attention/row?run={run}&layer=3&head=2&query=14").json()
    assert (
        found["attention"]
        == source.view("attention/row", {"run": run, "layer": "3", "head": "2", "query": "14"}).attention
    )


def test_a_heavy_view_is_made_by_a_job_whose_rows_come_one_by_one(asked: Any, run: str) -> None:
    refused(asked.get(f"{API}/patch?run={run}&site=resid_pre"), 409, "Expected a job to make patch")
    job = Job.model_validate_json(asked.post(f"{API}/jobs", json={"view": "patch", "run": run}).content)
    events = finished(asked, job.id)
    assert events[-1].job.state == "done" and events[-1].job.done == events[-1].job.total == 4
    rows = {index: values for event in events for index, values in event.rows.items()}
    found = Sweep.model_validate_json(asked.get(f"{API}/patch", params=job.query).content)
    assert [rows[i] for i in range(4)] == found.values
    again = Job.model_validate_json(asked.post(f"{API}/jobs", json={"view": "patch", "run": run}).content)
    assert (again.id, again.state) == (job.id, "done")
    assert [job["id"] for job in asked.get(f"{API}/jobs").json()] == [job.id]


def test_a_job_that_cannot_be_done_says_why(asked: Any) -> None:
    alone = asked.post(f"{API}/runs", json={"prompt": CLEAN}).json()["id"]
    job = asked.post(f"{API}/jobs", json={"view": "patch", "run": alone}).json()["id"]
    (*_, last) = finished(asked, job)
    assert last.job.state == "failed" and "needs corrupted prompts" in (last.job.problem or "")


def test_equal_jobs_are_one_and_a_full_queue_says_when_to_come_again() -> None:
    """50 sweeps at once: each of another run. The worker is held, so that all of them wait."""
    source, gate = live(), threading.Event()
    runs = [source.add(NewRun(**PROMPTS, edits=[Ablate(node=f"m{i % 4}.n{i}")])).id for i in range(50)]
    view = source.view
    source.view = lambda *args: (gate.wait(20), view(*args))[1]
    asked, answers = client(source), dict[str, Any]()

    def post(run: str) -> None:
        answers[run] = asked.post(f"{API}/jobs", json={"view": "patch", "run": run, "site": "z"})

    post(runs[0])
    until(lambda: asked.get(f"{API}/jobs").json()[0]["state"] == "running")
    threads = [threading.Thread(target=post, args=[run]) for run in runs[1:]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    taken = [run for run in runs if answers[run].status_code == 200]
    assert len(taken) == 1 + JOBS_WAITING
    turned_away = next(answers[run] for run in runs if run not in taken)
    refused(turned_away, 429)
    assert int(turned_away.headers["retry-after"]) > 0
    before = len(asked.get(f"{API}/jobs").json())
    post(taken[-1])
    assert len(asked.get(f"{API}/jobs").json()) == before
    gate.set()
    for run in taken:
        (*_, last) = finished(asked, answers[run].json()["id"])
        assert last.job.state == "done"
    assert not user_hooks(model())


def test_equal_questions_are_answered_once() -> None:
    source, gate, made = live(), threading.Event(), list[str]()
    run, view = source.add(NewRun(**PROMPTS)).id, source.view

    def slowly(name: str, query: Any, emit: Any = None) -> Any:
        made.append(name)
        gate.wait(20)
        return view(name, query)

    source.view = slowly
    asked, found = client(source), list[bytes]()
    threads = [
        threading.Thread(target=lambda: found.append(asked.get(f"{API}/lens?run={run}").content)) for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    until(lambda: made)
    time.sleep(0.2)
    gate.set()
    for thread in threads:
        thread.join()
    assert made == ["lens"] and len(set(found)) == 1


@pytest.mark.parametrize("edits", [[], [Ablate(node="a3.h2")]], ids=["clean", "edited"])
def test_a_sweep_that_is_stopped_leaves_the_model_as_it_was(edits: list[Any]) -> None:
    """In its middle, from another thread; and a job that waits behind it, before it begins."""
    clean, source = logits(), live()
    run = source.add(NewRun(**PROMPTS, edits=edits)).id
    worker, rows = Worker(), dict[int, list[float]]()

    def make(emit: Any) -> None:
        def emitted(index: int, values: list[float]) -> None:
            rows[index] = values
            if index == 1:
                worker.work(job.id).stop()

        started.wait(10)
        source.view("patch", {"run": run, "site": "resid_pre"}, emitted)

    started = threading.Event()
    job = worker.start("patch", {"run": run, "site": "resid_pre"}, make, known=False)
    behind = worker.start("paths", {"run": run}, lambda emit: rows.clear(), known=False)
    worker.work(behind.id).stop()
    started.set()
    until(lambda: worker.work(job.id).state == "cancelled")
    assert sorted(rows) == [0, 1] and worker.work(behind.id).state == "cancelled"
    assert source.known("patch", {"run": run, "site": "resid_pre"}) is None
    assert torch.equal(logits(), clean) and not user_hooks(model())
    assert not worker.ask("after", lambda: user_hooks(model())).result(10)
    worker.close()


def test_a_job_is_stopped_by_its_address(asked: Any, run: str) -> None:
    job = asked.post(f"{API}/jobs", json={"view": "circuit", "run": run}).json()["id"]
    assert asked.delete(f"{API}/jobs/{job}").status_code == 200
    (*_, last) = finished(asked, job)
    assert last.job.state in ("cancelled", "done")
    refused(asked.delete(f"{API}/jobs/../../etc"), 404)
    refused(asked.get(f"{API}/jobs/none/events"), 404)


def test_a_job_is_stopped_in_its_middle_over_http_and_can_be_had_again() -> None:
    """The worker is held after the first row, until the service has said that it stops."""
    clean, source, first, gate = logits(), live(), threading.Event(), threading.Event()
    run, view = source.add(NewRun(**PROMPTS)).id, source.view

    def held(name: str, query: Any, emit: Any = None) -> Any:
        def emitted(index: int, values: list[float]) -> None:
            emit(index, values)
            first.set()
            gate.wait(20)

        return view(name, query, emitted if name == "patch" else emit)

    source.view = held
    asked, body = client(source), {"view": "patch", "run": run, "site": "resid_pre"}
    job = asked.post(f"{API}/jobs", json=body).json()
    assert first.wait(20) and asked.get(f"{API}/jobs").json()[0]["state"] == "running"
    assert asked.delete(f"{API}/jobs/{job['id']}").status_code == 200
    gate.set()
    (*_, last) = finished(asked, job["id"])
    assert last.job.state == "cancelled" and last.job.done < last.job.total == 4
    refused(asked.get(f"{API}/patch?run={run}&site=resid_pre"), 409, "Expected a job to make patch")
    assert torch.equal(logits(), clean) and not user_hooks(model())
    again = asked.post(f"{API}/jobs", json=body).json()["id"]
    assert again != job["id"] and finished(asked, again)[-1].job.state == "done"
    assert len(Sweep.model_validate_json(asked.get(f"{API}/patch?run={run}&site=resid_pre").content).values) == 4


def test_what_was_seen_is_exported(asked: Any, run: str) -> None:
    asked.get(f"{API}/overview?run={run}")
    asked.get(f"{API}/attention?run={run}")
    tape = Tape.model_validate_json(asked.get(f"{API}/export?format=json").content)
    assert {"meta", "runs", f"overview?run={run}"} <= set(tape.answers) and [*tape.bytes] == [f"attention?run={run}"]
    assert tape.answers["meta"]["mode"] == "file"
    page = asked.get(f"{API}/export?format=html")
    assert page.headers["content-disposition"].startswith("attachment") and f"overview?run={run}" in page.text


# --- who is turned away -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("token", [None, "", "wrong", "own "])
@pytest.mark.parametrize("path", ["meta", "runs", "overview?run=x", "jobs/j0/events", "export", "nothing"])
def test_nothing_is_said_without_the_token(token: str | None, path: str) -> None:
    refused(client(live(), token=token).get(f"{API}/{path}"), 401, "token")


def test_a_token_said_twice_or_in_the_address_is_none(asked: Any) -> None:
    own = asked.headers["x-llmtrace-token"]
    headers = [("x-llmtrace-token", "wrong"), ("x-llmtrace-token", own)]
    stranger = client(live(), token=None)
    refused(stranger.get(f"{API}/meta", headers=headers), 401)
    refused(asked.get(f"{API}/meta", headers={"x-llmtrace-token": ""}, params={"token": own}), 401)


@pytest.mark.parametrize(
    "host", ["evil.example", f"evil.example:{PORT}", "127.0.0.1", f"127.0.0.1:{PORT + 1}", f"127.0.0.1.evil:{PORT}",
             f"localhost:{PORT}.", f"LOCALHOST:{PORT}", f"0.0.0.0:{PORT}", f"[::]:{PORT}", ""],
)  # fmt: skip
def test_another_host_is_turned_away_even_with_the_token(asked: Any, host: str) -> None:
    for path in ("/", f"{API}/meta"):
        refused(asked.get(path, headers={"host": host}), 403, "Host")


@pytest.mark.parametrize("host", [f"127.0.0.1:{PORT}", f"localhost:{PORT}", f"[::1]:{PORT}"])
def test_its_own_names_are_let_in(asked: Any, host: str) -> None:
    assert asked.get(f"{API}/meta", headers={"host": host, "origin": f"http://{host}"}).status_code == 200


@pytest.mark.parametrize("origin", ["null", "", "http://evil.example", f"https://127.0.0.1:{PORT}", "http://127.0.0.1",
                                    f"http://127.0.0.1:{PORT}.evil.example", "file://"])  # fmt: skip
def test_another_origin_is_turned_away_even_with_the_token(asked: Any, origin: str) -> None:
    refused(asked.get(f"{API}/meta", headers={"origin": origin}), 403, "origin")
    refused(asked.post(f"{API}/runs", json=PROMPTS, headers={"origin": origin}), 403, "origin")


def test_a_form_of_another_site_does_nothing(asked: Any) -> None:
    form = {"content-type": "application/x-www-form-urlencoded", "origin": "http://evil.example"}
    refused(client(live(), token=None).post(f"{API}/runs", content=b"prompt=x", headers=form), 403)
    for kind in ("application/x-www-form-urlencoded", "text/plain", "multipart/form-data; boundary=x", ""):
        refused(asked.post(f"{API}/runs", content=json.dumps(PROMPTS), headers={"content-type": kind}), 415)
    assert asked.get(f"{API}/runs").json() == []


def test_no_other_site_may_read_or_frame_it(asked: Any) -> None:
    for path in ("/", f"{API}/meta", f"{API}/none"):
        headers = asked.get(path, headers={"origin": HOME}).headers
        assert not [name for name in headers if name.startswith("access-control")]
        assert headers["x-content-type-options"] == "nosniff" and headers["referrer-policy"] == "no-referrer"
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
    refused(asked.options(f"{API}/runs", headers={"origin": HOME, "access-control-request-method": "POST"}), 405)


def test_the_pages_policy_lets_its_own_scripts_run_and_nothing_else(asked: Any) -> None:
    import base64
    import hashlib

    own = base64.b64encode(hashlib.sha256(b"draw()").digest()).decode()
    policy = client(live(), token=None).get("/").headers["content-security-policy"]
    assert f"script-src 'sha256-{own}';" in policy and "default-src 'none'" in policy
    assert "unsafe-eval" not in policy and "http" not in policy.replace("https", "http").replace("'self'", "")


@pytest.mark.parametrize("path", ["/docs", "/redoc", "/openapi.json", "/static/console.html", "/../pyproject.toml",
                                  f"{API}/../../etc/passwd", f"{API}/%2e%2e/meta"])  # fmt: skip
def test_there_is_nothing_else(asked: Any, path: str) -> None:
    refused(asked.get(path), 404)


def test_a_body_is_counted_as_it_comes() -> None:
    asked, sent = client(live()), list[int]()

    def endless() -> Iterator[bytes]:
        for i in range(10_000):
            sent.append(i)
            yield b'{"prompt": "' + b"x" * 65536

    refused(asked.post(f"{API}/runs", content=endless(), headers={"content-type": "application/json"}), 413, "body")
    refused(asked.post(f"{API}/runs", json={"prompt": "x" * 300_000}), 413, "body")


PATHS = ["../../../etc/passwd", "/etc/passwd", "file:///etc/passwd", "http://169.254.169.254/", "C:\\Windows",
         "__import__('os').system('id')", "{{7*7}}", "\x00", "</script><script>alert(1)</script>"]  # fmt: skip


@pytest.mark.parametrize("text", PATHS)
def test_a_path_an_address_or_code_is_text_wherever_text_goes(asked: Any, run: str, text: str) -> None:
    """Nowhere is it opened or run: what comes back is a sentence about words, names and tokens."""
    clean = logits()
    for field in ("prompt", "against", "correct", "wrong"):
        refused(asked.post(f"{API}/runs", json={**PROMPTS, field: text}), 422)
    for edit in ({"kind": "ablate", "node": text}, {"kind": "patch", "node": text},
                 {"kind": "ablate", "node": "m0", "how": text}, {"kind": text, "node": "m0"}):  # fmt: skip
        refused(asked.post(f"{API}/runs", json={**PROMPTS, "edits": [edit]}), 422)
    named = asked.post(f"{API}/runs", json={**PROMPTS, "edits": [{"node": "m0"}], "name": text})
    assert named.status_code == 200 and named.json()["name"] == text  # a name is shown, and is nothing else
    for view in VIEWS:
        refused(asked.get(f"{API}/{view}", params={"run": text, "layer": 0, "head": 0, "query": 0}), 404 if not {
            "layer", "head", "query"} - set(VIEWS[view].option_names()) else 422)  # fmt: skip
    for parameter in ("layer", "head"):
        query = {"run": run, "layer": "0", "head": "0", parameter: text}
        refused(asked.get(f"{API}/head", params=query), 422)
    refused(asked.get(f"{API}/attribution", params={"run": run, "method": text}), 404)
    for name in ("site", "method"):
        view = {"site": "patch", "method": "circuit"}[name]
        job = asked.post(f"{API}/jobs", json={"view": view, "run": run, name: text}).json()
        (*_, last) = finished(asked, job["id"])
        assert last.job.state == "failed" and "Expected" in (last.job.problem or "")
    refused(asked.post(f"{API}/jobs", json={"view": text, "run": run}), 422)
    assert torch.equal(logits(), clean)


def test_ten_thousand_tokens_are_too_many(asked: Any) -> None:
    refused(asked.post(f"{API}/runs", json={"prompt": "Mary " * 4_000}), 413, "at most")
    refused(asked.post(f"{API}/runs", json={"prompt": "Mary " * 10_000}), 413, "at most")


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'{"prompt": 3}', b'{"prompt": "Mary", "path": "/etc"}',
                                  b"\xff\xfe", b'{"prompt": "Mary", "edits": {"a": 1}}', b"[" * 50_000])  # fmt: skip
def test_a_body_that_is_no_run_is_a_sentence(asked: Any, body: bytes) -> None:
    answer = asked.post(f"{API}/runs", content=body, headers={"content-type": "application/json"})
    assert answer.status_code in (400, 422)
    refused(answer, answer.status_code)


def test_a_failure_tells_nothing_of_the_inside(capsys: pytest.CaptureFixture[str]) -> None:
    source = live()
    run = source.add(NewRun(**PROMPTS)).id

    def broken(*args: Any) -> Any:
        raise RuntimeError("secret at /root/x")

    source.view = broken
    asked = client(source)
    refused(asked.get(f"{API}/lens?run={run}"), 500, "failed")
    job = asked.post(f"{API}/jobs", json={"view": "paths", "run": run}).json()["id"]
    (*_, last) = finished(asked, job)
    assert last.job.state == "failed" and "secret" not in (last.job.problem or "")
    assert "secret" in capsys.readouterr().err
