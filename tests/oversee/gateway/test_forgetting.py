"""What the policy says to forget is forgotten, in the log and beside it, a bit at a time."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from safetylayers.oversee.audit import removal
from safetylayers.oversee.audit.entry import Entry
from safetylayers.oversee.gateway import housekeeping
from safetylayers.oversee.gateway.forgetting import days_ago, forget_before, forget_subject
from safetylayers.oversee.gateway.house import House
from safetylayers.oversee.gateway.site import Site
from safetylayers.oversee.identity.principal import MACHINE, Principal
from safetylayers.oversee.identity.proposals import Kind
from safetylayers.oversee.identity.roles import Role


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    opened = Site.open(tmp_path)
    yield opened
    opened.close()


def person(site: Site, name: str) -> Principal:
    made = site.people.create(name, "four unrelated short words", [Role.ADMIN, Role.OPERATOR], by=MACHINE)
    return Principal(id=f"session-{name}", person=made.id, name=name, roles=made.roles)


def proposals(site: Site) -> list[tuple[str, str | None]]:
    with site.database.read() as connection:
        rows = connection.exec_driver_sql("SELECT reason, remark FROM proposals ORDER BY created").all()
    return [(row.reason, row.remark) for row in rows]


def test_a_person_who_is_forgotten_takes_their_own_reasons_along(site: Site) -> None:
    ada, bob = person(site, "ada"), person(site, "bob")
    closed = site.proposals.propose(Kind.MODE, {"mode": "run", "epoch": 1}, reason="ada says", by=ada)
    site.proposals.reject(closed.id, by=bob, remark="bob says")
    site.proposals.propose(Kind.MODE, {"mode": "run", "epoch": 1}, reason="ada proposes", by=ada)
    assert forget_subject(site, ada.person, actor="machine").reasons == 1
    assert proposals(site) == [("", "bob says"), ("ada proposes", None)]
    assert forget_subject(site, bob.person, actor="machine").reasons == 1
    assert proposals(site) == [("", None), ("ada proposes", None)]
    assert [entry.facts for entry in site.log.read(kinds=["reasons-erased"])] == [{"count": 1}] * 2


def test_reasons_of_what_is_over_grow_old_as_well(site: Site) -> None:
    ada, bob = person(site, "ada"), person(site, "bob")
    closed = site.proposals.propose(Kind.MODE, {"mode": "run", "epoch": 1}, reason="ada says", by=ada)
    site.proposals.reject(closed.id, by=bob, remark="bob says")
    assert forget_before(site, datetime.now(UTC) - timedelta(days=1), actor="machine").reasons == 0
    assert forget_before(site, datetime.now(UTC) + timedelta(days=1), actor="machine").reasons == 2
    assert proposals(site) == [("", None)]


def test_a_round_of_forgetting_ends_soon_and_is_gone_on_with(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(removal, "PIECE", 3)
    monkeypatch.setattr(housekeeping, "PIECES", 2)
    monkeypatch.setattr(housekeeping, "days_ago", lambda _: datetime.now(UTC) + timedelta(hours=1))
    with site.database.write() as connection:
        site.log.append_in(connection, [Entry(kind="request", actor="a", payload={"text": "x"})] * 8)
    policy = SimpleNamespace(keep_days=1)
    shelf = SimpleNamespace(current=SimpleNamespace(policy=policy))
    house = cast("House", SimpleNamespace(shelf=shelf, site=site, log=site.log, actor="replica:one"))
    assert [housekeeping.forget(house) for _ in range(3)] == [True, True, False]
    assert {entry.state for entry in site.log.read(kinds=["request"])} == {"erased"}
    policy.keep_days = None
    assert housekeeping.forget(house) is False


@pytest.mark.parametrize("days", [1, 36_500, 10**12])
def test_no_length_of_time_is_too_long_to_count_back(days: int) -> None:
    assert days_ago(days).year > 1900
