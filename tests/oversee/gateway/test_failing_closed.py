"""Whatever fails, nothing unchecked and nothing unlogged leaves, and the caller is told."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import threading
import time
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from oversee.gateway.conftest import Gateway, Starter
from safetylayers.oversee.guards import registry
from safetylayers.oversee.guards.base import Finding, Passage, Verdict
from safetylayers.oversee.guards.settings import GuardSettings
from safetylayers.oversee.identity.principal import MACHINE
from safetylayers.oversee.modes.change import set_mode
from safetylayers.oversee.modes.mode import Mode
from safetylayers.oversee.policy.tables import policies

POLICY = """
version: 1
name: odd
guards:
  odd: {kind: odd, reads: [%(reads)s], on_error: %(on_error)s, timeout_seconds: 0.3, settings: {does: %(does)s}}
review: {hold_seconds: 1}
"""


class OddSettings(GuardSettings):
    """What the guard does wrong."""

    does: str


class OddGuard:
    """A guard that does something wrong."""

    kinds = ("odd",)

    def __init__(self, name: str, settings: OddSettings) -> None:
        self.name, self._does = name, settings.does

    async def check(self, passage: Passage) -> Verdict:
        if self._does == "raise":
            raise RuntimeError("secret: K-1234")
        if self._does == "hang":
            await asyncio.sleep(30)
        if self._does == "run-ahead":
            return Verdict(len(passage.text) + 5)
        if self._does == "lag":
            return Verdict(passage.start)
        if self._does == "invent":
            return Verdict(len(passage.text), (Finding(kind="unheard-of"),))
        return Verdict(len(passage.text))


@pytest.fixture(autouse=True)
def _odd_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry._BUILT_IN, "odd", (OddSettings, OddGuard))


def policy(does: str, *, reads: str = "output", on_error: str = "block") -> str:
    return POLICY % {"does": does, "reads": reads, "on_error": on_error}


def stream(gateway: Gateway, **fields: Any) -> list[Any]:
    """Return a stream's events, [DONE] as a text."""
    body = {"model": "mock", "messages": [{"role": "user", "content": "Hello"}], "stream": True, **fields}
    with gateway.client() as client, client.stream("POST", "/v1/chat/completions", json=body) as answer:
        lines = [line.removeprefix("data: ") for line in answer.iter_lines() if line.startswith("data: ")]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]


def text_of(events: list[Any]) -> str:
    found = [choice["delta"].get("content") for event in events if "choices" in event for choice in event["choices"]]
    return "".join(text for text in found if text)


@pytest.mark.parametrize("does", ["raise", "hang", "run-ahead", "lag", "invent"])
@pytest.mark.parametrize("streamed", [False, True])
def test_a_guard_without_a_sound_verdict_lets_nothing_out(start: Starter, does: str, streamed: bool) -> None:
    with start(policy(does)) as gateway:
        gateway.upstream.pause = 0.01
        if streamed:
            events = stream(gateway)
            assert text_of(events) == ""
            assert events[-1]["error"]["code"] == "guard_failed"
            assert "K-1234" not in json.dumps(events)
        else:
            answer = gateway.chat()
            assert answer.status_code == 503
            assert answer.json()["error"]["code"] == "guard_failed"
            assert "K-1234" not in answer.text
        assert not gateway.entries("release")
        assert gateway.entries("withhold")


@pytest.mark.parametrize("does", ["raise", "hang"])
def test_a_request_that_could_not_be_read_does_not_reach_the_model(start: Starter, does: str) -> None:
    with start(policy(does, reads="input")) as gateway:
        assert gateway.chat().status_code == 503
        assert not gateway.upstream.seen


def test_a_policy_may_say_that_a_guards_error_holds_or_allows(start: Starter) -> None:
    with start(policy("raise", on_error="allow")) as gateway:
        assert gateway.chat().json()["choices"][0]["message"]["content"] == gateway.upstream.text
    with start(policy("raise", on_error="hold"), folder="other") as gateway:
        answer = gateway.chat().json()["choices"][0]
        assert answer["finish_reason"] == "content_filter"


@pytest.mark.parametrize("streamed", [False, True])
def test_without_its_database_nothing_leaves(start: Starter, streamed: bool) -> None:
    with start(lease=30.0) as gateway:
        gateway.upstream.pause = 0.05 if streamed else 1.0
        gateway.upstream.text = "word " * 40
        blocker = sqlite3.connect(gateway.site.folder / "store.db", isolation_level=None)
        found: list[Any] = []
        caller = threading.Thread(target=lambda: found.append(stream(gateway) if streamed else gateway.chat()))
        caller.start()
        time.sleep(0.5)
        blocker.execute("BEGIN EXCLUSIVE")
        try:
            assert not found
            caller.join(15)
        finally:
            blocker.execute("ROLLBACK")
            blocker.close()
        if streamed:
            assert found[0][-1]["error"]["code"] in ("store_unavailable", "log_unavailable")
            logged = "".join(str(entry.payload["text"]) for entry in gateway.entries("release") if entry.payload)
            assert text_of(found[0]) == logged[: len(text_of(found[0]))]
            assert len(text_of(found[0])) < len(gateway.upstream.text)
        else:
            assert found[0].status_code == 503


def test_a_full_disk_stops_what_leaves(start: Starter) -> None:
    with start(lease=30.0) as gateway:
        assert gateway.chat().status_code == 200
        with gateway.site.database.engine.connect() as connection:
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()

        from sqlalchemy import event

        def full(connection: Any, _record: Any) -> None:
            connection.execute(f"PRAGMA max_page_count={pages}")

        event.listen(gateway.site.database.engine, "connect", full)
        gateway.site.database.engine.dispose()
        answers = [gateway.chat(messages=[{"role": "user", "content": "x" * 20_000}]) for _ in range(3)]
        assert {answer.status_code for answer in answers} == {503}
        assert "full" in answers[-1].text
        assert not [entry for entry in gateway.entries("release") if entry.index > 10]


def test_a_stop_ends_a_running_stream_with_an_error_and_answers_nothing_more(start: Starter) -> None:
    with start() as gateway:
        gateway.upstream.pause = 0.05
        gateway.upstream.text = "word " * 400
        found: list[Any] = []
        caller = threading.Thread(target=lambda: found.extend(stream(gateway)))
        caller.start()
        time.sleep(0.7)
        began = time.monotonic()
        set_mode(gateway.site.database, gateway.site.log, Mode.STOPPED, by=MACHINE, reason="a test")
        caller.join(5)
        assert time.monotonic() - began < 1.0
        assert text_of(found).startswith("word word")
        assert found[-1]["error"]["code"] == "stopped"
        assert "a test" in found[-1]["error"]["message"]
        answer = gateway.chat()
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "stopped"
        sent = gateway.upstream.sent
        time.sleep(0.3)
        assert gateway.upstream.sent <= sent + 1
        with gateway.client() as client:
            assert client.get("/ready").status_code == 503


def test_callers_who_leave_end_the_generation(start: Starter) -> None:
    with start() as gateway:
        gateway.upstream.pause = 0.05
        gateway.upstream.text = "word " * 200
        body = {"model": "mock", "messages": [{"role": "user", "content": "Hello"}], "stream": True}
        with gateway.client() as client, client.stream("POST", "/v1/chat/completions", json=body) as answer:
            next(answer.iter_lines())
        time.sleep(0.5)
        sent = gateway.upstream.sent
        time.sleep(0.5)
        assert gateway.upstream.sent <= sent + 1
        gateway.upstream.pause = 1.0
        with pytest.raises(httpx.ReadTimeout), gateway.client() as client:
            client.post("/v1/chat/completions", json={**body, "stream": False}, timeout=0.3)
        gateway.upstream.pause = 0.0
        assert gateway.chat().status_code == 200


def test_only_so_many_requests_are_served_at_once(start: Starter) -> None:
    with start("{version: 1, name: narrow, limits: {concurrent: 1}}") as gateway:
        gateway.upstream.pause = 0.6
        first = threading.Thread(target=gateway.chat)
        first.start()
        time.sleep(0.3)
        answer = gateway.chat()
        assert answer.status_code == 429
        assert answer.headers["retry-after"]
        first.join()
        gateway.upstream.pause = 0.0
        assert gateway.chat().status_code == 200


def test_a_server_called_by_another_name_does_not_answer(start: Starter) -> None:
    from starlette.testclient import TestClient

    from safetylayers.oversee.gateway.app import create_app
    from safetylayers.oversee.gateway.safety import LOOPBACK

    def none() -> Any:
        raise AssertionError("never opened")

    client = TestClient(create_app(none, hosts=LOOPBACK), base_url="http://evil.example")
    assert client.get("/health").status_code == 421


def test_a_replica_that_cannot_enforce_an_approved_policy_does_as_in_restricted_mode(start: Starter) -> None:
    with start("{version: 1, name: lax, restricted: block}") as gateway:
        assert gateway.chat().json()["choices"][0]["finish_reason"] == "stop"
        stricter = "{version: 1, name: stricter, guards: {g: {kind: not-installed-here}}}"
        with gateway.site.database.write() as connection:
            values = {"number": 2, "hash": "0" * 64, "text": stricter, "since": datetime.now(UTC), "proposal": None}
            connection.execute(policies.insert().values(values))
        end = time.monotonic() + 10
        while gateway.site.shelf.behind is None:
            assert time.monotonic() < end, "nobody looked"
            time.sleep(0.05)
        assert gateway.chat().json()["choices"][0]["finish_reason"] == "content_filter"
        assert not gateway.upstream.seen[1:]
        assert "behind" in json.dumps(gateway.entries()[-1].facts)
