"""What goes wrong, in words on a page, with the HTTP status that says what kind it is."""

from __future__ import annotations

from starlette.responses import Response

from safetylayers.errors import ModeError, PolicyError, SafetyLayersError, UsageError
from safetylayers.oversee.console.visit import Visit
from safetylayers.oversee.gateway.errors import status_of
from safetylayers.oversee.identity.throttle import LockedOutError

_STATUS: tuple[tuple[type[SafetyLayersError], int], ...] = (
    (LockedOutError, 429),
    (ModeError, 409),
    (PolicyError, 400),
    (UsageError, 400),
)
"""Those that mean something else to a person at a form than to a program that asks the model."""
_TITLES = {
    400: "This makes no sense",
    401: "You are not logged in",
    403: "This is not allowed",
    404: "There is nothing here",
    409: "The mode does not allow this",
    429: "Wait a moment",
    503: "The gateway cannot do this now",
}


def console_status(error: SafetyLayersError) -> int:
    """Return an error's HTTP status."""
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 0) or status_of(error)


def title_of(status: int) -> str:
    """Return an error page's heading."""
    return _TITLES.get(status, "This did not work")


async def show_error(visit: Visit, error: SafetyLayersError) -> Response:
    """Return the page that says what is wrong and what to do about it."""
    status = console_status(error)
    values = {"title": title_of(status), "error": error, "status": status}
    try:
        response = await visit.page("error.html.j2", values, status=status)
    except SafetyLayersError:  # what every page shows cannot be read either
        visit.forget()
        response = await visit.page("error.html.j2", values, status=status)
    if isinstance(error, LockedOutError):
        response.headers["retry-after"] = str(error.retry_after_s)
    return response
