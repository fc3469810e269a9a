"""A whole gateway with its console, people who work there, and a browser."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, sync_playwright

from oversee.console.browsing import CHROMIUM, FLAGS, Visit
from oversee.gateway.conftest import Gateway
from oversee.identity.house import PASSWORD, WEAK
from oversee.servers import Upstream, running
from safetylayers.oversee.console import add_console
from safetylayers.oversee.engine.base import Engine
from safetylayers.oversee.engine.upstream import UpstreamEngine
from safetylayers.oversee.gateway.app import create_app
from safetylayers.oversee.gateway.house import House
from safetylayers.oversee.gateway.opening import open_house
from safetylayers.oversee.gateway.site import Site
from safetylayers.oversee.identity.passwords import Passwords
from safetylayers.oversee.identity.people import People, Person
from safetylayers.oversee.identity.principal import MACHINE, Principal
from safetylayers.oversee.identity.sessions import Sessions
from safetylayers.oversee.policy.policy import parse_policy

PLAIN = "version: 1\nname: plain\n"
HOLDING = """
version: 1
name: holding
guards:
  secrets: {kind: patterns, action: hold, settings: {patterns: {code: 'K-[0-9]{4}'}}}
"""


@dataclass
class Console(Gateway):
    """A running gateway with its console."""

    houses: list[House] = field(default_factory=list)
    visitors: list[Visitor] = field(default_factory=list)

    @property
    def house(self) -> House:
        return self.houses[0]

    def person(self, name: str, *roles: str) -> Person:
        return self.site.people.create(name, PASSWORD, roles, by=MACHINE)

    def principal(self, name: str, *roles: str) -> Principal:
        person = self.person(name, *roles)
        return Principal(id="session-1", person=person.id, name=name, roles=person.roles)

    def visitor(self) -> Visitor:
        self.visitors.append(Visitor(self.address))
        return self.visitors[-1]

    def logged_in(self, name: str, *roles: str) -> Visitor:
        """Somebody new, who is logged in."""
        self.person(name, *roles)
        visitor = self.visitor()
        assert visitor.log_in(name).status_code == 303
        return visitor


class Visitor(httpx.Client):
    """A browser without eyes: it keeps cookies, and sends forms with their token and their origin."""

    def __init__(self, address: str) -> None:
        super().__init__(base_url=address, timeout=20, headers={"origin": address})

    def token(self, path: str = "/console/") -> str:
        page = self.get(path).text
        return page.partition('name="csrf" value="')[2].partition('"')[0]

    def log_in(self, name: str, password: str = PASSWORD) -> httpx.Response:
        csrf = self.token("/console/login")
        return self.post("/console/login", data={"csrf": csrf, "name": name, "password": password})

    def submit(self, path: str, **fields: str) -> httpx.Response:
        return self.post(path, data={"csrf": self.token(), **fields})


Starter = Callable[..., AbstractContextManager[Console]]


@pytest.fixture
def start(tmp_path: Path) -> Starter:
    """Start gateways: with a policy, in front of a server that says what it is told or of an engine of the test's."""

    @contextmanager
    def begin(policy: str = PLAIN, *, engine: Engine | None = None) -> Iterator[Console]:
        upstream, houses = Upstream(), []
        site = Site.open(tmp_path / "data")
        quick = Passwords(WEAK)
        site.people = People(site.database, site.log, passwords=quick)
        site.sessions = Sessions(site.database, site.log, passwords=quick)
        path = site.first_key()
        assert path is not None

        @asynccontextmanager
        async def opened() -> AsyncIterator[House]:
            made = engine or UpstreamEngine(f"{behind}/v1")
            async with open_house(site, made, replica="one", first_policy=parse_policy(policy)) as house:
                houses.append(house)
                yield house

        with running(upstream.app) as behind:
            app = create_app(opened)
            add_console(app)
            with running(app) as address:
                console = Console(address, path.read_text().strip(), site, upstream, houses)
                try:
                    yield console
                finally:
                    for visitor in console.visitors:
                        visitor.close()
        site.close()

    return begin


@pytest.fixture
def gateway(start: Starter) -> Iterator[Console]:
    """A running gateway with a policy that finds nothing."""
    with start() as console:
        yield console


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A real browser. While it is open, its event loop is this thread's: so no longer than one module."""
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture
def troubles() -> Iterator[list[str]]:
    """What scripts and the security policy complained about; nothing, at the end."""
    found: list[str] = []
    yield found
    assert found == []


@pytest.fixture
def visit(browser: Browser, troubles: list[str]) -> Iterator[Visit]:
    """Open the console as somebody, each in a browser of their own."""
    visit = Visit(browser, troubles)
    yield visit
    visit.close()
