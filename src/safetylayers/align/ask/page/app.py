"""The page: one question at a time, with forms that work without scripts."""

from __future__ import annotations

import hmac
from functools import cache
from importlib.resources import files
from typing import Annotated

from fastapi import APIRouter, Depends, FastAPI, Form, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse, Response
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.exceptions import HTTPException as StarletteError

from safetylayers.align.ask.asking import Asking
from safetylayers.align.ask.labels import checked_name
from safetylayers.align.ask.page.guard import Guard, Visitor, Visitors
from safetylayers.errors import SafetyLayersError, UsageError
from safetylayers.report.text import visible

router = APIRouter()
_FILES = {
    "report.css": ("safetylayers.report", "templates/style.css", "text/css"),
    "ask.css": ("safetylayers.align.ask.page", "static/ask.css", "text/css"),
    "ask.js": ("safetylayers.align.ask.page", "static/ask.js", "text/javascript"),
}


def create_app(asking: Asking, *, token: str, by: str = "") -> Guard:
    """Return the page as an application.

    Args:
        asking: what is asked.
        token: that lets a browser in, as `/?token=...`.
        by: who answers; by itself everybody is asked for their name once.

    Raises:
        UsageError: `by` is no name.
    """
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.state.asking, app.state.visitors = asking, Visitors(token, checked_name(by) if by else "")
    app.add_exception_handler(StarletteError, _say_refused)
    app.add_exception_handler(SafetyLayersError, _say_trouble)
    app.add_exception_handler(RequestValidationError, _say_malformed)
    app.include_router(router)
    return Guard(app)


def _visitor(request: Request) -> Visitor:
    visitors: Visitors = request.app.state.visitors
    if (found := visitors.find(request)) is None:
        raise HTTPException(403, "Open the address that was printed when the page was started.")
    return found


def _with_csrf(visitor: Annotated[Visitor, Depends(_visitor)], csrf: Annotated[str, Form()] = "") -> Visitor:
    if not hmac.compare_digest(csrf.encode(), visitor.csrf.encode()):
        raise HTTPException(403, "This does not come from the page. Load it again.")
    return visitor


def _asking(request: Request) -> Asking:
    found: Asking = request.app.state.asking
    return found


Sent = Annotated[Visitor, Depends(_with_csrf)]
"""Whoever sends a form of the page."""
Asked = Annotated[Asking, Depends(_asking)]


@router.get("/")
def show(request: Request, asking: Asked, token: str = "") -> Response:
    """Show the next question; or let a browser in."""
    if token:
        onward = RedirectResponse("/", 303)
        if not request.app.state.visitors.enter(token, onward):
            raise HTTPException(403, "This address is not, or no longer, the one that was printed.")
        return onward
    visitor = _visitor(request)
    if not visitor.name:
        return _page("name", csrf=visitor.csrf)
    shown = asking.next(visitor.name)
    return _page("question", csrf=visitor.csrf, name=visitor.name, shown=shown, far=asking.progress(visitor.name))


@router.post("/name")
def take_name(visitor: Sent, name: Annotated[str, Form()] = "") -> Response:
    """Take the name of who answers, once."""
    name = checked_name(name)
    if visitor.name not in ("", name):
        raise HTTPException(409, f"Whoever is at this browser answers as {visitor.name}.")
    visitor.name = name
    return RedirectResponse("/", 303)


@router.post("/answer")
def take_answer(
    visitor: Sent, asking: Asked, question: Annotated[str, Form()] = "", key: Annotated[str, Form()] = ""
) -> Response:
    """Keep an answer."""
    asking.answer(visitor.name, question, key)
    return RedirectResponse("/", 303)


@router.post("/undo")
def undo(visitor: Sent, asking: Asked) -> Response:
    """Take the last answer back."""
    asking.undo(visitor.name)
    return RedirectResponse("/", 303)


@router.get("/static/{name}")
def send_file(name: str) -> Response:
    """Send a style sheet or the script; there is nothing in them that strangers may not see."""
    if name not in _FILES:
        raise HTTPException(404, "There is no such file.")
    package, path, kind = _FILES[name]
    return Response(_read(package, path), media_type=kind)


@cache
def _read(package: str, path: str) -> bytes:
    return files(package).joinpath(path).read_bytes()


async def _say_refused(_request: Request, error: Exception) -> Response:
    refused = error if isinstance(error, StarletteError) else StarletteError(500)
    return _page("message", status=refused.status_code, message=refused.detail, mend="")


async def _say_malformed(_request: Request, _error: Exception) -> Response:
    return _page("message", status=400, message="This is no form of this page.", mend="Load the page again.")


async def _say_trouble(_request: Request, error: Exception) -> Response:
    """Say what a user can mend; what nobody foresaw ends as a plain error 500."""
    trouble = error if isinstance(error, SafetyLayersError) else SafetyLayersError(str(error))
    status = 400 if isinstance(error, UsageError) else 500
    return _page("message", status=status, message=trouble.message, mend=trouble.mend)


def _page(template: str, status: int = 200, **content: object) -> Response:
    text = _templates().get_template(f"{template}.html.j2").render(content)
    return Response(text, status, media_type="text/html")


@cache
def _templates() -> Environment:
    return Environment(
        loader=PackageLoader("safetylayers.align.ask.page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_show,
    )


def _show(value: object) -> object:
    """Make characters visible that would hide or reorder what a person judges."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value
