"""Serving the page to browsers on this machine."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress

import uvicorn
from starlette.types import ASGIApp

from safetylayers.errors import UsageError

GRACE_SECONDS = 2
"""How long an answer that is being kept may take when the server is told to end."""


def serve(app: ASGIApp, *, port: int, announce: Callable[[str], None]) -> None:
    """Serve until somebody interrupts it.

    Args:
        app: the page.
        port: 0 for a free one.
        announce: told the address, once it listens.

    Raises:
        UsageError: the port is taken.
    """
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,  # addresses hold the token
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    with _listen(port) as listening:
        announce(f"http://127.0.0.1:{listening.getsockname()[1]}")
        with suppress(KeyboardInterrupt):  # that is how it is meant to end
            uvicorn.Server(config).run(sockets=[listening])


def _listen(port: int) -> socket.socket:
    listening = socket.socket()
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", port))
        listening.listen()
    except OSError as error:
        listening.close()
        raise UsageError(
            f"127.0.0.1:{port}: cannot listen there ({error.strerror}).",
            mend="Choose another --port; 0 takes a free one.",
        ) from error
    return listening
