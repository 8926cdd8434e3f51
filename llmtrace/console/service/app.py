"""The routes. Nothing here computes: views go to the source, in the worker's thread."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator
from typing import Any, Literal, Protocol, runtime_checkable

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import StreamingResponse
from starlette.exceptions import HTTPException

from llmtrace.console import schemas
from llmtrace.console.page import inject, policy_of, tape_of
from llmtrace.console.rows import VIEWS, View, key_of
from llmtrace.console.schemas import Job, Limits, Meta, NewJob, NewRun, Run, Schema
from llmtrace.console.service.guard import Guard
from llmtrace.console.service.jobs import ENDED, Emit, Work, Worker
from llmtrace.console.service.problems import MEDIA, problem, status_of
from llmtrace.errors import LLMTraceError, NotFoundError

API = "/api/v1"
PATIENCE = 0.05  # seconds between looks at a job


@runtime_checkable
class Source(Protocol):
    """Where answers come from: a model, or a folder."""

    mode: str
    limits: Limits

    def meta(self) -> Meta: ...
    def runs(self) -> list[Run]: ...
    def add(self, asked: NewRun) -> Run: ...
    def full(self, view: str, query: Any) -> dict[str, str]: ...
    def known(self, view: str, query: Any) -> Schema | bytes | None: ...
    def view(self, view: str, query: Any, emit: Emit | None = None) -> Schema | bytes: ...
    def answers(self) -> dict[str, Schema | bytes]: ...


class NotMade(LLMTraceError):
    """A heavy view that no job has made yet."""


def make_app(source: Source, page: str, *, port: int, token: str | None = None) -> tuple[Guard, str]:
    """The service around a source, guarded, and its token."""
    worker, token = Worker(), token or secrets.token_urlsafe(32)
    app = FastAPI(title="LLM-Trace console", version="1", docs_url=None, redoc_url=None, openapi_url=None)
    _answer_problems(app)
    _routes(app, source, worker, page)
    guard = Guard(
        app, port=port, token=token, body_bytes=source.limits.body_bytes, pages={"/": policy_of(page, "'self'")}
    )
    return guard, token


def openapi() -> dict[str, Any]:
    """The contract, without a source."""
    app = FastAPI(title="LLM-Trace console", version="1")
    _routes(app, None, None, "")
    return app.openapi()


def _routes(app: FastAPI, source: Any, worker: Any, page: str) -> None:
    """`source`: a Source, `worker`: its Worker; none of both where only the contract is wanted."""

    @app.get("/", include_in_schema=False)
    async def index() -> Response:
        return Response(page, media_type="text/html; charset=utf-8")

    @app.get(f"{API}/meta", response_model=Meta)
    async def meta() -> Response:
        return _sent(source.meta())

    @app.get(f"{API}/runs", response_model=list[Run])
    async def runs() -> Response:
        return Response(json.dumps([run.model_dump(mode="json") for run in source.runs()]), media_type=JSON)

    @app.post(f"{API}/runs", response_model=Run)
    async def new_run(asked: NewRun) -> Response:
        return _sent(await _asked(worker, f"POST {asked.model_dump_json()}", lambda: source.add(asked)))

    @app.post(f"{API}/jobs", response_model=Job)
    async def new_job(asked: NewJob) -> Response:
        if source.mode != "live":
            raise NotFoundError("Expected a model to run jobs on, got a folder; start llmtrace console MODEL.")
        said = {name: str(value) for name in ("run", "site", "method", "edges", "tokens")
                if (value := getattr(asked, name)) is not None}  # fmt: skip
        query = source.full(asked.view, said)
        known = source.known(asked.view, query) is not None
        return _sent(worker.start(asked.view, query, lambda emit: source.view(asked.view, query, emit), known=known))

    @app.get(f"{API}/jobs", response_model=list[Job])
    async def jobs() -> Response:
        return Response(json.dumps([job.model_dump(mode="json") for job in worker.jobs()]), media_type=JSON)

    @app.get(f"{API}/jobs/{{id}}/events", response_model=schemas.Event)
    async def events(id: str) -> Response:
        return StreamingResponse(_events(worker.work(id)), media_type="application/x-ndjson")

    @app.delete(f"{API}/jobs/{{id}}", response_model=Job)
    async def cancel(id: str) -> Response:
        work = worker.work(id)
        work.stop()
        return _sent(work.job())

    @app.get(f"{API}/export", response_model=schemas.Tape)
    async def export(format: Literal["html", "json"] = "json") -> Response:
        def written() -> str:
            tape = tape_of(source.meta(), source.runs(), source.answers())
            return inject(page, tape) if format == "html" else tape.model_dump_json()

        media = "text/html; charset=utf-8" if format == "html" else JSON
        return Response(await asyncio.to_thread(written), media_type=media, headers=_attached(format))

    for row in VIEWS.values():
        _route(app, source, worker, row)


def _route(app: FastAPI, source: Any, worker: Any, row: View) -> None:
    async def view(request: Request) -> Response:
        query = dict(request.query_params)
        full = source.full(row.name, query)
        found = source.known(row.name, full)
        if found is None and row.heavy and source.mode == "live":
            source.run(full["run"])
            raise NotMade(f"Expected a job to make {row.name} first, got none; post it to {API}/jobs.")
        if found is None:
            found = await _asked(worker, key_of(row.name, full), lambda: source.view(row.name, full))
        return _sent(found)

    parameters = [{"name": "run", "in": "query", "required": True, "schema": {"type": "string"}}] + [
        {"name": option.name, "in": "query", "required": option.name not in dict(row.defaults),
         "schema": {"type": "integer" if option.kind == "whole" else "string"}}
        for option in row.options
    ]  # fmt: skip
    app.add_api_route(
        f"{API}/{row.name}", view, methods=["GET"], name=row.name, description=row.summary,
        response_model=getattr(schemas, row.answer) if row.answer else None,
        openapi_extra={"parameters": parameters},
    )  # fmt: skip


JSON = "application/json"


async def _asked(worker: Worker, key: str, make: Any) -> Any:
    """Shielded: who goes away does not take the answer from others who wait for it."""
    return await asyncio.shield(asyncio.wrap_future(worker.ask(key, make)))


async def _events(work: Work) -> AsyncIterator[str]:
    """A line when something has changed, until the job has ended."""
    seen: set[int] = set()
    last = None
    while True:
        event = work.since(seen)
        if event != last:
            last = event
            yield event.model_dump_json() + "\n"
        if event.job.state in ENDED:
            return
        await asyncio.sleep(PATIENCE)


def _sent(found: Schema | bytes) -> Response:
    if isinstance(found, bytes):
        return Response(found, media_type="application/octet-stream")
    return Response(found.model_dump_json(), media_type=JSON)


def _attached(suffix: str) -> dict[str, str]:
    return {"Content-Disposition": f'attachment; filename="llmtrace-console.{suffix}"'}


def _answer_problems(app: FastAPI) -> None:
    def answer(status: int, detail: str) -> Response:
        status, body, more = problem(status, detail)
        return Response(body, status, media_type=MEDIA, headers=dict(more))

    @app.exception_handler(LLMTraceError)
    async def refused(request: Request, error: LLMTraceError) -> Response:
        return answer(409 if isinstance(error, NotMade) else status_of(error), str(error))

    @app.exception_handler(RequestValidationError)
    async def unread(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        return answer(
            422, f"Expected {where} as the contract says, got another value ({first['msg']}); see openapi.json."
        )

    @app.exception_handler(HTTPException)
    async def unknown(request: Request, error: HTTPException) -> Response:
        return answer(error.status_code, f"Expected an address of the contract, got another ({error.detail}).")

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> Response:
        return answer(500, "The service failed on this request; its terminal says more.")
