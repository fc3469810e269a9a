"""Style sheets and the script."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from starlette.responses import Response

from safetylayers.oversee.console.visit import Visit
from safetylayers.oversee.gateway.errors import RequestError

_FILES = {
    "report.css": ("safetylayers.report", "templates/style.css", "text/css"),
    "console.css": ("safetylayers.oversee.console", "static/console.css", "text/css"),
    "console.js": ("safetylayers.oversee.console", "static/console.js", "text/javascript"),
}
"""The reports' own style sheet comes first: console and reports look alike, and charts need it."""


async def send(visit: Visit) -> Response:
    """Send one of the files."""
    name = visit.request.path_params["name"]
    if name not in _FILES:
        raise RequestError("There is no such file.", status=404, code="not_found")
    package, path, kind = _FILES[name]
    return Response(_read(package, path), media_type=kind)


@cache
def _read(package: str, path: str) -> bytes:
    return files(package).joinpath(path).read_bytes()
