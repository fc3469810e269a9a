"""Who may see the page: whoever was given its address, at a browser that calls this machine by its own name."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MOST_BYTES = 16_384
"""Of a form; forms are read before anybody looks at who sends them."""
LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})
HEADERS: Mapping[str, str] = MappingProxyType(
    {
        "content-security-policy": (
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; form-action 'self'; "
            "base-uri 'none'; frame-ancestors 'none'"
        ),
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
        "cache-control": "no-store",
        "cross-origin-opener-policy": "same-origin",
        "cross-origin-resource-policy": "same-origin",
    }
)
"""Texts that strangers wrote are shown here: no script or style but our own, no frame, no copy in a cache."""


class Guard:
    """Turns away requests that are too long or call this machine by another name, and puts `HEADERS` on every response.

    A web page can have its own name point to this machine and then read what is here as if both were one site. The name
    that it called is the one thing that it cannot change.

    It stands around the whole application and is none of its middleware: those do not see what becomes of errors that
    nobody foresaw.
    """

    def __init__(self, app: ASGIApp) -> None:
        """Guard an application."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve, or turn away."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        refused = None if scope["type"] == "lifespan" else _refused(Headers(scope=scope))
        await (refused or self._app)(scope, receive, send_with_headers)


def _refused(headers: Headers) -> Response | None:
    if _host(headers) not in LOOPBACK:
        return PlainTextResponse("This server goes by another name.", status_code=421)
    length = headers.get("content-length", "0")
    if "transfer-encoding" in headers or not length.isdecimal() or int(length) > MOST_BYTES:
        return PlainTextResponse("No form of this page is that long.", status_code=413)
    return None


def _host(headers: Headers) -> str:
    host = headers.get("host", "").lower()
    name, _, port = host.rpartition(":")
    return name if name and port.isdigit() else host


@dataclass
class Visitor:
    """A browser that was let in."""

    csrf: str
    """Has to come with every form: pages of other servers on this machine count as the same site."""
    name: str
    """Who is at it; empty until they have said."""


class Visitors:
    """Everybody who was let in since the start."""

    def __init__(self, token: str, name: str) -> None:
        """Let in whoever has the token; all of them go by the name, where there is one."""
        self._token, self._name = token, name
        self._known: dict[str, Visitor] = {}
        # Cookies do not know ports: two of these pages would take each other's, were the names the same.
        self._cookie = f"safetylayers_ask_{hashlib.sha256(token.encode()).hexdigest()[:8]}"

    def enter(self, token: str, response: Response) -> bool:
        """Give a browser its cookie, if it has the token; return whether it does."""
        if not hmac.compare_digest(token.encode(), self._token.encode()):
            return False
        session = secrets.token_urlsafe(32)
        self._known[session] = Visitor(secrets.token_urlsafe(32), self._name)
        # Not "strict": whoever follows a link to the address from another site would arrive without it. Forms have CSRF
        # tokens, and nothing else changes anything.
        response.set_cookie(self._cookie, session, httponly=True, samesite="lax")
        return True

    def find(self, request: Request) -> Visitor | None:
        """Return whose request it is; None for strangers."""
        return self._known.get(request.cookies.get(self._cookie, ""))
