"""Overrides: for one request or conversation of one caller, for a while."""

from __future__ import annotations

from oversee.console.conftest import Console

FIELDS = {"place": "conversation", "id": "c-1", "verdict": "block", "life": "15 minutes", "reason": "a <b>test</b>"}


def caller(gateway: Console) -> str:
    return next(person.id for person in gateway.site.people.everybody() if person.name == "local-callers")


def finish(gateway: Console, conversation: str) -> str:
    with gateway.client() as client:
        body = {"model": "mock", "messages": [{"role": "user", "content": "Hello"}]}
        headers = {"x-conversation-id": conversation}
        return client.post("/v1/chat/completions", json=body, headers=headers).json()["choices"][0]["finish_reason"]


def test_an_override_holds_until_it_is_ended(gateway: Console) -> None:
    ada = gateway.logged_in("ada", "operator")
    assert ada.submit("/console/overrides", **FIELDS, asked_by=caller(gateway)).status_code == 303
    page = ada.get("/console/overrides").text
    assert "conversation c-1" in page
    assert "a &lt;b&gt;test&lt;/b&gt;" in page
    assert (finish(gateway, "c-1"), finish(gateway, "c-2")) == ("content_filter", "stop")
    [override] = gateway.house.overrides.active()
    assert 0 < (override.expires - override.created).total_seconds() == 15 * 60
    assert ada.submit("/console/overrides/lift", override=override.id).status_code == 303
    assert finish(gateway, "c-1") == "stop"


def test_an_override_that_makes_no_sense_is_refused(gateway: Console) -> None:
    ada = gateway.logged_in("ada", "operator")
    me = next(person.id for person in gateway.site.people.everybody() if person.name == "ada")
    good = {**FIELDS, "asked_by": caller(gateway)}
    for wrong, status in [
        ({"verdict": "maybe"}, 400),
        ({"life": "for ever"}, 400),
        ({"place": "everywhere"}, 400),
        ({"id": " "}, 403),
        ({"reason": ""}, 403),
        ({"asked_by": me}, 403),
    ]:
        assert ada.submit("/console/overrides", **{**good, **wrong}).status_code == status, wrong
    assert gateway.house.overrides.active() == []


def test_the_form_is_filled_in_as_the_address_says(gateway: Console) -> None:
    ada = gateway.logged_in("ada", "operator")
    page = ada.get("/console/overrides", params={"place": "request", "id": '"><b>', "asked_by": caller(gateway)}).text
    assert 'value="&#34;&gt;&lt;b&gt;"' in page
    assert f'value="{caller(gateway)}" selected' in page
    assert 'value="request" checked' in page
