"""Watching requests as they come, and stopping one of them."""

from __future__ import annotations

from html import unescape

from oversee.console.asking import ask, until
from oversee.console.conftest import HOLDING, Console, Starter
from oversee.console.scripted import Scripted

WORDS = {"All ": -7.0, "is ": -3.0, "<b>well</b> ": 0.5, "\u202eagain ": 3.0}


def running(gateway: Console) -> str:
    """The name of the one running reply, once something of it was made."""
    until(lambda: gateway.house.live.running and gateway.house.live.running[0].draft.text)
    return gateway.house.live.running[0].ask.id


def test_scores_are_drawn_over_the_text_with_what_the_gate_did(start: Starter) -> None:
    with start(engine=Scripted(WORDS, pause=0.05, rounds=20)) as gateway:
        audrey = gateway.logged_in("audrey", "auditor")
        asked = ask(gateway, "What <i>is</i> it?", stream=True)
        until(lambda: "U+202E" in audrey.get("/console/live/replies").text)
        page = audrey.get("/console/live").text
        assert '<span class="s l0" title="risk -7.00 (harm -1.00)">All </span>' in page
        assert 'title="risk +0.50 (harm -1.00); gate open at 0.50"' in page
        assert "&lt;b&gt;well&lt;/b&gt;" in page
        assert "⟨U+202E⟩" in page
        assert "\u202e" not in page
        assert "What &lt;i&gt;is&lt;/i&gt; it?" in page
        assert "monitor:reply: risk <strong>steer</strong>" in page
        assert "Stop this request" not in page
        gateway.house.engine.halt()
        asked.wait()


def test_stopping_one_request_ends_it_and_no_other(start: Starter) -> None:
    with start(engine=Scripted(WORDS, pause=0.02, rounds=25)) as gateway:
        ada = gateway.logged_in("ada", "operator")
        first, other = ask(gateway, stream=True), ask(gateway, stream=True)
        name = running(gateway)
        stopped = ada.submit("/console/live/stop", reply=name, reason="a test")
        assert stopped.headers["location"] == "/console/live?done=reply-stopped"
        until(lambda: gateway.house.live.find(name) is None)
        found = sorted([first.wait().finish, other.wait().finish], key=str)
        assert found == ["content_filter", "stop"]
        [entry] = gateway.entries("reply-stopped")
        assert (entry.facts["reply"], entry.payload) == (name, {"reason": "a test"})
        assert entry.actor.startswith(entry.subject)


def test_stopping_a_request_holds_against_an_override(start: Starter) -> None:
    with start(engine=Scripted(WORDS, pause=0.02, rounds=50)) as gateway:
        ada = gateway.logged_in("ada", "operator")
        caller = next(person for person in gateway.site.people.everybody() if person.name == "local-callers")
        ada.submit(
            "/console/overrides",
            place="conversation",
            id="c-1",
            asked_by=caller.id,
            verdict="allow",
            life="1 hour",
            reason="a test",
        )
        asked = ask(gateway, stream=True, extra_headers={"x-conversation-id": "c-1"})
        name = running(gateway)
        page = unescape(ada.get("/console/live/replies").text)
        assert "allowed by an override" in page
        assert f"/console/overrides?place=conversation&id=c-1&asked_by={caller.id}" in page
        ada.submit("/console/live/stop", reply=name, reason="a test")
        assert asked.wait().finish == "content_filter"


def test_turning_a_reply_into_a_refusal_is_for_the_gate_to_do(start: Starter) -> None:
    engine = Scripted(WORDS, pause=0.02, rounds=50)
    with start(engine=engine) as gateway:
        ada = gateway.logged_in("ada", "operator")
        asked = ask(gateway, stream=True)
        name = running(gateway)
        assert ada.submit("/console/live/refuse", reply=name, reason="a test").status_code == 303
        assert asked.wait().text.endswith("No.")
        assert [entry.facts["reply"] for entry in gateway.entries("reply-refused")] == [name]


def test_what_cannot_be_done_is_said(gateway: Console) -> None:
    ada = gateway.logged_in("ada", "operator")
    assert ada.submit("/console/live/stop", reply="none", reason="a test").status_code == 404
    gateway.upstream.pause = 0.05
    gateway.upstream.text = "word " * 100
    asked = ask(gateway, stream=True)
    name = running(gateway)
    assert "Turn it into a refusal" not in ada.get("/console/live/replies").text
    assert ada.submit("/console/live/refuse", reply=name, reason="a test").status_code == 502
    assert (
        ada.submit("/console/live/stop", reply=name, reason=" ").status_code == 303
    )  # a stop is never refused for that
    asked.wait()


def test_a_held_reply_is_shown_as_waiting(start: Starter) -> None:
    with start(HOLDING) as gateway:
        rita = gateway.logged_in("rita", "reviewer")
        gateway.upstream.text = "It is K-1234."
        asked = ask(gateway)
        until(lambda: "waits for a reviewer" in rita.get("/console/live/replies").text)
        [held] = gateway.house.desk.replies.waiting()
        rita.submit(f"/console/review/{held.id}/released")
        asked.wait()
