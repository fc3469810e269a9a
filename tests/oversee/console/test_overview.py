"""The mode: one person stops, two let it run again."""

from __future__ import annotations

import threading
import time

import pytest

from oversee.console.conftest import Console
from safetylayers.oversee.modes.mode import Mode


def proposal(gateway: Console) -> str:
    [found] = gateway.site.proposals.open_ones()
    return found.id


def test_one_person_stops_and_the_stop_is_measured(gateway: Console) -> None:
    ada = gateway.logged_in("ada", "operator")
    assert ada.submit("/console/mode/stop", reason="a test").headers["location"] == "/console/?done=stopped"
    assert gateway.house.keeper.state.mode is Mode.STOPPED
    page = ada.get("/console/").text
    assert "it said so" in page
    assert "a test" in page
    assert gateway.chat().status_code == 503


def test_it_takes_another_person_to_go_on(gateway: Console) -> None:
    ada, ben = gateway.logged_in("ada", "operator"), gateway.logged_in("ben", "operator")
    ada.submit("/console/mode/stop", reason="a test")
    ada.submit("/console/mode/propose", mode="run", reason="the test is over", back="/console/live")
    alone = ada.submit("/console/mode/approve", proposal=proposal(gateway))
    assert alone.status_code == 403
    assert "Nobody approves their own proposal." in alone.text
    assert gateway.chat().status_code == 503
    assert "the test is over" in ben.get("/console/status").text
    approved = ben.submit("/console/mode/approve", proposal=proposal(gateway), back="/console/live")
    assert approved.headers["location"] == "/console/live?done=approved"
    assert gateway.chat().status_code == 200


def test_a_proposal_is_rejected_with_a_reason_or_withdrawn(gateway: Console) -> None:
    ada, ben = gateway.logged_in("ada", "operator"), gateway.logged_in("ben", "operator")
    ada.submit("/console/mode/stop", reason="a test")
    ada.submit("/console/mode/propose", mode="restricted", reason="carefully")
    assert ben.submit("/console/mode/reject", proposal=proposal(gateway), remark=" ").status_code == 403
    assert ben.submit("/console/mode/reject", proposal=proposal(gateway), remark="too soon").status_code == 303
    ada.submit("/console/mode/propose", mode="run", reason="now")
    assert ben.submit("/console/mode/withdraw", proposal=proposal(gateway)).status_code == 403
    assert ada.submit("/console/mode/withdraw", proposal=proposal(gateway)).status_code == 303
    assert gateway.site.proposals.open_ones() == []


def test_restricting_takes_one_person(gateway: Console) -> None:
    ada = gateway.logged_in("ada", "operator")
    assert ada.submit("/console/mode/restrict", reason="a test").headers["location"] == "/console/?done=restricted"
    assert "Restricted" in ada.get("/console/status").text


def test_what_the_mode_does_not_allow_is_said_in_words(gateway: Console) -> None:
    ada = gateway.logged_in("ada", "operator")
    needless = ada.submit("/console/mode/propose", mode="run", reason="a test")
    assert needless.status_code == 409
    assert "needs no approval" in needless.text
    assert ada.submit("/console/mode/propose", mode="faster", reason="a test").status_code == 400
    assert ada.submit("/console/mode/stop").status_code == 400


@pytest.mark.parametrize("back", ["https://elsewhere.example/", "//elsewhere.example", "/v1/models", ""])
def test_a_form_leads_back_to_pages_of_the_console_alone(gateway: Console, back: str) -> None:
    ada = gateway.logged_in("ada", "operator")
    ada.submit("/console/mode/stop", reason="a test")
    ada.submit("/console/mode/propose", mode="run", reason="a test")
    withdrawn = ada.submit("/console/mode/withdraw", proposal=proposal(gateway), back=back)
    assert withdrawn.headers["location"] == "/console/?done=withdrawn"


def test_only_people_who_may_stop_see_the_button(gateway: Console) -> None:
    assert "Stop everything now" in gateway.logged_in("ada", "operator").get("/console/").text
    assert "Stop everything now" not in gateway.logged_in("audrey", "auditor").get("/console/").text


def test_a_stop_does_not_wait_for_threads_that_all_wait(gateway: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    ada = gateway.logged_in("ada", "operator")
    data = {"csrf": ada.token(), "reason": "a test"}
    slow = threading.Event()
    monkeypatch.setattr(gateway.house.site.people, "everybody", lambda: slow.wait(20) and [])
    others = [threading.Thread(target=ada.get, args=("/console/status",)) for _ in range(40)]
    for other in others:
        other.start()
    try:
        with gateway.visitor() as second:
            second.cookies = ada.cookies
            begun = time.monotonic()
            assert second.post("/console/mode/stop", data=data).status_code == 303
            assert time.monotonic() - begun < 3
        assert not slow.is_set()
    finally:
        slow.set()
        for other in others:
            other.join()
