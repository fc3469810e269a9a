"""The gateway's web application."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from safetylayers.errors import SafetyLayersError
from safetylayers.oversee.gateway import endpoints
from safetylayers.oversee.gateway.errors import RequestError, body_of, response_of
from safetylayers.oversee.gateway.house import House
from safetylayers.oversee.gateway.openapi import describe
from safetylayers.oversee.gateway.safety import SafeHosts

logger = logging.getLogger(__name__)
Opener = Callable[[], AbstractAsyncContextManager[House]]
Handler = Callable[[House, Request], Awaitable[Response]]


def create_app(open_house: Opener, *, hosts: frozenset[str] | None = None) -> FastAPI:
    """Return the application; it opens its house when it starts and closes it when it ends.

    Args:
        open_house: gives the running gateway.
        hosts: names that requests may call this server by; None for any. Web pages elsewhere that had their own name
            point here (DNS rebinding) are turned away by it.
    """
    from safetylayers import __version__

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        try:
            async with open_house() as house:
                app.state.house = house
                yield
        except Exception as error:
            app.state.failure = error  # for whoever started the server
            raise

    app = FastAPI(
        title="safetylayers", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None
    )
    app.add_exception_handler(SafetyLayersError, _told)
    app.add_exception_handler(Exception, _failed)
    app.add_exception_handler(404, _missing)
    app.add_exception_handler(405, _wrong_method)
    for method, path, handler in endpoints.ROUTES:
        app.add_route(path, _route(path, handler), methods=[method])
    app.add_route("/openapi.json", _openapi, methods=["GET"])
    if hosts is not None:
        app.add_middleware(SafeHosts, hosts=hosts)
    return app


def _route(path: str, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
    async def serve(request: Request) -> Response:
        house: House = request.app.state.house
        begun = time.perf_counter()
        status = 500
        try:
            response = await handler(house, request)
            status = response.status_code
        except SafetyLayersError as error:
            response = response_of(error)
            status = response.status_code
        finally:
            house.metrics.requests.labels(path, str(status)).inc()
            house.metrics.seconds.labels(path).observe(time.perf_counter() - begun)
        return response

    return serve


async def _openapi(_request: Request) -> JSONResponse:
    return JSONResponse(describe())


async def _told(_request: Request, error: Exception) -> Response:
    return response_of(error if isinstance(error, SafetyLayersError) else SafetyLayersError("The gateway failed."))


async def _failed(_request: Request, _error: Exception) -> Response:
    """Say that something failed, and nothing of what: that is in the server's own log."""
    return JSONResponse(body_of(SafetyLayersError("The gateway failed.")), status_code=500)


async def _missing(request: Request, _error: Any) -> Response:
    return response_of(RequestError(f"There is no {request.url.path}.", status=404, code="not_found"))


async def _wrong_method(request: Request, error: Any) -> Response:
    answer = response_of(RequestError(f"{request.method} is not for this path.", status=405, code="wrong_method"))
    answer.headers.update(getattr(error, "headers", None) or {})
    return answer
