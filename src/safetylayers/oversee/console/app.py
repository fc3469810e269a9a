"""Putting the console on the gateway's application."""

from __future__ import annotations

from fastapi import FastAPI
from starlette.responses import RedirectResponse, Response

from safetylayers.oversee.console.endpoint import Endpoint
from safetylayers.oversee.console.serving import served
from safetylayers.oversee.console.table import ENDPOINTS
from safetylayers.oversee.console.visit import Console, Visit
from safetylayers.oversee.gateway.errors import RequestError


def add_console(app: FastAPI) -> None:
    """Add the console's routes to an application that `create_app` has made."""
    app.state.console = Console(ENDPOINTS)
    for endpoint in (*ENDPOINTS, *_ELSEWHERE):
        app.add_route(endpoint.path, served(endpoint), methods=[endpoint.method])


async def _home(_visit: Visit) -> Response:
    return RedirectResponse("/console/", 303)


async def _missing(_visit: Visit) -> Response:
    raise RequestError("There is no such page here.", status=404, code="not_found")


_ELSEWHERE = (
    Endpoint("GET", "/console", "nothing", "the way in", _home),
    Endpoint("GET", "/console/{rest:path}", "a session", "what is not there", _missing),
    Endpoint("POST", "/console/{rest:path}", "nothing", "what is not there", _missing),
)
"""Where no page is: something answers all the same, so that everything under /console/ has the console's headers."""
