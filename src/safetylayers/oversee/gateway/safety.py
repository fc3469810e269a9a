"""What every request has to meet before anything else looks at it."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from safetylayers.oversee.gateway.errors import RequestError, response_of

LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})


class SafeHosts:
    """Turns away requests that call this server by a name that is not its own.

    A web page can have its own name point to this machine and then speak to the gateway as if both were one site. The
    name it was called by is the one thing that it cannot change.
    """

    def __init__(self, app: ASGIApp, *, hosts: frozenset[str]) -> None:
        """Guard an application."""
        self._app, self._hosts = app, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve, or turn away."""
        if scope["type"] in ("http", "websocket") and self._name(scope) not in self._hosts:
            error = RequestError("This server goes by another name.", status=421, code="wrong_host")
            await response_of(error)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    @staticmethod
    def _name(scope: Scope) -> str:
        host = next((value for name, value in scope["headers"] if name == b"host"), b"").decode("latin-1").lower()
        name, _, port = host.rpartition(":")
        return name if name and port.isdigit() else host
