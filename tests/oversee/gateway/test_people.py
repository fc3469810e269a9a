"""People in the way of a reply: review, override, restricted mode, shadow, policies that change."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from oversee.gateway.conftest import Gateway, Starter
from safetylayers.oversee.identity.people import Person
from safetylayers.oversee.identity.principal import MACHINE, Principal
from safetylayers.oversee.identity.proposals import Proposals
from safetylayers.oversee.modes.change import set_mode
from safetylayers.oversee.modes.mode import Mode
from safetylayers.oversee.modes.stop import stop_everything
from safetylayers.oversee.policy.policy import parse_policy
from safetylayers.oversee.review.held import Kind, State
from safetylayers.oversee.review.overrides import Overrides, Verdict
from safetylayers.oversee.review.replies import HeldReplies

HOLDING = """
version: 1
name: holding
guards:
  codes: {kind: patterns, action: hold, settings: {patterns: {code: 'K-[0-9]{4}'}}}
review: {hold_seconds: 3}
"""
PASSWORD = "correct horse battery"


def principal(person: Person) -> Principal:
    return Principal(id="session", person=person.id, name=person.name, roles=person.roles)


def somebody(gateway: Gateway, name: str, *roles: str) -> Principal:
    return principal(gateway.site.people.create(name, PASSWORD, roles, by=MACHINE))


def desk(gateway: Gateway) -> HeldReplies:
    return HeldReplies(gateway.site.database, gateway.site.log, gateway.site.secrets.vault)


def in_background(ask: Callable[[], httpx.Response]) -> tuple[threading.Thread, list[httpx.Response]]:
    found: list[httpx.Response] = []
    caller = threading.Thread(target=lambda: found.append(ask()))
    caller.start()
    return caller, found


def first_waiting(gateway: Gateway) -> Any:
    for _ in range(200):
        if waiting := desk(gateway).waiting():
            return waiting[0]
        time.sleep(0.01)
    raise AssertionError("nothing is held")


@pytest.mark.parametrize(
    ("decision", "text", "content", "finish"),
    [
        (State.RELEASED, None, "Your code is K-1234.", "stop"),
        (State.EDITED, "Ask at the desk.", "Ask at the desk.", "stop"),
        (State.REJECTED, None, None, "content_filter"),
    ],
)
def test_a_held_reply_waits_for_a_person_and_becomes_what_they_say(
    start: Starter, decision: State, text: str | None, content: str | None, finish: str
) -> None:
    with start(HOLDING) as gateway:
        gateway.upstream.text = "Your code is K-1234."
        reviewer = somebody(gateway, "rita", "reviewer")
        caller, found = in_background(gateway.chat)
        held = first_waiting(gateway)
        assert not found
        assert desk(gateway).read(held.id, by=reviewer).reply == "Your code is K-1234."
        desk(gateway).decide(held.id, decision, by=reviewer, reason="a test", text=text)
        caller.join(5)
        choice = found[0].json()["choices"][0]
        assert choice["finish_reason"] == finish
        assert choice["message"]["content"] == content or (content is None and "K-1234" not in found[0].text)


def test_a_held_reply_that_nobody_looks_at_is_rejected(start: Starter) -> None:
    with start(HOLDING.replace("3}", "0.5}")) as gateway:
        gateway.upstream.text = "Your code is K-1234."
        answer = gateway.chat()
        assert answer.json()["choices"][0]["finish_reason"] == "content_filter"
        assert "K-1234" not in answer.text


def test_in_restricted_mode_everything_is_held(start: Starter) -> None:
    with start("{version: 1, name: plain, review: {hold_seconds: 0.5}}") as gateway:
        assert gateway.chat().json()["choices"][0]["finish_reason"] == "stop"
        set_mode(gateway.site.database, gateway.site.log, Mode.RESTRICTED, by=MACHINE, reason="a test")
        time.sleep(0.3)
        assert gateway.chat().json()["choices"][0]["finish_reason"] == "content_filter"
        assert len(gateway.entries("held")) == 1


def test_an_operators_word_holds_for_one_conversation_or_one_request(start: Starter) -> None:
    with start(HOLDING.replace("action: hold", "action: block")) as gateway:
        gateway.upstream.text = "Your code is K-1234."
        operator = somebody(gateway, "otto", "operator")
        asker = gateway.site.keys.all()[0].owner
        overrides = Overrides(gateway.site.database, gateway.site.log)
        overrides.add(Verdict.ALLOW, conversation="talk-1", asked_by=asker, by=operator, reason="agreed with them")
        blocked = gateway.chat().headers["x-request-id"]
        overrides.add(Verdict.ALLOW, request=blocked, asked_by=asker, by=operator, reason="a mistake")
        overrides.add(Verdict.BLOCK, conversation="talk-2", asked_by=asker, by=operator, reason="they misuse it")
        time.sleep(1.1)

        def ask(conversation: str, **headers: str) -> Any:
            body = {"model": "mock", "messages": [{"role": "user", "content": "Hello"}]}
            with gateway.client() as client:
                headers = {"x-conversation-id": conversation, **headers}
                return client.post("/v1/chat/completions", json=body, headers=headers).json()["choices"][0]

        assert ask("talk-1")["message"]["content"] == gateway.upstream.text
        assert ask("talk-2")["finish_reason"] == "content_filter"
        assert ask("talk-3")["finish_reason"] == "content_filter"
        assert ask("talk-3", **{"x-retry-of": blocked})["message"]["content"] == gateway.upstream.text
        assert ask("talk-3", **{"x-retry-of": blocked})["finish_reason"] == "content_filter"
        assert len(gateway.upstream.seen) == 5


def test_a_policy_in_shadow_logs_and_does_nothing(start: Starter) -> None:
    with start(HOLDING.replace("action: hold", "action: block, shadow: true")) as gateway:
        gateway.upstream.text = "Your code is K-1234."
        assert gateway.chat().json()["choices"][0]["message"]["content"] == gateway.upstream.text
        rulings: Any = gateway.entries("release")[-1].facts["rulings"]
        assert [(ruling["kind"], ruling["action"], ruling["shadow"]) for ruling in rulings] == [("code", "block", True)]


def test_a_reply_is_made_again_and_then_blocked(start: Starter) -> None:
    with start(HOLDING.replace("action: hold", "action: regenerate") + "attempts: 3\n") as gateway:
        gateway.upstream.text = "Your code is K-1234."
        answer = gateway.chat(seed=5)
        assert answer.json()["choices"][0]["finish_reason"] == "content_filter"
        seeds = [body["seed"] for body in gateway.upstream.seen]
        assert seeds[0] == 5
        assert len(set(seeds)) == 3
        gateway.upstream.seen.clear()
        assert gateway.chat(temperature=0).json()["choices"][0]["finish_reason"] == "content_filter"
        assert len(gateway.upstream.seen) == 1  # the same text would come again


def test_steering_where_nothing_steers_is_a_block(start: Starter) -> None:
    with start(HOLDING.replace("action: hold", "action: steer")) as gateway:
        gateway.upstream.text = "Your code is K-1234."
        assert gateway.chat().json()["choices"][0]["finish_reason"] == "content_filter"
        assert len(gateway.upstream.seen) == 1
        gateway.chat(messages=[{"role": "user", "content": "K-1234"}])
        assert len(gateway.upstream.seen) == 1


def test_a_policy_of_two_people_is_in_force_within_seconds(start: Starter) -> None:
    with start() as gateway:
        gateway.upstream.text = "Your code is K-1234."
        proposals = Proposals(gateway.site.database, gateway.site.log)
        ada, bob = somebody(gateway, "ada", "admin"), somebody(gateway, "bob", "admin")
        policy = parse_policy(HOLDING.replace("action: hold", "action: redact"))
        proposal = gateway.site.shelf.propose(proposals, policy, reason="codes leak", by=ada)
        assert "+    action: redact" in proposal.content["difference"]
        assert gateway.chat().json()["choices"][0]["message"]["content"] == gateway.upstream.text
        proposals.approve(proposal.id, gateway.site.shelf.apply, by=bob)
        for _ in range(50):
            content = gateway.chat().json()["choices"][0]["message"]["content"]
            if content == "Your code is [removed].":
                break
            time.sleep(0.1)
        assert content == "Your code is [removed]."
        assert [entry.facts["number"] for entry in gateway.entries("policy")] == [1, 2]


def test_moderation_says_what_guards_find(start: Starter) -> None:
    with start(HOLDING) as gateway, gateway.client() as client:
        found = client.post("/v1/moderations", json={"input": ["K-1234", "nothing"]}).json()
        assert [result["flagged"] for result in found["results"]] == [True, False]
        assert found["results"][0]["categories"] == {"code": True}


def test_whoever_waits_for_a_person_sees_signs_of_life(start: Starter, monkeypatch: pytest.MonkeyPatch) -> None:
    from safetylayers.oversee.gateway import generation

    monkeypatch.setattr(generation, "ALIVE_SECONDS", 0.1)
    monkeypatch.setattr(generation, "LOOK_SECONDS", 0.05)
    with start(HOLDING) as gateway:
        gateway.upstream.text = "Your code is K-1234."
        reviewer = somebody(gateway, "rita", "reviewer")
        caller, found = in_background(gateway.chat)
        held = first_waiting(gateway)
        time.sleep(0.5)
        desk(gateway).decide(held.id, State.EDITED, by=reviewer, reason="a test", text="Ask at the desk.")
        caller.join(5)
        assert found[0].text.startswith("  ")
        assert found[0].json()["choices"][0]["message"]["content"] == "Ask at the desk."


def test_a_stop_while_a_reply_waits_for_a_person_is_told(start: Starter, monkeypatch: pytest.MonkeyPatch) -> None:
    from safetylayers.oversee.gateway import generation

    monkeypatch.setattr(generation, "ALIVE_SECONDS", 0.1)
    monkeypatch.setattr(generation, "LOOK_SECONDS", 0.05)
    with start(HOLDING) as gateway:
        gateway.upstream.text = "Your code is K-1234."
        caller, found = in_background(gateway.chat)
        first_waiting(gateway)
        time.sleep(0.4)
        report = stop_everything(gateway.site.database, gateway.site.log, by=MACHINE, reason="a test")
        assert report.replicas[0].how == "confirmed"
        caller.join(8)
        assert found[0].json()["error"]["code"] == "stopped"
        assert found[0].json()["choices"][0]["finish_reason"] == "content_filter"


def test_a_share_of_the_replies_is_kept_for_people(start: Starter) -> None:
    with start("{version: 1, name: sampling, review: {sample: 1.0}}") as gateway:
        assert gateway.chat().status_code == 200
        for _ in range(100):
            if samples := desk(gateway).waiting(Kind.SAMPLE):
                break
            time.sleep(0.02)
        reviewer = somebody(gateway, "rita", "reviewer")
        assert desk(gateway).read(samples[0].id, by=reviewer).reply == gateway.upstream.text
