"""Policies in the database: the first one, and those of two people."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from sqlalchemy import text

from safetylayers.errors import PolicyError, StoreError
from safetylayers.oversee.audit.keys import LogKeys
from safetylayers.oversee.audit.log import AuditLog
from safetylayers.oversee.identity.people import People
from safetylayers.oversee.identity.principal import MACHINE, Principal
from safetylayers.oversee.identity.proposals import Kind, Proposals
from safetylayers.oversee.policy.policy import Policy, default_policy, parse_policy
from safetylayers.oversee.policy.shelf import RETRY_LOOKS, PolicyShelf
from safetylayers.oversee.store.database import Database

MINE = parse_policy("{version: 1, name: mine}")
OTHER = parse_policy("{version: 1, name: other}")


class Office:
    """A shelf, proposals, and two admins."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.database = database
        self.log = AuditLog(database, LogKeys.open(folder / "keys"), origin="example.org/log")
        self.shelf = PolicyShelf(database, self.log)
        self.proposals = Proposals(database, self.log)
        people = People(database, self.log)
        made = [people.create(name, "a long enough password", ["admin"], by=MACHINE) for name in ("ada", "bob")]
        self.ada, self.bob = [Principal(id="s", person=p.id, name=p.name, roles=p.roles) for p in made]


@pytest.fixture
def office(database: Database, tmp_path: Path) -> Office:
    return Office(database, tmp_path)


def test_the_first_policy_is_the_deployers_or_the_default(office: Office) -> None:
    office.shelf.open()
    assert office.shelf.current.policy == default_policy()
    assert office.shelf.number == 1


def test_another_file_than_the_policy_in_force_is_refused(office: Office) -> None:
    office.shelf.open(MINE)
    again = PolicyShelf(office.database, office.log)
    again.open(MINE)
    assert again.current.policy == MINE
    with pytest.raises(PolicyError, match="propose"):
        PolicyShelf(office.database, office.log).open(OTHER)


def test_two_people_change_it_and_replicas_follow(office: Office) -> None:
    office.shelf.open(MINE)
    other_replica = PolicyShelf(office.database, office.log)
    other_replica.open()
    proposal = office.shelf.propose(office.proposals, OTHER, reason="better", by=office.ada)
    assert "+name: other" in proposal.content["difference"]
    asyncio.run(other_replica.look())
    assert other_replica.current.policy == MINE
    office.proposals.approve(proposal.id, office.shelf.apply, by=office.bob)
    asyncio.run(other_replica.look())
    assert other_replica.current.policy == OTHER
    kinds = [(entry.kind, entry.facts["number"]) for entry in office.log.read(kinds=["policy"])]
    assert kinds == [("policy", 1), ("policy", 2)]


def test_a_proposal_is_void_once_another_policy_came_in_between(office: Office) -> None:
    office.shelf.open(MINE)
    first = office.shelf.propose(office.proposals, OTHER, reason="one", by=office.ada)
    second = office.shelf.propose(office.proposals, default_policy(), reason="two", by=office.ada)
    office.proposals.approve(second.id, office.shelf.apply, by=office.bob)
    with pytest.raises(PolicyError, match="since"):
        office.proposals.approve(first.id, office.shelf.apply, by=office.bob)
    assert office.shelf.newest().policy == default_policy()


def test_what_changes_nothing_or_cannot_work_is_not_proposed(office: Office) -> None:
    office.shelf.open(MINE)
    with pytest.raises(PolicyError, match="already"):
        office.shelf.propose(office.proposals, MINE, reason="same", by=office.ada)
    unknown = parse_policy("{version: 1, name: bad, guards: {g: {kind: unheard-of}}}")
    with pytest.raises(PolicyError, match="unheard-of"):
        office.shelf.propose(office.proposals, unknown, reason="odd", by=office.ada)
    misnamed = parse_policy("{version: 1, name: bad, guards: {g: {kind: personal, actions: {emial: block}}}}")
    with pytest.raises(PolicyError, match="emial"):
        office.shelf.propose(office.proposals, misnamed, reason="odd", by=office.ada)


def test_a_proposal_about_something_else_is_no_policy(office: Office) -> None:
    office.shelf.open(MINE)
    people = People(office.database, office.log)
    made = [people.create(name, "a long enough password", ["operator"], by=MACHINE) for name in ("olga", "omar")]
    olga, omar = [Principal(id="s", person=p.id, name=p.name, roles=p.roles) for p in made]
    proposal = office.proposals.propose(Kind.MODE, {"policy": OTHER.as_yaml(), "before": 1}, reason="sly", by=olga)
    with pytest.raises(PolicyError, match="not about the policy"):
        office.proposals.approve(proposal.id, office.shelf.apply, by=omar)
    assert office.shelf.newest().policy == MINE


async def look(shelf: PolicyShelf, times: int = 1) -> None:
    for _ in range(times):
        await shelf.look()


def approve(office: Office, policy: Policy) -> None:
    proposal = office.shelf.propose(office.proposals, policy, reason="better", by=office.ada)
    office.proposals.approve(proposal.id, office.shelf.apply, by=office.bob)


def rewrite(office: Office, number: int, written: str) -> None:
    """Make a policy one that some replica cannot enforce, or one that it can again."""
    with office.database.write() as connection:
        connection.execute(text("UPDATE policies SET text = :t WHERE number = :n"), {"t": written, "n": number})


def test_a_replica_that_cannot_enforce_the_newest_policy_says_so_until_it_can(office: Office) -> None:
    office.shelf.open(MINE)
    approve(office, OTHER)
    rewrite(office, 2, "{version: 1, name: other, guards: {g: {kind: unheard-of}}}")
    asyncio.run(look(office.shelf))
    assert "unheard-of" in str(office.shelf.behind)
    rewrite(office, 2, OTHER.as_yaml())
    asyncio.run(look(office.shelf, RETRY_LOOKS - 1))
    assert office.shelf.current.policy == MINE
    asyncio.run(look(office.shelf))
    assert office.shelf.current.policy == OTHER
    assert office.shelf.behind is None


def test_a_policy_that_mends_one_which_failed_is_taken_at_the_next_look(office: Office) -> None:
    office.shelf.open(MINE)
    approve(office, OTHER)
    rewrite(office, 2, "{version: 1, name: other, guards: {g: {kind: unheard-of}}}")
    asyncio.run(look(office.shelf))
    rewrite(office, 2, OTHER.as_yaml())
    approve(office, default_policy())
    asyncio.run(look(office.shelf))
    assert office.shelf.current.policy == default_policy()
    assert office.shelf.behind is None


def test_a_store_that_does_not_answer_says_nothing_about_the_policy(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    office.shelf.open(MINE)
    with monkeypatch.context() as cut_off:

        def read() -> None:
            raise StoreError("nothing answers")

        cut_off.setattr(office.database, "read", read)
        asyncio.run(look(office.shelf))
    assert office.shelf.behind is None
    approve(office, OTHER)
    asyncio.run(look(office.shelf))
    assert office.shelf.current.policy == OTHER
