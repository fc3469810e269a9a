"""People at real browsers."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from playwright.sync_api import Browser, BrowserContext, Page, expect

from oversee.identity.house import PASSWORD

if TYPE_CHECKING:
    from oversee.console.conftest import Console

CHROMIUM = shutil.which("chromium")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


class Visit:
    """People at their browsers."""

    def __init__(self, browser: Browser, troubles: list[str]) -> None:
        self._browser, self._troubles = browser, troubles
        self._contexts: list[BrowserContext] = []

    def __call__(self, gateway: Console, name: str = "", *roles: str, **options: object) -> Page:
        context = self._browser.new_context(**options)  # type: ignore[arg-type]
        self._contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(10_000)
        page.on("pageerror", lambda error: self._troubles.append(str(error)))
        page.on("console", lambda said: self._troubles.append(said.text) if "Content Security" in said.text else None)
        page.goto(f"{gateway.address}/console/")
        if name:
            if roles:
                gateway.person(name, *roles)
            log_in(page, name, PASSWORD)
            expect(page.get_by_role("heading", name="Overview")).to_be_visible()
        return page

    def close(self) -> None:
        for context in self._contexts:
            context.close()


def log_in(page: Page, name: str, password: str) -> None:
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Log in").click()
