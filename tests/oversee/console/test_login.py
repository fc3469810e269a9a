"""Logging in and out: cookies, tokens, origins, and the headers of every response."""

from __future__ import annotations

import httpx
import pytest

from oversee.console.conftest import Console
from oversee.identity.house import PASSWORD
from safetylayers.oversee.console.serving import HEADERS
from safetylayers.oversee.identity.principal import MACHINE


def cookies(response: httpx.Response) -> dict[str, str]:
    """Each cookie's name and attributes."""
    return {line.partition("=")[0]: line.lower() for line in response.headers.get_list("set-cookie")}


def test_a_right_password_opens_the_console_and_a_wrong_one_does_not(gateway: Console) -> None:
    gateway.person("ada", "operator")
    visitor = gateway.visitor()
    wrong = visitor.log_in("ada", "not the right password")
    assert wrong.status_code == 403
    assert "Name or password is wrong." in wrong.text
    assert visitor.get("/console/").headers["location"] == "/console/login?next=/console/"
    right = visitor.log_in("ada")
    assert (right.status_code, right.headers["location"]) == (303, "/console/")
    assert "Running" in visitor.get("/console/").text


def test_the_session_cookie_is_out_of_reach_of_scripts_and_other_sites(gateway: Console) -> None:
    gateway.person("ada", "operator")
    visitor = gateway.visitor()
    cookie = cookies(visitor.log_in("ada"))["safetylayers_session"]
    assert {"httponly", "samesite=strict", "path=/console"} <= {part.strip() for part in cookie.split(";")}
    assert "secure" not in cookie  # plain HTTP within this machine


@pytest.mark.parametrize("host", ["console.example.org", "10.0.0.1:8000"])
def test_the_session_cookie_is_for_encrypted_connections_wherever_others_can_reach(gateway: Console, host: str) -> None:
    gateway.person("ada", "operator")
    visitor = gateway.visitor()
    found = visitor.get("/console/login", headers={"host": host})
    assert "; secure" in cookies(found)["safetylayers_login"]


def test_logging_out_ends_the_session(gateway: Console) -> None:
    visitor = gateway.logged_in("ada", "operator")
    token = visitor.cookies["safetylayers_session"]
    assert visitor.submit("/console/logout").headers["location"] == "/console/login"
    visitor.cookies.set("safetylayers_session", token, path="/console")
    assert visitor.get("/console/").status_code == 303


def test_a_person_who_is_locked_out_is_out_at_once(gateway: Console) -> None:
    visitor = gateway.logged_in("ada", "operator")
    person = next(found for found in gateway.site.people.everybody() if found.name == "ada")
    gateway.site.people.disable(person.id, by=MACHINE)
    assert visitor.get("/console/").status_code == 303


def test_a_form_without_its_token_changes_nothing(gateway: Console) -> None:
    visitor, other = gateway.logged_in("ada", "operator"), gateway.logged_in("ben", "operator")
    for csrf in ("", "0" * 64, other.token()):
        refused = visitor.post("/console/mode/restrict", data={"csrf": csrf, "reason": "a test"})
        assert refused.status_code == 403
        assert "does not come from this session" in refused.text
    without = visitor.post("/console/login", data={"csrf": "0" * 64, "name": "ada", "password": PASSWORD})
    assert without.status_code == 403
    made = {"csrf": gateway.site.sessions.csrf(""), "name": "ada", "password": PASSWORD}
    assert gateway.visitor().post("/console/login", data=made).status_code == 403
    assert [entry.facts["to"] for entry in gateway.entries("mode-changed")] == ["run"]


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"origin": "https://elsewhere.example"},
        {"origin": "null"},
        {"origin": ""},
    ],
)
def test_a_form_from_another_site_is_refused_even_with_its_token(gateway: Console, headers: dict[str, str]) -> None:
    visitor = gateway.logged_in("ada", "operator")
    data = {"csrf": visitor.token(), "reason": "a test"}
    refused = visitor.post("/console/mode/restrict", data=data, headers=headers)
    assert refused.status_code == 403
    assert "does not come from a page of this server" in refused.text


def test_guessing_is_slowed_down(gateway: Console) -> None:
    gateway.person("ada", "operator")
    visitor = gateway.visitor()
    for _ in range(6):
        visitor.log_in("ada", "not the right password")
    locked = visitor.log_in("ada")
    assert locked.status_code == 429
    assert int(locked.headers["retry-after"]) >= 1


@pytest.mark.parametrize("wanted", ["//elsewhere.example/", "https://elsewhere.example", "/v1/models", "/console/\\x"])
def test_nobody_is_sent_elsewhere_after_logging_in(gateway: Console, wanted: str) -> None:
    gateway.person("ada", "operator")
    visitor = gateway.visitor()
    data = {"csrf": visitor.token("/console/login"), "name": "ada", "password": PASSWORD, "next": wanted}
    assert visitor.post("/console/login", data=data).headers["location"] == "/console/"
    data |= {"csrf": visitor.token("/console/login"), "next": "/console/live"}
    assert visitor.post("/console/login", data=data).headers["location"] == "/console/live"


def test_every_response_carries_the_headers(gateway: Console) -> None:
    auditor, nobody = gateway.logged_in("audrey", "auditor"), gateway.visitor()
    paths = ["/console/", "/console/status", "/console/audit/0/proof", "/console/map", "/console/nowhere"]
    paths += ["/console", "/console/static/console.js", "/console/static/../conftest.py", "/console/review"]
    responses = [auditor.get(path) for path in paths]
    responses += [nobody.get("/console/"), nobody.get("/console/status"), nobody.get("/console/login")]
    posted = ["/console/mode/stop", "/console/", "/console/audit/verify"]
    responses += [auditor.post(path, data={"csrf": "none"}) for path in posted]
    for response in responses:
        assert {name: response.headers.get(name) for name in HEADERS} == dict(HEADERS), response.url
    statuses = [response.status_code for response in responses]
    assert statuses == [200, 200, 200, 200, 404, 303, 200, 404, 403, 303, 401, 200, 403, 404, 403]


def test_forms_that_are_none_are_refused(gateway: Console) -> None:
    visitor = gateway.logged_in("ada", "operator")
    form = {"content-type": "application/x-www-form-urlencoded"}
    for content, headers, status in [
        (b"{}", {"content-type": "application/json"}, 415),
        (b"x=" + b"y" * 2_000_001, form, 413),
        (b"csrf=%ff", form, 400),
        (b"\xff=1", form, 400),
        (b"reason=%00", form, 400),
        (b"&".join([b"a=1"] * 51), form, 400),
    ]:
        assert visitor.post("/console/mode/restrict", content=content, headers=headers).status_code == status, content


def test_strangers_send_short_forms_only(gateway: Console) -> None:
    visitor = gateway.visitor()
    form = {"content-type": "application/x-www-form-urlencoded"}
    assert visitor.post("/console/login", content=b"name=" + b"a" * 20_000, headers=form).status_code == 413
