"""Running the web application: one process, one event loop, one replica."""

from __future__ import annotations

import gc
import ipaddress
import logging
import socket
from collections.abc import Callable, Sequence

import uvicorn
from fastapi import FastAPI

from safetylayers.errors import UsageError

GRACE_SECONDS = 10
"""How long running replies may take to end when the server is told to end."""
ABSENT_SECONDS = 30
"""How long an idle connection is kept."""


def serve(app: FastAPI, *, host: str, port: int, announce: Callable[[str], None], proxies: Sequence[str] = ()) -> None:
    """Serve until the process is told to end.

    Args:
        app: what answers.
        host: address to listen on.
        port: 0 for a free one.
        announce: told the server's address, once it listens.
        proxies: addresses and networks that are believed about where a request comes from.

    Raises:
        UsageError: the address is taken, or not this machine's; or a proxy's makes no sense.
        SafetyLayersError: the gateway cannot be opened.
    """
    config = settings(app, proxies)
    listening = _listen(host, port)
    server = _Announced(config, lambda: announce(f"http://{_shown(listening)}"))
    try:
        server.run(sockets=[listening])
    finally:
        failure = getattr(app.state, "failure", None)
        if failure is not None:
            raise failure


def settings(app: FastAPI, proxies: Sequence[str]) -> uvicorn.Config:
    """Return how to serve. Raises UsageError where a proxy is neither an address nor a network."""
    return uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        # Attempts to log in are counted by address, so nobody may choose the one that they are counted under.
        proxy_headers=bool(proxies),
        forwarded_allow_ips=[written for proxy in proxies for written in _written(proxy)],
        timeout_graceful_shutdown=GRACE_SECONDS,
        timeout_keep_alive=ABSENT_SECONDS,
        lifespan="on",
    )


def _written(proxy: str) -> list[str]:
    """Return a network as sockets write it: those that listen for both kinds of address put IPv4 into IPv6."""
    try:
        network = ipaddress.ip_network(proxy)
    except ValueError as error:
        raise UsageError(
            f"--proxy {proxy}: neither an address nor a network.", mend="Write it as 10.0.0.2 or 10.0.0.0/24."
        ) from error
    if network.version == 6:
        return [str(network)]
    return [str(network), f"::ffff:{network.network_address}/{96 + network.prefixlen}"]


class _Announced(uvicorn.Server):
    """A server that says when it listens."""

    def __init__(self, config: uvicorn.Config, announce: Callable[[], None]) -> None:
        super().__init__(config)
        self._announce = announce
        # What fails at the start is told to whoever started the server, in words and not as a traceback.
        logging.getLogger("uvicorn.error").addFilter(lambda _: self.started)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and say so."""
        await super().startup(sockets=sockets)
        if self.started:
            # What is loaded by now stays. Looking through it again and again stops all replies for a tenth of a second.
            gc.collect()
            gc.freeze()
            self._announce()


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(1024)
    except OSError as error:
        raise UsageError(
            f"{host}:{port}: cannot listen there ({error.strerror}).", mend="Choose another --port or --host."
        ) from error
    return listening


def _shown(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
