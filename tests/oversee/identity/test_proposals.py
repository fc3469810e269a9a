"""Four eyes: a second person, at the same moment as the change."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from sqlalchemy import Connection

from oversee.identity.house import House
from safetylayers.errors import AccessError, SafetyLayersError
from safetylayers.oversee.identity.principal import MACHINE, Principal
from safetylayers.oversee.identity.proposals import Kind, Proposal, Proposals, State


@pytest.fixture
def proposals(house: House) -> Proposals:
    return Proposals(house.database, house.log, clock=house.clock)


@pytest.fixture
def ada(house: House) -> Principal:
    return house.principal("ada", "admin")


@pytest.fixture
def bob(house: House) -> Principal:
    return house.principal("bob", "admin")


def nothing(_connection: Connection, _proposal: Proposal) -> None:
    """Change nothing."""


def propose(proposals: Proposals, by: Principal) -> Proposal:
    return proposals.propose(Kind.POLICY, {"text": "strict"}, reason="it was too mild", by=by)


def test_a_second_person_approves_and_the_change_is_made(
    house: House, proposals: Proposals, ada: Principal, bob: Principal
) -> None:
    applied: list[Proposal] = []
    proposal = propose(proposals, ada)
    assert proposals.open_ones() == [proposal]
    approved = proposals.approve(proposal.id, lambda _, it: applied.append(it), by=bob, remark="agreed")
    assert applied == [approved]
    assert (approved.state, approved.decided_by, approved.remark) == (State.APPROVED, bob.person, "agreed")
    assert approved.content == {"text": "strict"}
    assert proposals.open_ones() == []
    opened, closed = house.logged("proposal-opened") + house.logged("proposal-approved")
    assert opened.payload == {"reason": "it was too mild", "content": {"text": "strict"}}
    assert opened.facts["content_sha256"] == closed.facts["content_sha256"]
    assert (opened.actor, closed.actor) == (ada.actor, bob.actor)


def test_nobody_approves_their_own_through_whatever_session_or_key(proposals: Proposals, ada: Principal) -> None:
    proposal = propose(proposals, ada)
    for same in (ada, replace(ada, id="session-2"), replace(ada, id="key-1", name="ada (tool)")):
        with pytest.raises(AccessError, match="their own"):
            proposals.approve(proposal.id, nothing, by=same)
    assert proposals.open_ones() == [proposal]


def test_the_right_to_approve_is_needed(house: House, proposals: Proposals, ada: Principal) -> None:
    proposal = propose(proposals, ada)
    with pytest.raises(AccessError, match="approve-policy"):
        proposals.approve(proposal.id, nothing, by=house.principal("eve", "operator"))
    with pytest.raises(AccessError, match="propose-policy"):
        propose(proposals, house.principal("oscar", "operator"))


def test_the_command_line_is_nobodys_second_pair_of_eyes(proposals: Proposals, ada: Principal) -> None:
    proposal = propose(proposals, ada)
    with pytest.raises(AccessError, match="people"):
        proposals.approve(proposal.id, nothing, by=MACHINE)
    with pytest.raises(AccessError, match="people"):
        propose(proposals, MACHINE)


def test_both_have_to_hold_their_right_when_it_is_approved(
    house: House, proposals: Proposals, ada: Principal, bob: Principal
) -> None:
    proposal = propose(proposals, ada)
    house.people.disable(ada.person, by=MACHINE)
    with pytest.raises(AccessError, match="hold their right"):
        proposals.approve(proposal.id, nothing, by=bob)
    house.people.enable(ada.person, by=MACHINE)
    house.people.set_roles(bob.person, ["operator"], by=MACHINE)
    with pytest.raises(AccessError, match="hold their right"):
        proposals.approve(proposal.id, nothing, by=bob)  # a session from before the change


def test_what_fails_undoes_the_approval(house: House, proposals: Proposals, ada: Principal, bob: Principal) -> None:
    def fail(_connection: Connection, _proposal: Proposal) -> None:
        raise SafetyLayersError("it does not work")

    proposal = propose(proposals, ada)
    with pytest.raises(SafetyLayersError, match="does not work"):
        proposals.approve(proposal.id, fail, by=bob)
    assert proposals.open_ones() == [proposal]
    assert house.logged("proposal-approved") == []


def test_of_many_who_approve_at_once_one_succeeds(house: House, proposals: Proposals, ada: Principal) -> None:
    others = [house.principal(f"admin{number}", "admin") for number in range(6)]
    proposal = propose(proposals, ada)
    applied: list[str] = []

    def approve(by: Principal) -> bool:
        try:
            proposals.approve(proposal.id, lambda *_: applied.append(by.person), by=by)
        except AccessError:
            return False
        return True

    with ThreadPoolExecutor(6) as pool:
        won = [by.person for by, done in zip(others, pool.map(approve, others), strict=True) if done]
    assert len(won) == 1
    assert applied == won
    assert len(house.logged("proposal-approved")) == 1


def test_approval_and_withdrawal_at_once_do_not_both_succeed(
    proposals: Proposals, ada: Principal, bob: Principal
) -> None:
    for _ in range(5):
        proposal = propose(proposals, ada)
        with ThreadPoolExecutor(2) as pool:
            tries = [
                pool.submit(proposals.approve, proposal.id, nothing, by=bob),
                pool.submit(proposals.withdraw, proposal.id, by=ada),
            ]
        failed = [attempt for attempt in tries if isinstance(attempt.exception(), AccessError)]
        assert len(failed) == 1


def test_a_proposal_is_turned_down_with_a_reason(proposals: Proposals, ada: Principal, bob: Principal) -> None:
    proposal = propose(proposals, ada)
    with pytest.raises(AccessError, match="reason"):
        proposals.reject(proposal.id, by=bob, remark=" ")
    assert proposals.reject(proposal.id, by=bob, remark="too strict").state is State.REJECTED
    with pytest.raises(AccessError, match="rejected already"):
        proposals.approve(proposal.id, nothing, by=bob)


def test_only_the_proposer_withdraws(proposals: Proposals, ada: Principal, bob: Principal) -> None:
    proposal = propose(proposals, ada)
    with pytest.raises(AccessError, match="another person"):
        proposals.withdraw(proposal.id, by=bob)
    assert proposals.withdraw(proposal.id, by=replace(ada, id="session-2")).state is State.WITHDRAWN


def test_a_proposal_expires(house: House, proposals: Proposals, ada: Principal, bob: Principal) -> None:
    proposal = propose(proposals, ada)
    house.clock.forward(hours=24)
    with pytest.raises(AccessError, match="expired"):
        proposals.approve(proposal.id, nothing, by=bob)
    assert proposals.open_ones() == []
    assert proposals.expire_due() == 1
    assert proposals.expire_due() == 0
    (entry,) = house.logged("proposal-expired")
    assert entry.facts["proposal"] == proposal.id


@pytest.mark.parametrize("reason", ["", "  \n", "x" * 2001, "a\0b", "\ud800"])
def test_a_proposal_needs_a_reason(proposals: Proposals, ada: Principal, reason: str) -> None:
    with pytest.raises(AccessError, match="reason"):
        proposals.propose(Kind.POLICY, {}, reason=reason, by=ada)


def test_an_unknown_proposal_is_refused(proposals: Proposals, bob: Principal) -> None:
    with pytest.raises(AccessError, match="no such proposal"):
        proposals.approve("nothing", nothing, by=bob)
