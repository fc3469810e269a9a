"""Overrides hold for what they name, for a while, and never for oneself."""

from __future__ import annotations

from datetime import timedelta

import pytest

from oversee.identity.house import House
from safetylayers.errors import AccessError
from safetylayers.oversee.identity.principal import Principal
from safetylayers.oversee.review.overrides import Override, Overrides, Verdict


@pytest.fixture
def overrides(house: House) -> Overrides:
    return Overrides(house.database, house.log, clock=house.clock)


@pytest.fixture
def olga(house: House) -> Principal:
    return house.principal("olga", "operator")


def found(
    overrides: Overrides, request: str = "r1", conversation: str | None = None, who: str = "carl"
) -> Override | None:
    return overrides.find(request=request, conversation=conversation, asked_by=who)


def test_an_override_holds_for_its_request(house: House, overrides: Overrides, olga: Principal) -> None:
    added = overrides.add(Verdict.ALLOW, request="r1", asked_by="carl", by=olga, reason="a false alarm")
    assert found(overrides) == added
    assert found(overrides, "r2") is None
    (entry,) = house.logged("override-set")
    assert (entry.actor, entry.payload) == (olga.actor, {"reason": "a false alarm", "conversation": None})
    assert entry.facts["verdict"] == "allow"


def test_a_conversation_of_the_same_name_is_another_persons(overrides: Overrides, olga: Principal) -> None:
    added = overrides.add(Verdict.ALLOW, conversation="talk", asked_by="carl", by=olga, reason="a false alarm")
    assert found(overrides, "r7", "talk") == added
    assert found(overrides, "r7", "talk", "eve") is None
    assert found(overrides, "r7", None) is None


def test_what_blocks_wins(overrides: Overrides, olga: Principal) -> None:
    block = overrides.add(Verdict.BLOCK, conversation="talk", asked_by="carl", by=olga, reason="no more")
    overrides.add(Verdict.ALLOW, request="r1", asked_by="carl", by=olga, reason="a false alarm")
    assert found(overrides, "r1", "talk") == block


def test_an_override_expires_on_time_although_it_is_cached(house: House, olga: Principal) -> None:
    overrides = Overrides(house.database, house.log, clock=house.clock, cached_s=1000)
    overrides.add(Verdict.ALLOW, request="r1", asked_by="carl", by=olga, reason="a false alarm")
    house.clock.forward(minutes=59)
    assert found(overrides)
    house.clock.forward(minutes=1)
    assert found(overrides) is None


def test_an_override_is_lifted(house: House, overrides: Overrides, olga: Principal) -> None:
    added = overrides.add(Verdict.ALLOW, request="r1", asked_by="carl", by=olga, reason="a false alarm")
    for _ in range(2):
        overrides.lift(added.id, by=olga)
    assert found(overrides) is None
    assert len(house.logged("override-lifted")) == 1


def test_nobody_overrides_for_themselves(overrides: Overrides, olga: Principal) -> None:
    with pytest.raises(AccessError, match="their own"):
        overrides.add(Verdict.ALLOW, request="r1", asked_by=olga.person, by=olga, reason="let me")


def test_overriding_takes_the_right(house: House, overrides: Overrides) -> None:
    for role in ("caller", "reviewer", "admin", "auditor"):
        other = house.principal(role, role)
        with pytest.raises(AccessError, match="override"):
            overrides.add(Verdict.ALLOW, request="r1", asked_by="carl", by=other, reason="let them")
        with pytest.raises(AccessError, match="override"):
            overrides.lift("any", by=other)


@pytest.mark.parametrize(
    "odd",
    [
        {"reason": " "},
        {"life": timedelta(0)},
        {"request": None},
        {"conversation": "talk"},
        {"request": ""},
        {"request": "a\0b"},
        {"reason": "a\0b"},
    ],
)
def test_odd_overrides_are_refused(overrides: Overrides, olga: Principal, odd: dict[str, object]) -> None:
    usual = {"request": "r1", "asked_by": "carl", "by": olga, "reason": "a false alarm"}
    with pytest.raises(AccessError):
        overrides.add(Verdict.ALLOW, **{**usual, **odd})  # type: ignore[arg-type]
    assert overrides.active() == []


def test_another_replica_sees_an_override_when_its_cache_is_over(house: House, olga: Principal) -> None:
    here, there = (
        Overrides(house.database, house.log, clock=house.clock, cached_s=seconds) for seconds in (1000, 1000)
    )
    assert found(there) is None
    here.add(Verdict.BLOCK, request="r1", asked_by="carl", by=olga, reason="no more")
    assert found(there) is None
    fresh = Overrides(house.database, house.log, clock=house.clock, cached_s=0)
    assert found(fresh) is not None


def test_a_busy_gateway_does_not_ask_the_database_each_time(
    house: House, olga: Principal, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = Overrides(house.database, house.log, clock=house.clock, cached_s=1000)
    added = overrides.add(Verdict.BLOCK, request="r1", asked_by="carl", by=olga, reason="no more")
    assert found(overrides) == added
    monkeypatch.setattr(house.database, "read", lambda: pytest.fail("asked the database"))
    assert found(overrides) == added
