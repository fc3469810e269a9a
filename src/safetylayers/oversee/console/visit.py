"""One request to the console, as handlers see it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from safetylayers.errors import AccessError
from safetylayers.oversee.console.endpoint import Endpoint
from safetylayers.oversee.console.rendering import environment
from safetylayers.oversee.console.status import read_status
from safetylayers.oversee.gateway.errors import RequestError
from safetylayers.oversee.identity.principal import Principal

if TYPE_CHECKING:
    from safetylayers.oversee.gateway.house import House

Result = TypeVar("Result")
OURS = re.compile(r"/console/[\w./-]*")
DONE: Mapping[str, str] = {
    "stopped": "Stopped.",
    "restricted": "Restricted.",
    "proposed": "Proposed. A second person has to approve it.",
    "approved": "Approved.",
    "rejected": "Rejected.",
    "withdrawn": "Withdrawn.",
    "reply-stopped": "The request is stopped: nothing more of it leaves.",
    "reply-refused": "The gate turns the reply into a refusal.",
    "decided": "Decided.",
    "override-set": "The override is in force.",
    "override-lifted": "The override has ended.",
}
"""What a page says after something was done, by the name in its address."""


class Console:
    """What belongs to the console as a whole."""

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        """Begin."""
        self.navigation = [endpoint for endpoint in endpoints if endpoint.title]
        self.verifying = asyncio.Lock()
        """Held while the log is verified: that takes a processor for long."""
        self.urgent = ThreadPoolExecutor(max_workers=4, thread_name_prefix="console-urgent")
        """Threads that nothing but the stop uses."""


class Visit:
    """One request."""

    def __init__(self, house: House, console: Console, request: Request, *, urgent: bool = False) -> None:
        """Begin with nobody known."""
        self.house, self.console, self.request = house, console, request
        self._executor = console.urgent if urgent else None
        self.token = ""
        self.form: Mapping[str, str] = {}
        self._principal: Principal | None = None

    @property
    def principal(self) -> Principal:
        """Who it is. Raises AccessError where nobody is logged in."""
        if self._principal is None:
            raise AccessError("Nobody is logged in.", mend="Log in.")
        return self._principal

    @principal.setter
    def principal(self, principal: Principal) -> None:
        self._principal = principal

    async def run(self, call: Callable[..., Result], *args: Any, **options: Any) -> Result:
        """Return what a call that blocks gives; it runs in a thread.

        The threads that all share may all be waiting, for a slow store or for passwords to be verified. What is urgent
        has its own.
        """
        return await asyncio.get_running_loop().run_in_executor(self._executor, partial(call, *args, **options))

    def forget(self) -> None:
        """Go on as if nobody were logged in."""
        self._principal = None

    def field(self, name: str) -> str:
        """Return a field of the form, with line ends as the rest of the world writes them. Raises RequestError."""
        if name not in self.form:
            raise RequestError(f"The form has no field {name!r}.")
        return self.form[name].replace("\r\n", "\n")

    def query(self, name: str) -> str:
        """Return a field of the address, empty where it is not there."""
        return self.request.query_params.get(name, "").strip()

    async def page(self, template: str, values: Mapping[str, Any], *, status: int = 200) -> Response:
        """Return a page, with what every page shows around it. Raises StoreError."""
        shown = dict(values)
        shown["shared"] = None
        if self._principal is not None:
            shown["shared"] = await self.run(read_status, self.house, self._principal)
        return await self._render(template, shown, status)

    async def part(self, template: str, values: Mapping[str, Any]) -> Response:
        """Return a part of a page."""
        return await self._render(template, values, 200)

    async def _render(self, template: str, values: Mapping[str, Any], status: int) -> Response:
        me = self._principal
        around = {
            "me": me,
            "csrf": self.house.site.sessions.csrf(self.token) if me else "",
            "path": self.request.url.path,
            "done": DONE.get(self.query("done")),
            "replica": self.house.replica,
            "navigation": [page for page in self.console.navigation if me and page.allows(me.roles)],
        }
        html = await self.run(environment().get_template(template).render, {**around, **values})
        # Lone surrogates are shown by their code; where a text has to stay as it is, they cannot be sent.
        return HTMLResponse(html.encode("utf-8", "replace"), status)

    def go_to(self, path: str, done: str = "") -> Response:
        """Send the browser to a page, which says what was done."""
        return RedirectResponse(f"{path}?done={done}" if done else path, 303)

    def go_back(self, done: str) -> Response:
        """Send the browser back to the page that the form was on."""
        back = self.form.get("back", "")
        return self.go_to(back if OURS.fullmatch(back) else "/console/", done)
