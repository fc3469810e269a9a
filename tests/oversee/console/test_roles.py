"""Every endpoint by every role: what the tables say is what happens, and what the documentation says."""

from __future__ import annotations

from pathlib import Path

import pytest

from oversee.console.conftest import Console
from safetylayers.oversee.console.endpoint import allows
from safetylayers.oversee.console.roles_page import API, roles_page
from safetylayers.oversee.console.table import ENDPOINTS
from safetylayers.oversee.gateway.endpoints import ROUTES
from safetylayers.oversee.identity.principal import MACHINE
from safetylayers.oversee.identity.roles import Role

ROLES_PAGE = Path(__file__).parents[3] / "docs" / "reference" / "roles.md"
PLACES = {
    "{name}": "console.js",
    "{held}": "none",
    "{decision}": "released",
    "{index:int}": "0",
    "{model:path}": "mock",
}
FIELDS = {
    "reason": "a test",
    "remark": "a test",
    "proposal": "none",
    "mode": "run",
    "reply": "none",
    "place": "conversation",
    "id": "none",
    "asked_by": "somebody",
    "verdict": "block",
    "life": "1 hour",
    "override": "none",
    "policy": "version: 1\nname: other\n",
    "name": "nobody",
    "password": "nobody's",
}
BODIES = {
    "/v1/chat/completions": {"model": "mock", "messages": [{"role": "user", "content": "Hello"}]},
    "/v1/completions": {"model": "mock", "prompt": "Hello"},
    "/v1/moderations": {"input": "Hello"},
}
LAST = ("/console/logout",)
"""Afterwards nobody is logged in."""


def filled(path: str) -> str:
    for name, value in PLACES.items():
        path = path.replace(name, value)
    return path


@pytest.mark.parametrize("role", Role)
def test_the_console_allows_each_role_what_the_table_says(gateway: Console, role: Role) -> None:
    visitor = gateway.logged_in("somebody", role)
    csrf = visitor.token()
    wrong = []
    for endpoint in sorted(ENDPOINTS, key=lambda endpoint: endpoint.path in LAST):
        if endpoint.method == "GET":
            response = visitor.get(filled(endpoint.path))
        else:
            response = visitor.post(filled(endpoint.path), data={"csrf": csrf, **FIELDS})
        refused = response.status_code == 403 and "it takes the right" in response.text
        assert response.status_code not in (401, 500), (endpoint.path, response.text)
        if refused is endpoint.allows([role]):
            wrong.append((endpoint.method, endpoint.path, response.status_code))
    assert wrong == []


def test_the_console_is_shut_to_whoever_is_not_logged_in(gateway: Console) -> None:
    visitor = gateway.visitor()
    for endpoint in ENDPOINTS:
        path = filled(endpoint.path)
        response = visitor.get(path) if endpoint.method == "GET" else visitor.post(path, data=FIELDS)
        if endpoint.public:
            assert response.status_code != 401
        elif endpoint.method == "GET" and not endpoint.part:
            assert response.headers["location"].startswith("/console/login?next=")
        else:
            assert response.status_code == 401


@pytest.mark.parametrize("role", Role)
def test_the_api_allows_each_role_what_the_table_says(gateway: Console, role: Role) -> None:
    person = gateway.person("somebody", role)
    key = gateway.site.keys.create("a key", owner=person.id, by=MACHINE, roles=[role]).token
    with gateway.client(key=key) as client, gateway.visitor() as keyless:
        for (method, path), needs in API.items():
            ways = {"json": BODIES[path]} if path in BODIES else {}
            status = client.request(method, filled(path), **ways).status_code
            assert (status == 200) is allows(needs, [role]), path
            assert status in (200, 403)
            without = keyless.request(method, filled(path), **ways).status_code
            assert without == (200 if needs == "nothing" else 401)


def test_the_tables_know_every_route() -> None:
    assert {(method, path) for method, path, _ in ROUTES} | {("GET", "/openapi.json")} == set(API)
    assert len({(endpoint.method, endpoint.path) for endpoint in ENDPOINTS}) == len(ENDPOINTS)


def test_the_documentation_says_what_the_tables_say() -> None:
    assert ROLES_PAGE.read_text("utf-8") == roles_page()
