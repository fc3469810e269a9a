"""What every request to the console has to pass, and what every response carries."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from safetylayers.errors import AccessError, SafetyLayersError
from safetylayers.oversee.console.cookies import SESSION
from safetylayers.oversee.console.endpoint import Endpoint
from safetylayers.oversee.console.forms import MOST_BYTES, MOST_BYTES_OF_STRANGERS, check_origin, read_form
from safetylayers.oversee.console.troubles import show_error
from safetylayers.oversee.console.visit import Visit
from safetylayers.oversee.gateway.errors import RequestError

logger = logging.getLogger(__name__)

HEADERS: Mapping[str, str] = MappingProxyType(
    {
        "content-security-policy": (
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
            "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
        ),
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
        "cache-control": "no-store",
        "cross-origin-opener-policy": "same-origin",
        "cross-origin-resource-policy": "same-origin",
    }
)
"""Texts that strangers wrote are shown here: no script or style but our own, no frame, no copy in a cache."""


def served(endpoint: Endpoint) -> Callable[[Request], Awaitable[Response]]:
    """Return what answers requests to an endpoint."""

    async def serve(request: Request) -> Response:
        visit = Visit(request.app.state.house, request.app.state.console, request, urgent=endpoint.urgent)
        try:
            response = await _answer(endpoint, visit)
        except SafetyLayersError as error:
            response = await show_error(visit, error)
        except Exception:
            logger.exception("a page of the console failed")
            response = await show_error(visit, SafetyLayersError("The console failed.", mend="See the server's log."))
        response.headers.update(HEADERS)
        return response

    return serve


async def _answer(endpoint: Endpoint, visit: Visit) -> Response:
    """Check in this order: where the request comes from, who sends it, whether they may, and the page's token."""
    request, posted = visit.request, endpoint.method == "POST"
    if posted:
        check_origin(request)
    if not endpoint.public:
        try:
            await _identify(visit)
        except AccessError as error:
            if posted or endpoint.part:
                raise RequestError(str(error), status=401, code="not_logged_in") from error
            return RedirectResponse(f"/console/login?next={quote(request.url.path)}", 303)
        endpoint.require(visit.principal)
    if posted:
        visit.form = await read_form(request, most=MOST_BYTES_OF_STRANGERS if endpoint.public else MOST_BYTES)
        if not endpoint.public:
            visit.house.site.sessions.check_csrf(visit.token, visit.form.get("csrf", ""))
    return await endpoint.handler(visit)


async def _identify(visit: Visit) -> None:
    """Set who it is. Raises AccessError."""
    visit.token = visit.request.cookies.get(SESSION, "")
    visit.principal = await visit.run(visit.house.site.sessions.authenticate, visit.token)
