"""Who may ask: only the page that this process serves, only from this machine.

A page of another site can reach 127.0.0.1 from its reader's browser, and by rebinding its name's address become of the
same origin. So the Host must be one of ours, an Origin too, and every call brings the token that was printed at the
start, which no other page has. Bodies are counted as they come in. Headers say that nothing else may be loaded.
"""

from __future__ import annotations

import hmac
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from llmtrace.console.service.problems import MEDIA, problem

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

TOKEN = b"x-llmtrace-token"
HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)
CLOSED = b"default-src 'none'; frame-ancestors 'none'"


class Refused(Exception):
    """A request that goes no further."""


def hosts_of(port: int) -> frozenset[bytes]:
    return frozenset(f"{name}:{port}".encode() for name in ("127.0.0.1", "localhost", "[::1]"))


class Guard:
    """Around `app`. `pages`: paths that need no token, and their content security policies."""

    def __init__(self, app: App, *, port: int, token: str, body_bytes: int, pages: dict[str, str]) -> None:
        self._app, self._token, self._body_bytes = app, token.encode(), body_bytes
        self._hosts = hosts_of(port)
        self._origins = frozenset(b"http://" + host for host in self._hosts)
        self._pages = {path: policy.encode() for path, policy in pages.items()}

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return  # no websockets, and nothing is done at the start
        started = False
        policy = self._pages.get(scope["path"], CLOSED)

        async def with_headers(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message["headers"] = [*message.get("headers", []), *HEADERS, (b"content-security-policy", policy)]
            await send(message)

        try:
            self._admit(scope)
            body = await self._body(scope, receive)
            await self._app(scope, _replay(body, receive), with_headers)
        except Refused as refused:
            if not started:
                await _answer(with_headers, *refused.args)
        except Exception as error:
            print(f"llmtrace console: {type(error).__name__}: {error}", file=sys.stderr)
            if not started:
                await _answer(with_headers, 500, "The service failed on this request; its terminal says more.")

    def _admit(self, scope: Message) -> None:
        headers = scope["headers"]

        def all_of(name: bytes) -> list[bytes]:
            return [value for key, value in headers if key.lower() == name]

        if len(hosts := all_of(b"host")) != 1 or hosts[0] not in self._hosts:
            raise Refused(403, "Expected the Host that was printed at the start, got another one; open that address.")
        if (origins := all_of(b"origin")) and (len(origins) != 1 or origins[0] not in self._origins):
            raise Refused(403, "Expected a request of the console's own page, got one of another origin.")
        if scope["path"] in self._pages:
            return
        tokens = all_of(TOKEN)
        if len(tokens) != 1 or not hmac.compare_digest(tokens[0], self._token):
            raise Refused(401, "Expected the token of this process, got none or another; open the printed address.")
        kinds = [kind.partition(b";")[0].strip().lower() for kind in all_of(b"content-type")]
        if scope["method"] == "POST" and kinds != [b"application/json"]:
            raise Refused(415, "Expected a body of application/json, got another kind; send JSON.")

    async def _body(self, scope: Message, receive: Receive) -> bytes:
        """All of it, or a refusal as soon as it is too much."""
        if scope["method"] in ("GET", "HEAD", "DELETE"):
            return b""
        body = bytearray()
        while True:
            message = await receive()
            body += message.get("body", b"")
            if len(body) > self._body_bytes:
                raise Refused(413, f"Expected a body of at most {self._body_bytes:,} bytes, got more; send less.")
            if message["type"] == "http.disconnect" or not message.get("more_body", False):
                return bytes(body)


def _replay(body: bytes, receive: Receive) -> Receive:
    """What was read already, then what comes after it."""
    left = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> Message:
        return left.pop() if left else await receive()

    return replayed


async def _answer(send: Send, status: int, detail: str) -> None:
    status, body, more = problem(status, detail)
    headers = [(b"content-type", MEDIA.encode()), *((name.encode(), value.encode()) for name, value in more.items())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
