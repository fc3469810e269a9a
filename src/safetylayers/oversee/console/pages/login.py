"""Logging in and out."""

from __future__ import annotations

import secrets

from starlette.responses import Response

from safetylayers.errors import AccessError
from safetylayers.oversee.console.cookies import LOGIN, SESSION, drop_cookie, set_cookie
from safetylayers.oversee.console.troubles import console_status
from safetylayers.oversee.console.visit import OURS, Visit
from safetylayers.oversee.identity.throttle import LockedOutError


async def show(visit: Visit) -> Response:
    """Show the form."""
    return await _form(visit, None)


async def enter(visit: Visit) -> Response:
    """Begin a session, and go to the page that was asked for."""
    sessions, request = visit.house.site.sessions, visit.request
    token = request.cookies.get(LOGIN)
    if not token:  # whose token anybody could make
        raise AccessError("The form to log in is too old, or the browser keeps no cookies.", mend="Load it again.")
    sessions.check_csrf(token, visit.field("csrf"))
    address = request.client.host if request.client else "unknown"
    try:
        login = await visit.run(sessions.log_in, visit.field("name"), visit.form.get("password", ""), address=address)
    except AccessError as error:
        return await _form(visit, error)
    response = visit.go_to(_wanted(visit))
    set_cookie(response, request, SESSION, login.token)
    drop_cookie(response, request, LOGIN)
    return response


async def leave(visit: Visit) -> Response:
    """End the session."""
    await visit.run(visit.house.site.sessions.log_out, visit.token)
    response = visit.go_to("/console/login")
    drop_cookie(response, visit.request, SESSION)
    return response


async def _form(visit: Visit, error: AccessError | None) -> Response:
    """Show the form, with a token that holds for this browser alone."""
    token = visit.request.cookies.get(LOGIN) or secrets.token_urlsafe(32)
    values = {
        "title": "Log in",
        "error": error,
        "shared": None,
        "wanted": _wanted(visit),
        "login_csrf": visit.house.site.sessions.csrf(token),
    }
    response = await visit.page("login.html.j2", values, status=console_status(error) if error else 200)
    set_cookie(response, visit.request, LOGIN, token)
    if isinstance(error, LockedOutError):
        response.headers["retry-after"] = str(error.retry_after_s)
    return response


def _wanted(visit: Visit) -> str:
    """Return the page to go to afterwards; one of ours, whatever the address says."""
    wanted = visit.form.get("next") or visit.query("next")
    return wanted if OURS.fullmatch(wanted) else "/console/"
