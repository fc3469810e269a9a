"""Held replies: sealed, decided once, by somebody else, in time."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import text

from oversee.identity.house import House
from safetylayers.errors import AccessError, AuditError
from safetylayers.oversee.audit.vault import Vault, new_key
from safetylayers.oversee.identity.principal import Principal
from safetylayers.oversee.review import replies as module
from safetylayers.oversee.review.held import Held, Kind, Outcome, State, Texts
from safetylayers.oversee.review.replies import HeldReplies

TEXTS = Texts("What is the plan?", "The plan is secret.")
FINDINGS = [{"kind": "harm", "score": 0.7}]


@pytest.fixture
def replies(house: House) -> HeldReplies:
    return HeldReplies(house.database, house.log, Vault(new_key()), clock=house.clock)


@pytest.fixture
def caller(house: House) -> Principal:
    return replace(house.principal("carl", "caller", "reviewer"), id="key-1")


@pytest.fixture
def rita(house: House) -> Principal:
    return house.principal("rita", "reviewer")


def hold(replies: HeldReplies, caller: Principal, **wait: float) -> Held:
    return replies.hold(
        TEXTS,
        request="request-1",
        conversation="talk",
        asker=caller,
        findings=FINDINGS,
        wait=timedelta(**(wait or {"minutes": 2})),
    )


def sample(replies: HeldReplies, caller: Principal) -> Held:
    return replies.sample(TEXTS, request="request-1", conversation=None, asker=caller, findings=[])


def test_a_held_reply_waits_with_its_texts_sealed(
    house: House, replies: HeldReplies, caller: Principal, rita: Principal
) -> None:
    held = hold(replies, caller)
    assert replies.waiting() == [held]
    assert (held.state, held.asked_by, held.key, held.findings) == (State.WAITING, caller.person, "key-1", FINDINGS)
    assert replies.read(held.id, by=rita) == TEXTS
    assert replies.outcomes([held.id]) == {}
    with house.database.read() as connection:
        row = connection.execute(text("SELECT * FROM held")).one()
    kept = " ".join(map(str, row)).encode() + bytes(row.sealed)
    assert not any(word in kept for word in (b"secret", b"plan"))
    (entry,) = house.logged("held-read")
    assert (entry.actor, entry.facts["held"]) == (rita.actor, held.id)


def test_a_released_reply_leaves_as_it_is(replies: HeldReplies, caller: Principal, rita: Principal) -> None:
    held = hold(replies, caller)
    decided = replies.decide(held.id, State.RELEASED, by=rita)
    assert (decided.state, decided.decided_by) == (State.RELEASED, rita.person)
    outcome = replies.outcomes([held.id])[held.id]
    assert (outcome.state, outcome.text) == (State.RELEASED, TEXTS.reply)
    assert replies.waiting() == []


def test_an_edited_reply_leaves_as_the_reviewer_wrote_it(
    house: House, replies: HeldReplies, caller: Principal, rita: Principal
) -> None:
    held = hold(replies, caller)
    replies.decide(held.id, State.EDITED, by=rita, reason="too much said", text="There is a plan.")
    outcome = replies.outcomes([held.id])[held.id]
    assert (outcome.state, outcome.text, outcome.reason) == (State.EDITED, "There is a plan.", "too much said")
    (entry,) = house.logged("held-edited")
    assert (entry.actor, entry.payload, entry.subject) == (rita.actor, {"reason": "too much said"}, rita.person)


def test_nothing_of_a_rejected_reply_leaves(replies: HeldReplies, caller: Principal, rita: Principal) -> None:
    held = hold(replies, caller)
    replies.decide(held.id, State.REJECTED, by=rita, reason="no")
    outcome = replies.outcomes([held.id])[held.id]
    assert (outcome.state, outcome.text, outcome.reason) == (State.REJECTED, None, "no")


def test_nobody_reviews_their_own(house: House, replies: HeldReplies, caller: Principal) -> None:
    held = hold(replies, caller)
    with pytest.raises(AccessError, match="their own"):
        replies.decide(held.id, State.RELEASED, by=replace(caller, id="session-1"))
    assert replies.waiting() == [held]


def test_reviewing_and_reading_take_the_right(house: House, replies: HeldReplies, caller: Principal) -> None:
    held = hold(replies, caller)
    for role in ("caller", "operator", "admin", "auditor"):
        other = house.principal(role, role)
        with pytest.raises(AccessError, match="review"):
            replies.decide(held.id, State.RELEASED, by=other)
        with pytest.raises(AccessError, match="review"):
            replies.read(held.id, by=other)


def test_too_late_is_too_late(house: House, replies: HeldReplies, caller: Principal, rita: Principal) -> None:
    held = hold(replies, caller, seconds=30)
    house.clock.forward(seconds=30)
    with pytest.raises(AccessError, match="too long"):
        replies.decide(held.id, State.RELEASED, by=rita)
    assert replies.waiting() == []
    outcome = replies.outcomes([held.id])[held.id]
    assert (outcome.state, outcome.text) == (State.EXPIRED, None)
    assert [entry.facts["held"] for entry in house.logged("held-expired")] == [held.id]
    assert replies.expire_due() == 0


def test_only_what_is_due_expires(house: House, replies: HeldReplies, caller: Principal) -> None:
    hold(replies, caller, seconds=30)
    later, sampled = hold(replies, caller, seconds=60), sample(replies, caller)
    house.clock.forward(seconds=45)
    assert replies.expire_due() == 1
    assert replies.waiting() == [later]
    assert replies.waiting(Kind.SAMPLE) == [sampled]


@pytest.mark.parametrize(
    ("decision", "more"),
    [
        (State.REJECTED, {}),
        (State.EDITED, {"text": "x"}),
        (State.EDITED, {"reason": "why"}),
        (State.RELEASED, {"text": "x"}),
        (State.OK, {}),
        (State.EXPIRED, {"reason": "why"}),
        (State.WAITING, {"reason": "why"}),
    ],
)
def test_incomplete_and_odd_decisions_are_refused(
    replies: HeldReplies, caller: Principal, rita: Principal, decision: State, more: dict[str, str]
) -> None:
    held = hold(replies, caller)
    with pytest.raises(AccessError):
        replies.decide(held.id, decision, by=rita, **more)
    assert replies.waiting() == [held]


def test_an_edit_may_leave_nothing(replies: HeldReplies, caller: Principal, rita: Principal) -> None:
    held = hold(replies, caller)
    replies.decide(held.id, State.EDITED, by=rita, reason="nothing to say", text="")
    assert replies.outcomes([held.id])[held.id].text == ""


def test_of_many_who_decide_at_once_one_does(house: House, replies: HeldReplies, caller: Principal) -> None:
    reviewers = [house.principal(f"rev{number}", "reviewer") for number in range(4)]
    start = threading.Barrier(4)

    def decide(by: Principal, held: str) -> bool:
        start.wait()
        try:
            replies.decide(held, State.EDITED, by=by, reason="mine", text=by.name)
        except AccessError:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        for _ in range(8):
            held = hold(replies, caller).id
            done = list(pool.map(decide, reviewers, [held] * 4))
            won = [by.name for by, decided in zip(reviewers, done, strict=True) if decided]
            assert [replies.outcomes([held])[held].text] == won
    assert len(house.logged("held-edited")) == 8


def test_a_reply_nobody_waits_for_is_closed(
    house: House, replies: HeldReplies, caller: Principal, rita: Principal
) -> None:
    held, decided = hold(replies, caller), hold(replies, caller)
    replies.decide(decided.id, State.RELEASED, by=rita)
    for one in (held, decided):
        replies.abandon(one.id)
    outcomes = replies.outcomes([held.id, decided.id])
    assert [outcomes[one.id].state for one in (held, decided)] == [State.EXPIRED, State.RELEASED]
    assert len(house.logged("held-abandoned")) == 1


@pytest.mark.parametrize("state", ["released", "edited"])
def test_a_row_that_is_made_to_say_released_releases_nothing(
    house: House, replies: HeldReplies, caller: Principal, rita: Principal, state: str
) -> None:
    waiting, rejected = hold(replies, caller), hold(replies, caller)
    replies.decide(rejected.id, State.REJECTED, by=rita, reason="no")
    with house.database.write() as connection:
        connection.execute(text(f"UPDATE held SET state = '{state}'"))
    outcomes = replies.outcomes([waiting.id, rejected.id])
    assert {type(outcome) for outcome in outcomes.values()} == {AuditError}


def test_a_row_that_was_changed_concerns_nobody_else(
    house: House, replies: HeldReplies, caller: Principal, rita: Principal
) -> None:
    changed, other = hold(replies, caller), hold(replies, caller)
    for held in (changed, other):
        replies.decide(held.id, State.RELEASED, by=rita)
    with house.database.write() as connection:
        connection.execute(text("UPDATE held SET state = 'edited' WHERE id = :id"), {"id": changed.id})
    outcomes = replies.outcomes([changed.id, other.id])
    assert isinstance(outcomes[changed.id], AuditError)
    assert isinstance(outcomes[other.id], Outcome)


def test_texts_do_not_move_to_another_row(
    house: House, replies: HeldReplies, caller: Principal, rita: Principal
) -> None:
    one, two = hold(replies, caller), hold(replies, caller)
    with house.database.write() as connection:
        sealed = connection.execute(text("SELECT sealed FROM held WHERE id = :id"), {"id": one.id}).scalar_one()
        connection.execute(text("UPDATE held SET sealed = :sealed WHERE id = :id"), {"sealed": sealed, "id": two.id})
    with pytest.raises(AuditError):
        replies.read(two.id, by=rita)


def test_a_sample_is_judged_after_the_fact(
    house: House, replies: HeldReplies, caller: Principal, rita: Principal
) -> None:
    good, bad = sample(replies, caller), sample(replies, caller)
    assert replies.waiting() == []
    house.clock.forward(days=3)
    replies.decide(good.id, State.OK, by=rita)
    with pytest.raises(AccessError, match="reason"):
        replies.decide(bad.id, State.NOT_OK, by=rita)
    replies.decide(bad.id, State.NOT_OK, by=rita, reason="it tells the plan")
    assert replies.waiting(Kind.SAMPLE) == []
    (entry,) = house.logged("held-not-ok")
    assert entry.payload == {"reason": "it tells the plan"}
    with pytest.raises(AccessError, match="cannot be released"):
        replies.decide(sample(replies, caller).id, State.RELEASED, by=rita)


def test_one_who_is_forgotten_leaves_only_what_waits(
    house: House, replies: HeldReplies, caller: Principal, rita: Principal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PIECE", 2)
    waiting, late = hold(replies, caller, days=9), hold(replies, caller, seconds=30)
    for _ in range(3):
        sample(replies, caller)
    other = sample(replies, replace(caller, id="key-2", person="somebody"))
    house.clock.forward(minutes=1)
    assert replies.forget_of("key-1") == 4
    assert [entry.facts["count"] for entry in house.logged("held-erased")] == [2, 2]
    assert (replies.waiting(), replies.waiting(Kind.SAMPLE)) == ([waiting], [other])
    with pytest.raises(AccessError, match="no such reply"):
        replies.read(late.id, by=rita)


def test_a_reviewer_who_is_forgotten_takes_along_what_they_wrote(
    house: House, replies: HeldReplies, caller: Principal, rita: Principal
) -> None:
    held = hold(replies, caller)
    replies.decide(held.id, State.EDITED, by=rita, reason="too much said", text="There is a plan.")
    assert replies.forget_of(rita.person) == 1
    with house.database.read() as connection:
        assert connection.execute(text("SELECT sealed_decision FROM held")).scalars().all() == [None]
    assert replies.forget_of(rita.person) == 0


def test_old_replies_are_forgotten_and_waiting_ones_are_not(
    house: House, replies: HeldReplies, caller: Principal, rita: Principal
) -> None:
    waiting, decided, old_sample = hold(replies, caller, days=9), hold(replies, caller), sample(replies, caller)
    replies.decide(decided.id, State.RELEASED, by=rita)
    house.clock.forward(days=1)
    fresh = sample(replies, caller)
    assert replies.forget_before(house.clock()) == 2
    assert replies.waiting() == [waiting]
    assert replies.waiting(Kind.SAMPLE) == [fresh]
    with pytest.raises(AccessError, match="no such reply"):
        replies.read(old_sample.id, by=rita)
    assert house.logged("held-forgotten")[0].facts["count"] == 2
