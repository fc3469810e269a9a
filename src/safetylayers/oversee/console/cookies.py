"""The console's cookies: scripts cannot read them, and no other site's page makes a browser send them."""

from __future__ import annotations

import ipaddress

from starlette.requests import Request
from starlette.responses import Response

SESSION = "safetylayers_session"
LOGIN = "safetylayers_login"
"""Stands in for a session until there is one, so that the form to log in has a token as well."""


def set_cookie(response: Response, request: Request, name: str, value: str) -> None:
    """Give the browser a cookie that it forgets when it is closed."""
    response.set_cookie(name, value, path="/console", httponly=True, samesite="strict", secure=_is_secure(request))


def drop_cookie(response: Response, request: Request, name: str) -> None:
    """Take a cookie back."""
    response.delete_cookie(name, path="/console", httponly=True, samesite="strict", secure=_is_secure(request))


def _is_secure(request: Request) -> bool:
    """Return whether the cookie is for encrypted connections only: always, but for plain HTTP within one machine.

    Both ends have to be this machine. A proxy in front is one end only, and is called by another name.
    """
    client = request.client.host if request.client else ""
    within = _is_loopback(client) and _is_loopback(request.url.hostname or "")
    return not (within and request.url.scheme == "http")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
