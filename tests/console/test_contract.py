"""The committed contract is what the schemas say; the command starts what it says."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from llmtrace.console import schemas
from llmtrace.console.rows import VIEWS, key_of
from llmtrace.errors import LLMTraceError

RUN = "import typer; from llmtrace.cli.commands.console import console; typer.run(console)"


def test_the_committed_contract_is_not_stale() -> None:
    """Written by `python -m llmtrace.console.openapi`."""
    pytest.importorskip("fastapi")
    from llmtrace.console.openapi import FILE, document

    assert FILE.read_text(encoding="utf-8") == document()


def test_every_schema_and_route_is_in_the_contract() -> None:
    content = json.loads((Path(schemas.__file__).parent / "openapi.json").read_text(encoding="utf-8"))
    own = {name for name, kind in vars(schemas).items() if isinstance(kind, type) and issubclass(kind, schemas.Schema)}
    assert own - {"Schema"} == set(content["components"]["schemas"])
    said = set(re.findall(r"^    (?:GET|POST|DELETE) +(/api/v1/[\w/{}]+)", schemas.__doc__ or "", re.MULTILINE))
    assert said == set(content["paths"]) and {f"/api/v1/{view}" for view in VIEWS} <= said


def test_keys_are_those_of_the_page() -> None:
    """As web/src/source/source.ts writes them: parameters sorted, spaces as +."""
    assert key_of("head", {"run": "a", "layer": 3, "head": 2}) == "head?head=2&layer=3&run=a"
    assert key_of("meta", {}) == "meta" and key_of("lens", {"run": "a b/"}) == "lens?run=a+b%2F"


def test_importing_the_room_loads_neither_torch_nor_a_server() -> None:
    program = (
        "import sys, llmtrace.console; llmtrace.console.save_html; llmtrace.console.VIEWS; "
        "assert not {'torch', 'fastapi', 'uvicorn', 'starlette'} & set(sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], timeout=60).returncode == 0


def got(address: str, **headers: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(urllib.request.Request(address, headers=headers), timeout=30) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def test_the_command_prints_one_address_and_serves_it_on_this_machine_alone() -> None:
    pytest.importorskip("uvicorn")
    line = [sys.executable, "-c", RUN, "tiny-english", "--no-browser"]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            said = re.fullmatch(r"(http://127\.0\.0\.1:\d+)/#token=([\w-]{43})", server.stdout.readline().strip())
            assert said is not None
            home, token = said.groups()
            assert got(home)[0] == 200 and b'id="tape"' in got(home)[1]
            assert got(f"{home}/api/v1/meta")[0] == 401
            status, body = got(f"{home}/api/v1/runs", **{"X-Llmtrace-Token": token})
            assert status == 200 and len(json.loads(body)) == 4
            assert got(f"{home}/api/v1/meta", **{"X-Llmtrace-Token": token, "Host": "evil.example"})[0] == 403
            listening = [
                line.split()[1] for line in Path("/proc/net/tcp").read_text().splitlines()[1:]
                if line.split()[1].endswith(f":{int(home.rsplit(':', 1)[1]):04X}") and line.split()[3] == "0A"
            ]  # fmt: skip
            assert [address.split(":")[0] for address in listening] == ["0100007F"]
        finally:
            server.terminate()
            server.wait(30)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (["tiny-english", "--against", "x"], "Expected --against with --prompt"),
        (["tiny-english", "--prompt", "Mary", "--task", "ioi"], "one kind of prompts"),
        (["tiny-english", "--prompt", "Mary", "--against", "Mary and"], "equal token length"),
        (["no-such-model"], "no-such-model"),
    ],
)
def test_a_wrong_line_is_a_sentence(line: list[str], sentence: str) -> None:
    from llmtrace.cli.commands.console import console

    app = typer.Typer()
    app.command()(console)
    done = CliRunner().invoke(app, [*line, "--no-browser"])
    assert isinstance(done.exception, LLMTraceError) and sentence in str(done.exception)


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    from llmtrace.cli.commands import console as module

    monkeypatch.setattr(module, "find_spec", lambda name: None)
    app = typer.Typer()
    app.command()(module.console)
    done: Any = CliRunner().invoke(app, ["tiny-english"])
    assert str(done.exception).endswith("pip install 'llmtrace-interp[console]'.")
