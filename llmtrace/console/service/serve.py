"""Start it: one port of this machine alone, one address with its token, and a browser on it where one is wanted."""

from __future__ import annotations

import socket
import sys
import webbrowser

from llmtrace.console.page import read_page
from llmtrace.console.service.app import Source, make_app
from llmtrace.errors import InputError


def serve(source: Source, *, port: int = 0, browser: bool = True) -> None:
    """Until it is interrupted. `port` 0: any that is free. Prints one address to standard output."""
    import uvicorn

    page = read_page()
    with _listening(port) as listening:
        port = listening.getsockname()[1]
        app, token = make_app(source, page, port=port)
        address = f"http://127.0.0.1:{port}/#token={token}"
        print(address, flush=True)
        print("Open it in a browser of this machine; Ctrl-C ends it.", file=sys.stderr, flush=True)
        if browser:
            webbrowser.open(address)
        config = uvicorn.Config(
            app, log_level="warning", access_log=False, server_header=False, proxy_headers=False, lifespan="off",
            ws="none",
        )  # fmt: skip
        uvicorn.Server(config).run(sockets=[listening])


def _listening(port: int) -> socket.socket:
    """A socket of 127.0.0.1 that nobody else has."""
    if not 0 <= port <= 65535:
        raise InputError(f"Expected a port from 0 (any) to 65535, got {port}; leave --port out.")
    found = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind(("127.0.0.1", port))
        found.listen(128)  # who opens the address before the service has begun waits for it
    except OSError as error:
        found.close()
        raise InputError(f"Expected a port that is free, got {port} ({error.strerror}); choose another.") from error
    return found
